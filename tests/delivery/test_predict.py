"""fovea predict: every kind of input, the rows that are written, submissions, and what goes wrong."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

import fovea
from fovea.cli import app
from fovea.data.load import read_raw
from fovea.data.new_images import fit_new_images
from fovea.data.options import ReadOptions
from fovea.delivery import array_inputs
from fovea.delivery.image_inputs import Reading
from fovea.delivery.inputs import opened_sources
from fovea.delivery.predict import Wanted, predict_to
from fovea.delivery.predictor import Predictor, load_model
from tests.conftest import bars
from tests.data.formats import idx_bytes, pixel_table, write_idx

NAMES = ("gut", "kratzer", "Öse ü")


def shell(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments], input=stdin)


def rows_of(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout, newline="")))


def save_images(folder: Path, images: NDArray[Any], suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row}{suffix}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of 8x8 grey images, trained for a second on a folder of PNG files."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = bars(150)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / NAMES[label] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    out = tmp_path_factory.mktemp("runs")
    return fovea.train(str(folder), epochs=6, threads=1, out=out, report=False, verbose=False, augmentation="none").path


@pytest.fixture
def model(run: Path) -> Predictor:
    return load_model(run)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return bars(30, seed=7)[0]


@pytest.fixture
def expected(model: Predictor, images: NDArray[np.uint8]) -> list[str]:
    return model.predict(images).names


# --- what INPUT can be -----------------------------------------------------------------------------------------------


def test_the_files_of_the_test_split_are_answered_as_after_the_training(run: Path) -> None:
    stored = fovea.load_run(run).predictions("test")
    photos = Path(fovea.load_run(run).recipe.data.source)
    found = rows_of(shell(str(run), *(str(photos / name) for name in stored.ids)))
    shares = stored.probabilities.max(axis=1)
    assert [row["label"] for row in found] == stored.names
    assert [float(row["probability"]) for row in found] == pytest.approx(shares.tolist(), abs=1e-5)
    assert [row["id"] for row in found] == [str(photos / name) for name in stored.ids]


def test_a_folder_is_answered_to_any_depth_in_natural_order(run: Path, images: NDArray[np.uint8]) -> None:
    save_images(Path("new"), images[:11])
    save_images(Path("new/deep/er"), images[11:13])
    Path("new/notes.txt").write_text("no image")
    result = shell(str(run), "new")
    ids = [row["id"] for row in rows_of(result)]
    assert ids == [*(f"{row}.png" for row in range(11)), "deep/er/0.png", "deep/er/1.png"]
    assert "files that are no images were left out" in result.stderr


def _write_forms(images: NDArray[np.uint8]) -> dict[str, list[str]]:
    """Name of an input -> the ids that its answers should have."""
    count = len(images)
    labels = np.arange(count) % 3
    from_0, from_1 = [str(n) for n in range(count)], [str(n) for n in range(1, count + 1)]
    save_images(Path("folder"), images)
    with zipfile.ZipFile("folder.zip", "w") as archive:
        for path in Path("folder").iterdir():
            archive.write(path, f"a/{path.name}")
    np.save("array.npy", images)
    np.save("fortran.npy", np.asfortranarray(images))
    np.save("floats.npy", (images / 255).astype(np.float32))
    np.save("flat.npy", images.reshape(count, -1))
    np.savez("only.npz", images)
    np.savez("keras.npz", x_train=images[::-1], y_train=labels, x_test=images, y_test=labels)
    Path("t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    write_idx(Path("idx"), (images, labels))
    for name, label, header in (("plain", None, True), ("bare", None, False), ("labelled", "first", True)):
        Path(f"{name}.csv").write_text(pixel_table((images, labels), label=label, header=header))
    Path("last.csv").write_text(pixel_table((images, labels), label="last", header=False))
    lines = pixel_table((images, labels), label=None).splitlines()
    named = ["image_id," + lines[0], *(f"00{n},{line}" for n, line in enumerate(lines[1:]))]
    Path("named.csv").write_text("\n".join(named) + "\n")
    fractions = ["\n".join(",".join(f"{v / 255:.6f}" for v in image.ravel()) for image in images)]
    Path("fractions.csv").write_text(fractions[0] + "\n")
    Path("packed.csv.gz").write_bytes(gzip.compress(Path("plain.csv").read_bytes()))
    Path("paths.csv").write_text("file,label\n" + "".join(f"folder/{n}.png,\n" for n in range(count)))
    Path("list.txt").write_text("".join(f"folder/{n}.png\n" for n in range(count)))
    Path("kaggle").mkdir()
    Path("kaggle/train.csv").write_text(pixel_table((images[::-1], labels)))
    Path("kaggle/test.csv").write_text(pixel_table((images, labels), label=None))
    Path("kaggle/sample_submission.csv").write_text("ImageId,Label\n" + "".join(f"{n},0\n" for n in from_1))
    files = [f"{n}.png" for n in range(count)]
    paths = [f"folder/{name}" for name in files]
    return {
        "folder": files, "folder.zip": [f"a/{name}" for name in files], "array.npy": from_0, "fortran.npy": from_0,
        "floats.npy": from_0, "flat.npy": from_0, "only.npz": from_0, "keras.npz": from_0, "idx": from_0,
        "t10k-images-idx3-ubyte.gz": from_0, "plain.csv": from_1, "bare.csv": from_1, "labelled.csv": from_1,
        "last.csv": from_1, "named.csv": [f"00{n}" for n in range(count)], "fractions.csv": from_1,
        "packed.csv.gz": from_1, "paths.csv": paths, "list.txt": paths, "kaggle": from_1,
    }  # fmt: skip


def test_the_same_images_get_the_same_answers_in_every_form(
    run: Path, images: NDArray[np.uint8], expected: list[str]
) -> None:
    for name, ids in _write_forms(images).items():
        found = rows_of(shell(str(run), name))
        assert [row["label"] for row in found] == expected, name
        assert [row["id"] for row in found] == ids, name


def test_where_nothing_can_be_kept_stdin_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    result = shell(str(run), "-", stdin=b"x")
    assert result.exit_code == 1
    assert "could not be kept in a temporary folder: No usable temporary directory found" in result.stderr


@pytest.mark.parametrize("name", ["0.png", "array.npy", "keras.npz", "plain.csv"])
def test_stdin_is_told_by_its_content(run: Path, images: NDArray[np.uint8], expected: list[str], name: str) -> None:
    _write_forms(images)
    path = Path("folder/0.png") if name == "0.png" else Path(name)
    found = rows_of(shell(str(run), "-", stdin=path.read_bytes()))
    assert [row["label"] for row in found] == (expected[:1] if name == "0.png" else expected)
    assert name != "0.png" or found[0]["id"] == "-"


def test_a_name_of_the_catalog_means_its_images(run: Path) -> None:
    assert len(rows_of(shell(str(run), "digits"))) == 1797


def test_of_several_inputs_an_id_begins_with_its_input(run: Path, images: NDArray[np.uint8]) -> None:
    _write_forms(images[:2])
    found = rows_of(shell(str(run), "folder/", "array.npy", "folder/0.png"))
    assert [row["id"] for row in found] == [
        "folder/0.png", "folder/1.png", "array.npy:0", "array.npy:1", "folder/0.png",
    ]  # fmt: skip


def test_batches_make_no_difference(
    run: Path, images: NDArray[np.uint8], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_forms(images)
    monkeypatch.setattr(array_inputs, "BATCH_ROWS", 7)
    for name in ("plain.csv", "named.csv", "array.npy", "floats.npy"):
        assert [row["label"] for row in rows_of(shell(str(run), name))] == expected, name


def test_files_with_alpha_in_colour_and_16_bits_are_fitted_and_the_guard_says_it(
    run: Path, images: NDArray[np.uint8], expected: list[str]
) -> None:
    Path("mixed").mkdir()
    grey = Image.fromarray(images[0])
    grey.convert("LA").save("mixed/0.png")
    grey.convert("RGB").save("mixed/1.png")
    grey.convert("RGBA").save("mixed/2.png")
    Image.fromarray(images[0].astype(np.uint16) * 257).save("mixed/3.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save("mixed/4.png")
    result = shell(str(run), "mixed")
    found = rows_of(result)
    assert [row["label"] for row in found[:4]] == expected[:1] * 4
    assert "channels" in found[4]["unlike"]
    assert "size" in found[4]["unlike"]
    assert "in colour, the training images are grey" in " ".join(result.stderr.split())


def test_a_net_sees_files_as_an_evaluation_on_them_sees_them(model: Predictor) -> None:
    rng = np.random.default_rng(1)
    for row in range(4):
        colour = rng.integers(0, 255, (13, 17, 3), dtype=np.uint8)
        path = Path("other") / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colour if row < 2 else colour[..., 0]).save(path)
    raw = read_raw("other", ReadOptions(image_size=(8, 8))).parts["train"]
    evaluated = np.asarray(model.preprocessor.to_uint8(raw.images))
    reading = Reading(model.preprocessor, adapt=False, skip_bad=False, progress=lambda *_: None)
    with opened_sources(["other"], reading) as sources:
        (new,) = list(sources[0].batches)
    fitted = fit_new_images(model.preprocessor, model.card.profile, new, adapt=False)
    assert fitted.ids.tolist() == raw.ids.tolist()
    assert np.array_equal(fitted.images, evaluated)


def test_a_net_of_16_bit_images_takes_16_bit_and_8_bit_files() -> None:
    images, labels = bars(90)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = Path("deep") / "abc"[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint16) * 200).save(path)
    trained = fovea.train("deep", epochs=6, threads=1, verbose=False, augmentation="none")
    stored = trained.predictions("test")
    found = rows_of(shell(str(trained.path), *(f"deep/{name}" for name in stored.ids)))
    assert [row["label"] for row in found] == stored.names
    save_images(Path("shallow"), images[:3])
    assert [row["label"] for row in rows_of(shell(str(trained.path), "shallow"))] == ["a", "b", "c"]


# --- the guard -------------------------------------------------------------------------------------------------------


def test_inverted_images_get_a_warning_and_with_adapt_the_right_answers(
    run: Path, images: NDArray[np.uint8], expected: list[str]
) -> None:
    save_images(Path("inverted"), 255 - images)
    warned = shell(str(run), "inverted")
    assert {row["unlike"] for row in rows_of(warned)} == {"inverted"}
    text = " ".join(warned.stderr.split())
    assert "30 of 30 images look inverted" in text
    assert "--adapt" in text
    mended = shell(str(run), "inverted", "--adapt")
    assert [row["label"] for row in rows_of(mended)] == expected
    assert {row["unlike"] for row in rows_of(mended)} == {""}
    assert "30 inverted" in mended.stderr


def test_images_like_those_of_the_training_get_no_warning(run: Path, images: NDArray[np.uint8]) -> None:
    np.save("array.npy", images)
    result = shell(str(run), "array.npy")
    assert result.stderr == ""
    assert {row["unlike"] for row in rows_of(result)} == {""}


# --- what is written -------------------------------------------------------------------------------------------------


def test_top_k_labels_fall_in_probability_and_agree_in_both_forms(
    run: Path, model: Predictor, images: NDArray[np.uint8]
) -> None:
    np.save("array.npy", images)
    rows = rows_of(shell(str(run), "array.npy", "--top-k", "3"))
    assert list(rows[0]) == [
        "id", "label", "probability", "label_2", "probability_2", "label_3", "probability_3", "unlike",
    ]  # fmt: skip
    objects = [
        json.loads(line)
        for line in shell(str(run), "array.npy", "--top-k", "3", "--format", "jsonl").stdout.splitlines()
    ]
    probabilities = model.predict(images).probabilities
    for number, (row, found) in enumerate(zip(rows, objects, strict=True)):
        assert set(found) == {"id", "label", "probability", "top_k", "unlike"}
        assert found["id"] == number
        shares = [entry["probability"] for entry in found["top_k"]]
        assert shares == pytest.approx(sorted(probabilities[number], reverse=True), abs=1e-5)
        assert [entry["label"] for entry in found["top_k"]] == [row["label"], row["label_2"], row["label_3"]]
        assert shares == [float(row["probability"]), float(row["probability_2"]), float(row["probability_3"])]


def test_names_of_files_come_back_as_they_are(run: Path, images: NDArray[np.uint8]) -> None:
    names = ["<script>.png", "a,b.png", "line\nend.png", 'quote".png', "Ö ü.png", "日本.png"]
    Path("odd").mkdir()
    for name, image in zip(names, images, strict=False):
        Image.fromarray(image).save(Path("odd") / name)
    assert {row["id"] for row in rows_of(shell(str(run), "odd"))} == set(names)
    lines = shell(str(run), "odd", "--format", "jsonl").stdout.splitlines()
    assert {json.loads(line)["id"] for line in lines} == set(names)


def test_a_file_takes_the_rows_and_stdout_says_where(run: Path, images: NDArray[np.uint8]) -> None:
    np.save("array.npy", images)
    rows = shell(str(run), "array.npy").stdout
    Path("out.csv").write_text("older")
    result = shell(str(run), "array.npy", "--output", "out.csv")
    assert Path("out.csv").read_text(encoding="utf-8") == rows
    assert result.stdout.splitlines() == ["30 images", "out.csv"]


def test_a_submission_counts_from_1_and_prints_no_rows(
    run: Path, images: NDArray[np.uint8], expected: list[str]
) -> None:
    np.save("array.npy", images)
    result = shell(str(run), "array.npy", "--submission", "sub.csv")
    assert result.stdout.splitlines() == ["30 images", "sub.csv"]
    lines = Path("sub.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["ImageId,Label", *(f"{row},{name}" for row, name in enumerate(expected, 1))]
    both = shell(str(run), "array.npy", "--submission", "sub.csv", "--output", "rows.csv")
    assert both.stdout.splitlines() == ["30 images", "rows.csv", "sub.csv"]
    assert len(Path("rows.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize(
    ("place", "ids"),
    [
        ("kaggle", [str(row) for row in range(30, 0, -1)]),
        ("kaggle/test.csv", [str(row) for row in range(30)]),
        ("named.csv", [f"00{row}" for row in range(29, -1, -1)]),
        ("folder", [str(row) for row in range(30)]),
        ("folder", [f"{row}.png" for row in range(29, -1, -1)]),
        ("list.txt", [f"{row}.png" for row in range(30)]),
    ],
)
def test_a_sample_gives_the_order_the_ids_and_the_names_of_the_columns(
    run: Path, images: NDArray[np.uint8], expected: list[str], place: str, ids: list[str]
) -> None:
    _write_forms(images)
    beside = Path("kaggle" if place.startswith("kaggle") else ".")
    (beside / "sample_submission.csv").write_text("id,class\n" + "".join(f"{name},x\n" for name in ids))
    assert shell(str(run), place, "--submission", "sub.csv").exit_code == 0
    from_1 = place == "kaggle"
    answers = [expected[int(name.removesuffix(".png")) - from_1] for name in ids]
    lines = Path("sub.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["id,class", *(f"{name},{answer}" for name, answer in zip(ids, answers, strict=True))]


def test_a_submission_whose_ids_do_not_fit_is_not_written(run: Path, images: NDArray[np.uint8]) -> None:
    _write_forms(images)
    Path("sample_submission.csv").write_text("ImageId,Label\n" + "".join(f"{row},0\n" for row in range(1, 29)))
    result = shell(str(run), "plain.csv", "--submission", "sub.csv", "--output", "rows.csv")
    assert result.exit_code == 2
    assert "28 ids there, 30 images here; not in it 29, 30" in result.stderr
    assert not list(Path().glob("*sub.csv*"))
    assert not list(Path().glob(".*"))
    assert not Path("rows.csv").exists()


# --- what goes wrong -------------------------------------------------------------------------------------------------


def _bad_inputs() -> None:
    Path("empty").mkdir()
    Path("text").mkdir()
    Path("text/a.txt").write_text("words")
    Path("zero.png").touch()
    Path("zero.csv").touch()
    image = bars(1)[0][0]
    Image.fromarray(image).save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:60])
    np.save("objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save("nan.npy", np.full((4, 8, 8), np.nan))
    np.save("signed.npy", np.linspace(-1, 1, 256).reshape(4, 8, 8))
    np.save("five.npy", np.zeros((4, 8, 8, 5), np.uint8))
    np.save("none.npy", np.zeros((0, 8, 8), np.uint8))
    np.save("text.npy", np.array(["a", "b"]))
    Path("cut.npy").write_bytes(Path("five.npy").read_bytes()[:-9])
    np.savez("two.npz", a=np.zeros((4, 8, 8)), b=np.zeros((4, 8, 8)))
    table = pixel_table(bars(5), label=None)
    Path("ragged.csv").write_text(table + "1,2,3\n")
    Path("short.csv").write_text("\n".join(line.rpartition(",")[0] for line in table.splitlines()))
    Path("words.csv").write_text(table.replace("\n", "\n1,", 1).replace(",", ",many words,", 1))
    Path("word.csv").write_text(table.rstrip("\n").rpartition(",")[0] + ",grey\n")
    Path("columns.csv").write_text("name,age\nann,3\n")
    Path("paths.csv").write_text("file,label\ngone.png,3\n")
    Path("zeros.bin").write_bytes(bytes(100))


BAD = [
    ("gone", "There is no file, folder or data set 'gone'"),
    ("empty", "empty is empty"),
    ("text", "holds nothing that can be answered"),
    ("zero.png", "is empty (0 bytes)"),
    ("zero.csv", "is empty (0 bytes)"),
    ("cut.png", "The image cannot be decoded"),
    ("objects.npy", "Python objects, which are never loaded"),
    ("nan.npy", "NaN or infinite"),
    ("signed.npy", "range from -1 to 1"),
    ("five.npy", "(4, 8, 8, 5): expected"),
    ("none.npy", "holds no images"),
    ("text.npy", "expected"),
    ("cut.npy", "bytes, but holds"),
    ("two.npz", "holds the arrays a, b"),
    ("ragged.csv", "line 7: 3 cells, expected 64"),
    ("short.csv", "63 pixel columns, which make no square image; an image of the model, 8x8 in grey, has 64"),
    ("word.csv", "line 6, column 64: 'grey' is no pixel value"),
    ("words.csv", "words.csv"),
    ("columns.csv", "is no table of images"),
    ("paths.csv", "line 2: gone.png"),
    ("zeros.bin", "nothing that can be answered"),
    ("-", "stdin is empty"),
]


@pytest.mark.parametrize(("place", "words"), BAD, ids=[place for place, _ in BAD])
def test_an_input_that_cannot_be_used_gets_one_message_and_leaves_nothing(run: Path, place: str, words: str) -> None:
    _bad_inputs()
    result = shell(str(run), place, "--output", "out.csv", stdin=b"")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stdout == ""
    assert not list(Path().glob("*out.csv*")) + list(Path().glob(".*out.csv*"))


def test_files_that_cannot_be_decoded_are_all_listed_or_left_out(run: Path, images: NDArray[np.uint8]) -> None:
    save_images(Path("some"), images[:4])
    Path("some/1.png").write_bytes(Path("some/1.png").read_bytes()[:50])
    Path("some/3.png").write_text("words")
    result = shell(str(run), "some", "--output", "out.csv")
    assert result.exit_code == 2
    assert "2 of 4 images cannot be decoded" in result.stderr
    assert "1.png:" in result.stderr
    assert "3.png:" in result.stderr
    assert not Path("out.csv").exists()
    skipped = shell(str(run), "some", "--skip-bad")
    assert [row["id"] for row in rows_of(skipped)] == ["0.png", "2.png"]
    assert "2 images cannot be decoded and are left out" in " ".join(skipped.stderr.split())


def test_a_table_of_two_scales_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_inputs, "BATCH_ROWS", 2)
    first = ",".join(["0.5"] * 64)
    Path("mixed.csv").write_text("\n".join([first, first, first.replace("0.5", "200.5")]) + "\n")
    result = shell(str(run), "mixed.csv")
    assert result.exit_code == 2
    assert "begins with fractions of 1, but row 3" in result.stderr


WRONG = [
    (["--top-k", "0"], "--top-k 0: expected 1 to 3"),
    (["--top-k", "99"], "--top-k 99: expected 1 to 3"),
    (["--format", "xml"], "--format xml: expected csv or jsonl"),
    (["--output", "no/such/out.csv"], "does not exist"),
    (["--output", "."], "is a folder"),
    (["--output", os.devnull], "is no file"),
    (["--output", "{run}/result.json"], "is a file of a run and would be lost"),
    (["--output", "array.npy"], "is read from and would be lost"),
    (["--submission", "sample_submission.csv"], "is read from and would be lost"),
    (["--output", "x.csv", "--submission", "x.csv"], "cannot hold both"),
    (["array.npy"], "array.npy is given twice"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_options_that_cannot_be_used_are_refused(
    run: Path, images: NDArray[np.uint8], options: list[str], words: str
) -> None:
    np.save("array.npy", images)
    Path("sample_submission.csv").write_text("ImageId,Label\n" + "".join(f"{row},0\n" for row in range(1, 31)))
    result = shell(str(run), "array.npy", *(option.format(run=run) for option in options))
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_model_that_cannot_be_used_is_refused(run: Path, images: NDArray[np.uint8]) -> None:
    np.save("array.npy", images)
    whole = (run / "best.safetensors").read_bytes()
    Path("flipped.safetensors").write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    Path("bare").mkdir()
    Path("later").mkdir()
    Path("later/best.safetensors").write_bytes(whole)
    Path("later/manifest.json").write_text('{"format_version": 99, "sha256": {}}')
    messages = {
        "flipped.safetensors": "damaged",
        "bare": "no best.safetensors",
        "later": "format 99",
        "gone": "no model",
    }
    for place, words in messages.items():
        result = shell(place, "array.npy")
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_full_disk_leaves_no_file_and_the_older_one(
    run: Path, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("array.npy", images)
    Path("out.csv").write_text("older")
    monkeypatch.setenv("FOVEA_FAULT", "ENOSPC@out.csv+20")
    result = shell(str(run), "array.npy", "--output", "out.csv")
    assert result.exit_code == 1
    assert os.strerror(errno.ENOSPC) in result.stderr
    assert Path("out.csv").read_text() == "older"
    assert not list(Path().glob(".*.partial"))


def test_tables_about_the_images_of_a_folder_are_no_input(run: Path, images: NDArray[np.uint8]) -> None:
    save_images(Path("some"), images[:3])
    for name in ("one", "two"):
        assert shell(str(run), "some", "--output", f"some/{name}.csv").exit_code == 0
    assert len(rows_of(shell(str(run), "some"))) == 3


def test_without_stdout_a_file_is_asked_for(model: Predictor, images: NDArray[np.uint8]) -> None:
    np.save("array.npy", images)
    with pytest.raises(fovea.SettingsError, match="stdout is closed"):
        predict_to(model, ["array.npy"], Wanted(), None, lambda *_: None, lambda *_: None)
    wanted = Wanted(output=Path("out.csv"))
    assert predict_to(model, ["array.npy"], wanted, None, lambda *_: None, lambda *_: None) == ["30 images", "out.csv"]


def test_an_interrupt_leaves_no_file(model: Predictor, images: NDArray[np.uint8]) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    np.save("array.npy", images)
    with pytest.raises(KeyboardInterrupt):
        predict_to(model, ["array.npy"], Wanted(output=Path("out.csv")), io.BytesIO(), interrupt, lambda *_: None)
    assert [path.name for path in Path().iterdir() if "out" in path.name] == []


@pytest.mark.skipif(os.name == "nt", reason="pipes end in another way there")
def test_a_closed_pipe_ends_with_one_line_and_no_traceback(run: Path, images: NDArray[np.uint8]) -> None:
    np.save("array.npy", np.concatenate([images] * 100))
    command = f"{sys.executable} -m fovea predict {run} array.npy"
    process = subprocess.Popen(command.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert stderr.splitlines() == ["error: stdout cannot be written: whoever read the answers has closed the pipe."]
