"""Readers: good files come out as they went in, bad ones get one clear sentence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.data.imageset import RawData
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.data.pixels import value_range
from fovea.data.readers import idx
from fovea.data.tree import file_tree
from fovea.errors import DataError, SettingsError
from tests.data.formats import Arrays, idx_bytes, write_idx


def read_idx(path: Path) -> np.ndarray:
    return idx.read_idx(file_tree(path), path.name)


def read_folder(path: Path, size: tuple[int, int] | None) -> RawData:
    return read_raw(path, ReadOptions(image_size=size))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", ["{part}-{kind}-idx{axes}-ubyte", "{part}-{kind}.idx{axes}-ubyte"])
def test_mnists_four_files_are_read_in_both_namings(tmp_path: Path, toy: Arrays, names: str, packed: bool) -> None:
    write_idx(tmp_path / "set", toy, names, packed)
    raw = read_raw(str(tmp_path / "set"))
    assert sorted(raw.parts) == ["test", "train"]
    for part in raw.parts.values():
        assert np.array_equal(part.images, toy[0])
        assert np.array_equal(part.labels, toy[1])


@pytest.mark.parametrize(("code", "dtype"), [(9, np.int8), (11, np.int16), (12, np.int32), (13, np.float32)])
def test_every_idx_type_is_read(tmp_path: Path, code: int, dtype: type) -> None:
    values = np.array([[1, -2], [3, 100]], dtype)
    (tmp_path / "file").write_bytes(idx_bytes(values, code))
    assert np.array_equal(read_idx(tmp_path / "file"), values)


def damage(content: bytes) -> dict[str, bytes]:
    return {
        "is no IDX file": b"\x89PNG" + content[4:],
        "cut short inside its header": content[:9],
        "holds only": content[:-1],
        "holds more": content + b"x",
        "far more than a file of its size": content[:4] + b"\xff" * 12 + content[16:],
    }


@pytest.mark.parametrize("words", list(damage(b"")))
def test_a_damaged_idx_file_is_named_with_the_reason(tmp_path: Path, toy: Arrays, words: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(idx_bytes(toy[0]))[words])
    with pytest.raises(DataError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_a_torn_gzip_file_is_named(tmp_path: Path, toy: Arrays) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_bytes(toy[0]))[:-20])
    with pytest.raises(DataError, match=r"x\.gz cannot be read.*complete"):
        read_idx(path)


def test_missing_or_unequal_idx_files_are_named(tmp_path: Path, toy: Arrays) -> None:
    write_idx(tmp_path / "set", toy)
    (tmp_path / "set" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte but not the labels"):
        read_raw(tmp_path / "set")
    (tmp_path / "set" / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "set" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(toy[1][:-1].astype(np.uint8)))
    with pytest.raises(DataError, match="150 images but 149 labels"):
        read_raw(tmp_path / "set")


def test_keras_archives_are_read_labels_as_columns_too(tmp_path: Path, toy: Arrays) -> None:
    np.savez(tmp_path / "a.npz", x_train=toy[0], y_train=toy[1][:, None], x_test=toy[0][:9], y_test=toy[1][:9])
    raw = read_raw(str(tmp_path / "a.npz"))
    assert np.array_equal(raw.parts["train"].images, toy[0])
    assert len(raw.parts["test"].labels) == 9


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": np.zeros(3)}, "holds the arrays pictures: expected x_train and y_train"),
        ({"x_train": np.array([object()] * 3), "y_train": np.zeros(3)}, "Python objects, which are never loaded"),
        ({"x_train": np.zeros((3, 4, 4)), "y_train": np.zeros(2)}, "3 images but 2 labels"),
    ],
)
def test_an_archive_of_another_content_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read_raw(tmp_path / "a.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match=r"a\.npz cannot be read"):
        read_raw(tmp_path / "a.npz")


def paint(path: Path, value: int, size: tuple[int, int] = (9, 7), mode: str = "L", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in {"L", "I;16"} else (value, 0, 0)
    Image.new(mode, size, colour).save(path, **options)


def test_one_folder_a_class_in_natural_order_junk_left_out(tmp_path: Path) -> None:
    for name in ("2", "10", "1"):
        for number in range(2):
            paint(tmp_path / "set" / name / f"{number}.png", int(name) * 20)
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "__MACOSX").mkdir()
    (tmp_path / "set" / "1" / "Thumbs.db").write_text("junk")
    raw = read_raw(str(tmp_path / "set"))
    assert raw.classes == ("1", "2", "10")
    train = raw.parts["train"]
    assert train.images.shape == (6, 7, 9, 1)
    assert [int(image.mean()) for image in train.images] == [int(label) * 20 for label in train.labels]
    assert "10/0.png" in train.ids


def test_split_folders_become_parts(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("cat", "dog"):
            paint(tmp_path / "set" / split / name / "a.jpg", 100, mode="RGB")
    raw = read_raw(str(tmp_path / "set"))
    assert sorted(raw.parts) == ["test", "train", "val"]
    assert raw.parts["val"].images.shape == (2, 7, 9, 3)


def test_images_of_unequal_size_are_resized_and_said_so(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "a" / "1.png", 50, (20, 30))
    paint(tmp_path / "set" / "b" / "1.png", 60, (40, 30))
    raw = read_folder(tmp_path / "set", None)
    assert raw.parts["train"].images.shape == (2, 64, 64, 1)
    assert "resized to 64x64" in raw.notes[0]
    small = read_folder(tmp_path / "set", (16, 12))
    assert small.parts["train"].images.shape == (2, 16, 12, 1)
    assert small.notes == []


def test_palette_alpha_16_bit_and_rotated_images_come_out_right(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "a"
    paint(folder / "1.png", 200, mode="RGB")
    Image.new("RGB", (9, 7), (200, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "2.png")
    Image.new("RGBA", (9, 7), (200, 0, 0, 255)).save(folder / "3.png")
    Image.new("RGBA", (9, 7), (0, 0, 0, 0)).save(folder / "4.png")
    Image.fromarray(np.full((7, 9), 200 * 257, np.uint16)).save(folder / "5.png")
    turned = Image.new("RGB", (7, 9), (200, 0, 0))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "6.jpg", exif=exif, quality=100)
    paint(tmp_path / "set" / "b" / "1.png", 200, mode="RGB")
    images = read_folder(tmp_path / "set", None).parts["train"].images.astype(int)
    assert images.shape == (7, 7, 9, 3)
    for row in (0, 1, 2, 5, 6):
        assert np.abs(images[row] - [200, 0, 0]).max() <= 3, row
    assert (images[3] == 255).all()  # transparent: white
    assert (images[4] == 200).all()  # 16-bit grey


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100], [200, 250]], np.uint16) * 4, (0.0, 1000.0)),
        (np.array([[0, 0.1], [0.2, 0.5]], np.float32), (0.0, 1.0)),
    ],
    ids=["16-bit", "float"],
)
def test_deep_images_keep_their_values_until_one_range_maps_them(
    tmp_path: Path, values: np.ndarray, expected: tuple[float, float]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "set" / name / "1.tif")
    images = read_folder(tmp_path / "set", None).parts["train"].images
    assert np.array_equal(images[0, ..., 0], values)
    assert value_range(images) == expected


def test_folders_called_test_that_hold_images_are_classes(tmp_path: Path) -> None:
    for name in ("control", "test"):
        paint(tmp_path / "set" / name / "1.png", 9)
    assert read_raw(str(tmp_path / "set")).classes == ("control", "test")
    for split in ("train", "val", "valid"):
        paint(tmp_path / "other" / split / "a" / "1.png", 9)
    with pytest.raises(DataError, match="two folders for the val split: val and valid"):
        read_raw(str(tmp_path / "other"))


def test_pipes_and_folders_with_image_names_are_no_images(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "a" / "1.png", 9)
    paint(tmp_path / "set" / "b" / "1.png", 9)
    (tmp_path / "set" / "b" / "odd.png").mkdir()
    os.mkfifo(tmp_path / "set" / "a" / "pipe.png")
    assert read_raw(str(tmp_path / "set")).parts["train"].ids.tolist() == ["a/1.png", "b/1.png"]
    (tmp_path / "set" / "a" / "link.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"link\.png"):
        read_raw(str(tmp_path / "set"))


@pytest.mark.parametrize("source", ["~nosuchuser/x", "x/" + "y" * 300])
def test_a_place_that_cannot_be_looked_at_is_named(source: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        read_raw(source)


def test_what_keras_load_data_returns_is_taken(toy: Arrays) -> None:
    raw = read_raw((toy, (toy[0][:9], toy[1][:9])))
    assert {part: len(found.labels) for part, found in raw.parts.items()} == {"train": 150, "test": 9}
    with pytest.raises(DataError, match=r"a pair \(images, labels\), or two, \(\(x_train"):
        read_raw((*toy, *toy))


def test_tensors_are_taken_gradients_or_not(toy: Arrays) -> None:
    images = torch.from_numpy(toy[0]).float().requires_grad_()
    assert np.array_equal(read_raw((images, torch.from_numpy(toy[1]))).parts["train"].images, toy[0])


def test_every_bad_image_is_listed(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "a" / "good.png", 1)
    (tmp_path / "set" / "a" / "empty.png").write_bytes(b"")
    content = (tmp_path / "set" / "a" / "good.png").read_bytes()
    (tmp_path / "set" / "a" / "torn.png").write_bytes(content[:45])
    paint(tmp_path / "set" / "b" / "good.png", 1)
    (tmp_path / "set" / "b" / "fake.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path / "set", None)
    for name in ("empty.png", "fake.jpg"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "class folder c, which the train folder lacks"),
        (["val/a/1.png"], "no train folder"),
        (["a/1.png", "b/note.txt"], "No images in the class folder b"),
        (["a/1.png", "b/2.png", "c/"], "No images in the class folder c"),
        (["train/a/1.png", "train/b/2.png", "train/c/"], "No images in the class folder c"),
        (["1.png"], "images \\(1\\) but no class folders"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        if name.endswith(".png"):
            paint(tmp_path / "set" / name, 1)
        elif name.endswith("/"):
            (tmp_path / "set" / name).mkdir(parents=True)
        else:
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / name).write_text("x")
    with pytest.raises(DataError, match=words):
        read_raw(str(tmp_path / "set"))


def test_a_missing_path_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_raw("./nowhere")
    with pytest.raises(SettingsError, match="Did you mean 'mnist'"):
        read_raw("minst")
    with pytest.raises(DataError, match="type int"):
        read_raw(3)


def test_a_named_set_that_is_not_there_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_DATA", str(tmp_path / "here"))
    with pytest.raises(DataError, match=r"FOVEA_OFFLINE is set. It was looked for in .*here, .*cache/fovea"):
        read_raw("mnist")


def test_a_named_set_is_found_as_idx_and_as_npz(tmp_path: Path, toy: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_DATA", str(tmp_path))
    np.savez(tmp_path / "fashion-mnist.npz", x_train=toy[0], y_train=toy[1])
    raw = read_raw("fashion-mnist")
    assert raw.classes is not None
    assert raw.classes[9] == "Ankle boot"
    write_idx(tmp_path / "mnist", toy)
    assert read_raw("mnist").form == "IDX files"


def test_a_folder_that_bears_a_catalog_name_must_be_told_apart(tmp_path: Path, toy: Arrays) -> None:
    write_idx(tmp_path / "mnist", toy)
    with pytest.raises(DataError, match=r"both a data set of the catalog and a folder here: write \./mnist"):
        read_raw("mnist")
    assert len(read_raw("./mnist").parts["train"].labels) == 150


def test_the_real_mnist_is_whole(real_data: Path) -> None:
    raw = read_raw("mnist")
    assert {part: found.images.shape for part, found in raw.parts.items()} == {
        "train": (60000, 28, 28),
        "test": (10000, 28, 28),
    }
    assert np.bincount(raw.parts["train"].labels).tolist()[:3] == [5923, 6742, 5958]


def test_the_embedded_digits_need_no_file() -> None:
    raw = read_raw("digits")
    assert raw.parts["train"].images.shape == (1797, 8, 8)
    assert raw.kind == "characters"
