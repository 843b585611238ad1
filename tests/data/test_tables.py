"""CSV files: pixels with the label first, last or absent, and paths with labels."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fovea.data.csv_text import parse_digits
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.data.prepare import encode_parts
from fovea.data.readers.pixel_layout import layout_of
from fovea.errors import DataError, SettingsError
from tests.data.formats import Arrays, colour, pixel_table, write_class_folders


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("label", ["first", "last"])
def test_the_label_may_stand_first_or_last_with_or_without_header(
    tmp_path: Path, toy: Arrays, label: str, header: bool, delimiter: str
) -> None:
    path = write(tmp_path / "t.csv", pixel_table(toy, label, header, delimiter))
    train = read_raw(path).parts["train"]
    assert np.array_equal(train.images, toy[0])
    assert np.array_equal(train.labels, toy[1])


@pytest.mark.parametrize("header", [True, False])
def test_a_table_without_labels_can_be_read_but_not_trained_on(tmp_path: Path, toy: Arrays, header: bool) -> None:
    raw = read_raw(write(tmp_path / "t.csv", pixel_table(toy, None, header)))
    assert raw.parts["train"].labels is None
    assert np.array_equal(raw.parts["train"].images, toy[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\n\n"),
        lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()),
        lambda text: "\n".join(",".join(f" {cell} " for cell in line.split(",")) for line in text.splitlines()),
        lambda text: "\n".join(
            line if line.startswith("label") else ",".join(f"{cell}.0" for cell in line.split(","))
            for line in text.splitlines()
        ),
    ],
    ids=["byte order mark", "CRLF", "no last line end", "empty lines", "blank lines", "quotes", "spaces", "decimals"],
)
def test_the_ways_in_which_programs_write_tables_make_no_difference(tmp_path: Path, toy: Arrays, change) -> None:  # type: ignore[no-untyped-def]
    train = read_raw(write(tmp_path / "t.csv", change(pixel_table(toy)))).parts["train"]
    assert train.images.dtype == np.uint8
    assert np.array_equal(train.images, toy[0])
    assert np.array_equal(train.labels, toy[1])


def test_a_gzipped_table_and_one_of_another_name_are_known_by_their_content(tmp_path: Path, toy: Arrays) -> None:
    for name, content in (("t.csv.gz", gzip.compress(pixel_table(toy).encode())), ("t.data", pixel_table(toy))):
        assert np.array_equal(read_raw(write(tmp_path / name, content)).parts["train"].images, toy[0])


def test_labels_may_be_words_and_index_columns_are_no_pixels(tmp_path: Path, toy: Arrays) -> None:
    lines = pixel_table(toy).splitlines()
    names = ["zero", "one", "two"]
    rows = [f"{i},{names[int(line[0])]},{line[2:]}" for i, line in enumerate(lines[1:])]
    header = "Unnamed: 0,species," + lines[0].removeprefix("label,")
    train = read_raw(write(tmp_path / "t.csv", "\n".join([header, *rows]))).parts["train"]
    assert np.array_equal(train.images, toy[0])
    assert train.labels.tolist() == [names[label] for label in toy[1]]


def test_fractions_stay_fractions(tmp_path: Path, toy: Arrays) -> None:
    images = (toy[0] / 255).round(6)
    text = "\n".join(f"{label}," + ",".join(map(str, row.ravel())) for label, row in zip(toy[1], images, strict=True))
    train = read_raw(write(tmp_path / "t.csv", text)).parts["train"]
    assert train.images.dtype == np.float32
    assert np.allclose(train.images, images)


@pytest.mark.parametrize("planes", [True, False])
def test_colour_is_told_by_its_smoothness(tmp_path: Path, planes: bool) -> None:
    images, labels = colour()
    stored = images.transpose(0, 3, 1, 2) if planes else images
    raw = read_raw(write(tmp_path / "t.csv", pixel_table((stored.reshape(len(images), -1), labels))))
    assert np.array_equal(raw.parts["train"].images, images)
    assert ("plane by plane" if planes else "pixel by pixel") in raw.notes[0]


@pytest.mark.parametrize("planes", [True, False])
@pytest.mark.parametrize("tint", [0, 3])
def test_the_layout_is_told_of_hardly_coloured_images_and_of_a_single_one(tint: int, planes: bool) -> None:
    rows, columns = np.mgrid[:32, :32]
    grey = 128 + 60 * np.sin(rows / 3) * np.cos(columns / 4) + np.random.default_rng(0).normal(0, 6, (32, 32))
    image = (grey[..., None] + np.array([0, tint, -tint])).astype(np.uint8)
    stored = image.transpose(2, 0, 1) if planes else image
    assert layout_of(stored.reshape(1, -1), None, "a table").by_plane == planes


def test_columns_called_by_row_and_column_need_not_make_a_square(tmp_path: Path) -> None:
    images = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)
    names = [f"{row}x{column}" for row in range(1, 5) for column in range(1, 7)]
    rows = [",".join([str(i), *image.ravel().astype(str)]) for i, image in enumerate(images)]
    raw = read_raw(write(tmp_path / "t.csv", "\n".join([",".join(["label", *names]), *rows])))
    assert np.array_equal(raw.parts["train"].images, images)


def test_the_label_column_can_be_named_or_numbered(tmp_path: Path, toy: Arrays) -> None:
    path = write(tmp_path / "t.csv", pixel_table(toy, "last").replace("label", "pixel64"))
    for wanted in ("pixel64", 64, -1):
        assert np.array_equal(read_raw(path, ReadOptions(label_column=wanted)).parts["train"].labels, toy[1])
    for wanted in ("nothing", 65):
        with pytest.raises(SettingsError, match="is no column of"):
            read_raw(path, ReadOptions(label_column=wanted))


def edited(text: str, line: int, change: str) -> str:
    lines = text.splitlines()
    lines[line - 1] = change if change.startswith("=") else lines[line - 1] + change
    return "\n".join(lines).replace("\n=", "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: edited(text, 7, ",9"), "line 7: 66 cells, expected 65"),
        (lambda text: text[: len(text) - 20], "line 151: .* cells, expected 65"),
        (lambda text: edited(text, 3, "x"), r"line 3, column 65: '\d+x' is no pixel value of 0 to 255"),
        (lambda text: edited(text, 3, "_0"), r"line 3, column 65: '\d+_0' is no pixel value of 0 to 255"),
        (lambda text: edited(text, 3, "00"), r"line 3, column 65: '\d+00' is no pixel value of 0 to 255"),
        (lambda text: text.replace("\n0,", "\n0,nan,", 1).replace(",0\n", "\n"), "line 2"),
        (lambda text: edited(text, 5, "9" * 100_000), r"line 5, column 65: '\d{40}'\.\.\. is a cell of 100,00\d"),
        (lambda text: text.splitlines()[0], "holds no line of data"),
        (lambda text: "", "holds no line of data"),
        (lambda text: "\n\n\n", "is no table of images"),
        (lambda text: text.replace("\n", "\r"), "line ends of CR alone"),
        (lambda text: text.replace("pixel3,", "", 1), "line 2: 65 cells, expected 64"),
    ],
    ids=[
        "more",
        "cut",
        "word",
        "underscore",
        "over",
        "nan",
        "long",
        "header",
        "empty",
        "blank",
        "old Macintosh",
        "short header",
    ],
)
def test_a_bad_table_is_named_with_line_and_column(tmp_path: Path, toy: Arrays, change, words: str) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "bad.csv", change(pixel_table(toy)))
    with pytest.raises(DataError, match=words) as caught:
        read_raw(path)
    assert "bad.csv" in str(caught.value)


def test_a_number_of_columns_that_makes_no_image_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "label," + ",".join(f"pixel{i}" for i in range(783)) + "\n" + "1," * 783 + "1\n")
    with pytest.raises(DataError, match="783 pixel columns, which make no square image"):
        read_raw(path)


@given(st.lists(st.lists(st.integers(0, 999_999_999), min_size=3, max_size=3), min_size=1, max_size=40))
def test_blocks_of_digits_are_parsed_as_the_csv_module_does(rows: list[list[int]]) -> None:
    text = "\n".join(",".join(map(str, row)) for row in rows) + "\n"
    parsed = parse_digits(text.encode(), ",", 3)
    assert parsed is not None
    assert parsed.tolist() == [[int(cell) for cell in row] for row in csv.reader(io.StringIO(text))]


@given(st.text(alphabet="0123456789,\n\r x.-", max_size=60))
def test_a_block_is_parsed_right_or_not_at_all(text: str) -> None:
    parsed = parse_digits((text + "\n").encode(), ",", 2)
    if parsed is not None:
        lines = (text + "\n").replace("\r", "").split("\n")[:-1]
        assert parsed.tolist() == [[int(cell) for cell in line.split(",")] for line in lines]


@pytest.mark.parametrize("names", ["label,{0}", ",label,{0}", "{0},label"])
def test_columns_that_pandas_numbered_are_a_header(tmp_path: Path, toy: Arrays, names: str) -> None:
    lines = pixel_table(toy, "last" if names.endswith("label") else "first", header=False).splitlines()
    if names.startswith(","):
        lines = [f"{i},{line}" for i, line in enumerate(lines)]
    header = names.format(",".join(map(str, range(64))))
    train = read_raw(write(tmp_path / "t.csv", "\n".join([header, *lines]))).parts["train"]
    assert np.array_equal(train.images, toy[0])
    assert np.array_equal(train.labels, toy[1])


def test_a_label_is_the_same_in_whatever_block_of_the_file_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.data.csv_text.BLOCK_BYTES", 200)
    labels = ["7", "007", "7.0", "cat"] * 20
    rows = [f"{label},1,2,3,4" for label in labels]
    train = read_raw(write(tmp_path / "t.csv", "\n".join(["label,p1,p2,p3,p4", *rows]))).parts["train"]
    assert sorted(set(train.labels.tolist())) == ["7", "cat"]


def test_large_numbers_as_labels_stay_apart(tmp_path: Path) -> None:
    rows = [f"{label},1,2,3,4" for label in (999999999999999999, 999999999999999998) * 4]
    train = read_raw(write(tmp_path / "t.csv", "\n".join(["label,p1,p2,p3,p4", *rows]))).parts["train"]
    assert len(set(train.labels.tolist())) == 2


def test_the_label_of_binary_images_without_a_header_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 2, (200, 8, 8), dtype=np.uint8), rng.integers(0, 10, 200)
    train = read_raw(write(tmp_path / "t.csv", pixel_table((images, labels), "first", header=False))).parts["train"]
    assert np.array_equal(train.labels, labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,p1,p2,p3,p4\n" + "x" * 100_000 + ",1,2,3,4\n", r"line 2, column 1: 'x{40}'\.\.\. is a cell of 100,000"),
        (",".join(["1"] * 400_000) + "\n", "400,000 columns, over the limit"),
    ],
)
def test_cells_and_lines_without_end_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_raw(write(tmp_path / "t.csv", text))


def test_what_is_no_utf8_is_refused_before_it_makes_two_classes_one(tmp_path: Path) -> None:
    rows = ["label,p1,p2,p3,p4", "1,1,2,3,4", "Fr\u00f6sche,1,2,3,4", "Fr\u00e4sche,1,2,3,4"]
    path = write(tmp_path / "t.csv", "\n".join(rows).encode("cp1252"))
    with pytest.raises(DataError, match=r"t\.csv, line 3, byte 3: 0xF6 is no UTF-8: save the table as UTF-8"):
        read_raw(path)
    assert set(read_raw(write(path, "\n".join(rows))).parts["train"].labels.tolist()) == {
        "1",
        "Fr\u00f6sche",
        "Fr\u00e4sche",
    }
    with pytest.raises(DataError, match=r"line 1, byte 3: 0xF6"):
        read_raw(write(path, "kl\u00f6,p1,p2,p3,p4\n1,1,2,3,4\n2,1,2,3,4".encode("cp1252")))


# --- tables of paths -------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, toy: Arrays) -> Path:
    """A folder `pictures` of files called by their row."""
    for row, image in enumerate(toy[0][:30]):
        path = tmp_path / "set" / "pictures" / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "set"


def listed(toy: Arrays, header: str = "path,label\n") -> str:
    return header + "".join(f"pictures/{row:03d}.png,kind {label}\n" for row, label in enumerate(toy[1][:30]))


@pytest.mark.parametrize("header", ["path,label\n", "file_name,class\n", "", "image;category\n"])
def test_paths_are_relative_to_their_table(pictures: Path, toy: Arrays, header: str) -> None:
    text = listed(toy, header)
    write(pictures / "labels.csv", text.replace(",", ";") if ";" in header else text)
    for source in (pictures / "labels.csv", pictures):
        train = read_raw(source).parts["train"]
        assert np.array_equal(train.images[:][..., 0], toy[0][:30])
        assert train.labels.tolist() == [f"kind {label}" for label in toy[1][:30]]
        assert train.ids[3] == "pictures/003.png"


def test_an_example_of_a_submission_is_no_table_of_the_data(pictures: Path, toy: Arrays) -> None:
    write(pictures / "train.csv", listed(toy))
    write(pictures / "sample_submission.csv", "id,label\nhidden/001.png,kind 0\nhidden/002.png,kind 0\n")
    assert len(read_raw(pictures).parts["train"].images) == 30
    (pictures / "train.csv").unlink()
    for row, label in enumerate(toy[1][:30]):  # nor beside class folders
        folder = pictures / "pictures" / f"kind {label}"
        folder.mkdir(exist_ok=True)
        (pictures / "pictures" / f"{row:03d}.png").rename(folder / f"{row:03d}.png")
    shutil.move(pictures / "pictures", pictures / "train")
    assert read_raw(pictures).form == "image folder"


def test_a_split_column_makes_parts(pictures: Path, toy: Arrays) -> None:
    lines = [
        f"pictures/{i:03d}.png,{y},{['train', 'valid', 'test'][i // 10]}" for i, y in enumerate(toy[1][:30].tolist())
    ]
    write(pictures / "all.csv", "\n".join(["image,label,split", *lines[20:], *lines[:20]]))
    raw = read_raw(pictures / "all.csv")
    for part, rows in (("train", range(10)), ("val", range(10, 20)), ("test", range(20, 30))):
        assert np.array_equal(np.asarray(raw.parts[part].images)[..., 0], toy[0][rows.start : rows.stop])
        assert raw.parts[part].labels.tolist() == [str(toy[1][i]) for i in rows]


def test_paths_out_of_the_folder_need_a_permission(tmp_path: Path, pictures: Path, toy: Arrays) -> None:
    inner = pictures / "tables"
    for path in ("../pictures/001.png", str(pictures / "pictures" / "001.png"), "link/001.png"):
        (inner / "x").mkdir(parents=True, exist_ok=True)
        if not (inner / "link").exists():
            (inner / "link").symlink_to(pictures / "pictures")
        write(inner / "t.csv", f"path,label\n{path},a\n{path.replace('001', '002')},b\n")
        with pytest.raises(DataError, match=r"line 2: .*leads out of the table's folder"):
            read_raw(inner / "t.csv")
        allowed = read_raw(inner / "t.csv", ReadOptions(outside_paths=True)).parts["train"]
        assert np.array_equal(np.asarray(allowed.images)[..., 0], toy[0][1:3])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\npictures/000.png,a\nnowhere.png,b\n", "1 of the files .* line 3: nowhere.png"),
        (
            "path,label\npictures/000.png,a\npictures/000.png,b\n",
            "line 3: pictures/000.png is labelled 'b', but 'a' in",
        ),
        ("path,label\npictures/000.png,a\npictures/001.png,\n", "line 3: pictures/001.png has no label"),
        ("path,colour,size\npictures/000.png,a,1\n", "which of them is the label cannot be told"),
        ("path,label,split\npictures/000.png,a,other\n", "the split 'other' is none of train, val and test"),
        ("path,label\n\0,a\nx\0.png,b", "."),
    ],
)
def test_a_bad_table_of_paths_is_named_with_its_line(pictures: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=f"(?s){words}"):
        read_raw(write(pictures / "t.csv", text))


def test_a_folder_of_tables_is_read_by_their_names(tmp_path: Path, toy: Arrays) -> None:
    write(tmp_path / "set" / "mnist_train.csv", pixel_table(toy))
    write(tmp_path / "set" / "mnist_test.csv", pixel_table((toy[0][:9], toy[1][:9])))
    write(tmp_path / "set" / "sample_submission.csv", "ImageId,Label\n1,0\n")
    raw = read_raw(tmp_path / "set")
    assert {part: len(found.images) for part, found in raw.parts.items()} == {"train": 150, "test": 9}
    write(tmp_path / "set" / "mnist_test.csv", pixel_table(toy, None))
    raw = read_raw(tmp_path / "set")
    assert list(raw.parts) == ["train"]
    assert "mnist_test.csv has no labels" in raw.notes[0]
    write(tmp_path / "set" / "more.csv", pixel_table(toy))
    with pytest.raises(DataError, match="which is for training cannot be told"):
        read_raw(tmp_path / "set")


def test_folders_and_a_table_that_disagree_must_be_told_apart(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", (toy[0][:9], toy[1][:9]))
    write(tmp_path / "set" / "labels.csv", "path,label\na/000.png,x\nb/001.png,y\n")
    with pytest.raises(DataError, match="can be read in two ways"):
        read_raw(tmp_path / "set")
    assert read_raw(tmp_path / "set" / "labels.csv").parts["train"].labels.tolist() == ["x", "y"]
    write(tmp_path / "set" / "labels.csv", "path,label\na/000.png,a\nb/001.png,b\n")
    assert len(read_raw(tmp_path / "set").parts["train"].labels) == 9


def test_two_tables_must_not_name_the_same_part(pictures: Path) -> None:
    write(pictures / "train.csv", "path,label,split\npictures/000.png,a,train\npictures/001.png,b,test\n")
    write(pictures / "test.csv", "path,label\npictures/002.png,a\n")
    with pytest.raises(DataError, match=r"test\.csv names test images, and another table does so too"):
        read_raw(pictures)


def test_a_table_of_test_images_alone_trains_nothing(pictures: Path) -> None:
    write(pictures / "t.csv", "path,label,split\npictures/000.png,a,test\npictures/001.png,b,test\n")
    raw = read_raw(pictures / "t.csv")
    with pytest.raises(DataError, match="has no training images, only test images"):
        encode_parts(raw)


def test_paths_written_on_windows_are_found(pictures: Path, toy: Arrays) -> None:
    write(pictures / "t.csv", "path,label\npictures\\000.png,a\npictures\\001.png,b\n")
    assert np.array_equal(np.asarray(read_raw(pictures / "t.csv").parts["train"].images)[..., 0], toy[0][:2])
