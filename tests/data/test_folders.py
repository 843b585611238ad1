"""Image folders: classes, splits, junk, odd images, and the cache of decoded images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.data import decoding, pixel_cache
from fovea.data.imageset import RawData
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.data.prepare import prepare_splits
from fovea.errors import DataError, RunFailedError
from fovea.settings import DataSettings
from tests.data.formats import Arrays, pack_tar, write_class_folders


def paint(path: Path, value: int = 9, size: tuple[int, int] = (9, 7), mode: str = "L", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0, 0)[: len(mode)]).save(path, **options)


# --- classes and splits ----------------------------------------------------------------------------------------------


def test_numeric_class_names_are_in_numeric_order_and_a_line_says_so(tmp_path: Path) -> None:
    for name in ("2", "10", "1"):
        paint(tmp_path / "set" / name / "1.png")
    raw = read_raw(tmp_path / "set")
    assert raw.classes == ("1", "2", "10")
    assert raw.notes == ["the class folders are numbers: classes in numeric order, 1, 2, 10"]


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_every_split_has_the_class_map_of_the_training_folder(tmp_path: Path, validation: str) -> None:
    for name in ("b", "a", "c"):
        paint(tmp_path / "set" / "train" / name / "1.png")
    for split in (validation, "test"):
        paint(tmp_path / "set" / split / "c" / "1.png")
    raw = read_raw(tmp_path / "set")
    assert raw.classes == ("a", "b", "c")
    assert sorted(raw.parts) == ["test", "train", "val"]
    assert raw.parts["test"].labels.tolist() == ["c"]


def test_hidden_and_junk_entries_are_no_classes(tmp_path: Path) -> None:
    for name in ("a", "b", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN"):
        paint(tmp_path / "set" / name / "1.png")
    paint(tmp_path / "set" / "a" / "._1.png")
    (tmp_path / "set" / "a" / "Thumbs.db").write_bytes(b"junk")
    (tmp_path / "set" / "a" / "notes.txt").write_text("words")
    raw = read_raw(tmp_path / "set")
    assert raw.classes == ("a", "b")
    assert raw.parts["train"].ids.tolist() == ["a/1.png", "b/1.png"]
    assert raw.notes == ["files that are no images were left out: 1 .txt"]


def test_a_folder_that_only_wraps_the_data_is_looked_into(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "download" / "my-parts", toy)
    raw = read_raw(tmp_path / "download")
    assert raw.name == "my-parts"
    assert raw.classes == ("a", "b", "c")


def test_files_without_a_suffix_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        paint(tmp_path / "set" / name / "1.png", 50)
        (tmp_path / "set" / name / "1.png").rename(tmp_path / "set" / name / "1")
    assert read_raw(tmp_path / "set").parts["train"].ids.tolist() == ["a/1", "b/1"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a/1.png"], "has one class only|single class|class folders"),
        (["a/1.png", "a/x/2.png", "b/1.png"], r"class folder a .* holds folders with images \(a/x/2\.png\)"),
        (["animals/cat/1.png", "plants/rose/1.png"], "class folder animals .* holds folders with images"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "class folder c, which the train folder lacks"),
        (["config.yaml", "manifest.json", "curves.png"], "is .*a run of Fovea"),
        (["train/1.png", "test/1.png"], "test and train but no class folders in them"),
    ],
)
def test_folders_that_cannot_be_meant_are_refused(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        paint(path) if path.suffix == ".png" else path.touch()
    with pytest.raises(DataError, match=words):
        prepare_splits(read_raw(tmp_path / "set"), DataSettings())


def test_a_link_to_a_folder_above_is_named_and_other_links_are_followed(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "a" / "1.png")
    paint(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    assert read_raw(tmp_path / "set").classes == ("a", "b")
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set")
    with pytest.raises(DataError, match=r"loop is a link to a folder above it"):
        read_raw(tmp_path / "set")


@pytest.mark.parametrize(
    "name", ["Äpfel 🍎", "line\nbreak", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a,b;c"]
)
def test_names_of_any_kind_are_only_names(tmp_path: Path, name: str) -> None:
    folder = name.replace("/", "|")
    for label in (folder, "plain"):
        paint(tmp_path / "set" / label / f"{folder}.png")
    raw = read_raw(tmp_path / "set")
    assert sorted(raw.classes or ()) == sorted([folder, "plain"])
    assert f"plain/{folder}.png" in raw.parts["train"].ids


def test_runs_that_lie_in_the_data_are_left_out(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    run = tmp_path / "set" / "runs" / "first"
    for name in ("config.yaml", "manifest.json", "curves.png", "../test_ledger.jsonl"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        paint(run / name) if name.endswith("png") else (run / name).touch()
    raw = read_raw(tmp_path / "set")
    assert raw.classes == ("a", "b", "c")
    assert raw.notes == ["runs of Fovea were left out: runs/first"]


def test_what_lies_beside_the_split_folders_is_left_out_with_a_line(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/1.png", "extra/a/1.png"):
        paint(tmp_path / "set" / name)
    raw = read_raw(tmp_path / "set")
    assert list(raw.parts) == ["train"]
    assert raw.notes == ["left out, for it is no split with class folders: extra, test"]


def test_a_readme_beside_the_wrapped_data_does_no_harm(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "download" / "data", toy)
    (tmp_path / "download" / "README.md").write_text("words")
    assert read_raw(tmp_path / "download").classes == ("a", "b", "c")


def test_a_table_of_other_numbers_beside_class_folders_is_no_data(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    (tmp_path / "set" / "log.csv").write_text("epoch,loss,a,b,c,d\n" + "1,2,3,4,5,6\n" * 9)
    assert read_raw(tmp_path / "set").form == "image folder"


def test_a_folder_with_one_archive_in_it_is_that_archive(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    (tmp_path / "download").mkdir()
    pack_tar(tmp_path / "set", tmp_path / "download" / "set.tar.gz")
    assert read_raw(tmp_path / "download").classes == ("a", "b", "c")


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    for name in (b"a", b"b\xff"):
        folder = tmp_path / "set" / os.fsdecode(name)
        folder.mkdir(parents=True)
        paint(tmp_path / "x.png")
        (tmp_path / "x.png").rename(folder / os.fsdecode(b"\xfe.png"))
    raw = read_raw(tmp_path / "set")
    assert raw.classes == ("a", "b\\xff")
    assert raw.parts["train"].ids.tolist() == ["a/\\xfe.png", "b\\xff/\\xfe.png"]


def test_terminal_codes_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "b" / "1.png")
    (tmp_path / "set" / "a").mkdir()
    (tmp_path / "set" / "a" / "\x1b[31mred.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/\\x1b\[31mred\.png: is empty"):
        read_raw(tmp_path / "set")


def test_links_that_fan_out_without_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.data.tree.MAX_FOLDERS", 500)
    for level in range(12):
        (tmp_path / "set" / str(level)).mkdir(parents=True)
    for level in range(11):
        for side in "xy":
            (tmp_path / "set" / str(level) / side).symlink_to(tmp_path / "set" / str(level + 1))
    with pytest.raises(DataError, match="more than 500 folders"):
        read_raw(tmp_path / "set")


# --- odd images ------------------------------------------------------------------------------------------------------


def two_classes(tmp_path: Path, save_first: object) -> RawData:
    """A folder with one image that `save_first` writes, and a plain red one."""
    paint(tmp_path / "set" / "b" / "1.png", 200, mode="RGB")
    (tmp_path / "set" / "a").mkdir(parents=True)
    save_first(tmp_path / "set" / "a" / "1")  # type: ignore[operator]
    return read_raw(tmp_path / "set")


def test_cmyk_images_come_out_in_their_colours(tmp_path: Path) -> None:
    picture = Image.new("RGB", (9, 7), (200, 0, 0)).convert("CMYK")
    raw = two_classes(tmp_path, lambda path: picture.save(path.with_suffix(".jpg"), quality=100))
    assert np.abs(np.asarray(raw.parts["train"].images)[0].astype(int) - [200, 0, 0]).max() <= 4


def test_a_grey_palette_stays_grey(tmp_path: Path, toy: Arrays) -> None:
    for row, image in enumerate(toy[0][:4]):
        path = tmp_path / "set" / "ab"[row % 2] / f"{row}.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    images = np.asarray(read_raw(tmp_path / "set").parts["train"].images)
    assert np.array_equal(images[..., 0], toy[0][[0, 2, 1, 3]])


def test_large_photos_are_made_small_and_a_line_says_so(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    photo = Image.fromarray(np.broadcast_to(ramp[None, :, None], (600, 800, 3)).copy())
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        photo.save(tmp_path / "set" / name / "1.jpg", quality=95)
    raw = read_raw(tmp_path / "set")
    images = np.asarray(raw.parts["train"].images).astype(int)
    assert images.shape == (2, 64, 64, 3)
    assert raw.notes == ["the images are 600x800; all were resized to 64x64 (set image_size for another)"]
    exact = np.asarray(photo.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(images[0] - exact).max() <= 3  # although it was not decoded in full


def test_sizes_that_first_differ_late_are_noticed(tmp_path: Path) -> None:
    for row in range(200):
        paint(tmp_path / "set" / "ab"[row % 2] / f"{row:03d}.png", row, (12, 12) if row != 150 else (9, 30))
    raw = read_raw(tmp_path / "set")
    assert raw.parts["train"].images.shape == (200, 64, 64, 1)
    assert "differ in size" in raw.notes[0]


def test_a_late_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    for row in range(200):
        paint(tmp_path / "set" / "ab"[row % 2] / f"{row:03d}.png", row, mode="RGB" if row == 151 else "L")
    images = np.asarray(read_raw(tmp_path / "set").parts["train"].images)
    assert images.shape == (200, 7, 9, 3)
    assert images[1].ravel().tolist() == [2] * (7 * 9 * 3)


def test_phone_photos_with_a_preview_inside_are_photos(tmp_path: Path) -> None:
    main, preview = Image.new("RGB", (9, 7), (200, 0, 0)), Image.new("RGB", (4, 4))
    raw = two_classes(
        tmp_path,
        lambda path: main.save(path.with_suffix(".jpg"), "MPO", save_all=True, append_images=[preview], quality=100),
    )
    assert np.abs(np.asarray(raw.parts["train"].images)[0].astype(int) - [200, 0, 0]).max() <= 4


BAD_IMAGES = {
    "empty.png": (b"", r"is empty \(0 bytes\)"),
    "text.png": (b"hello", "no image in a format that is read"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image in a format that is read"),
    "photoshop.png": (b"8BPS\0\1" + bytes(60), "no image in a format that is read"),
    "huge.png": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x23\x28\0\0\x23\x28\x08\2\0\0\0\xce\xed\x60\x85" + bytes(60),
        "claims 9000 x 9000 pixels|no image",
    ),
}


@pytest.mark.parametrize("name", list(BAD_IMAGES))
def test_a_bad_image_is_named_with_its_reason(tmp_path: Path, name: str) -> None:
    content, words = BAD_IMAGES[name]
    with pytest.raises(DataError, match=rf"a/{name}: .*({words})"):
        two_classes(tmp_path, lambda path: path.with_name(name).write_bytes(content))


def test_animated_and_one_pixel_images_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (9, 7), value) for value in (1, 99)]
    with pytest.raises(DataError, match=r"a/1\.gif: holds 2 frames"):
        two_classes(
            tmp_path, lambda path: frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames)
        )
    with pytest.raises(DataError, match=r"a/1\.png: is 1 x 1 pixels"):
        two_classes(tmp_path / "other", lambda path: paint(path.with_suffix(".png"), 1, (1, 1)))


@pytest.mark.parametrize("pack", [False, True])
def test_skip_bad_leaves_bad_images_out_and_keeps_labels_with_their_images(
    tmp_path: Path, toy: Arrays, pack: bool
) -> None:
    write_class_folders(tmp_path / "set", toy)
    bad = ["a/003.png", "b/100.png"]
    for name in bad:
        path = tmp_path / "set" / name
        path.write_bytes(path.read_bytes()[:40])
    source = pack_tar(tmp_path / "set", tmp_path / "set.tar.gz") if pack else tmp_path / "set"
    with pytest.raises(DataError, match=r"(?s)2 images of .* cannot be decoded:.*a/003\.png.*b/100\.png.*--skip-bad"):
        read_raw(source)
    raw = read_raw(source, ReadOptions(skip_bad=True))
    train = raw.parts["train"]
    assert len(train.images) == len(train.labels) == len(train.ids) == 148
    assert "2 images of" in raw.notes[-1]
    assert "left out" in raw.notes[-1]
    for name, label, image in zip(train.ids, train.labels, train.images, strict=True):
        row = int(name[-7:-4])
        assert name not in bad
        assert label == "abc"[toy[1][row]]
        assert np.array_equal(image[..., 0], toy[0][row])


def test_a_bad_image_decides_nothing_about_the_good_ones(tmp_path: Path) -> None:
    for row in range(8):
        paint(tmp_path / "set" / "ab"[row % 2] / f"{row}.png", row)
    Image.new("RGB", (500, 400)).save(tmp_path / "large.jpg", quality=95)
    (tmp_path / "set" / "a" / "torn.jpg").write_bytes((tmp_path / "large.jpg").read_bytes()[:1500])
    raw = read_raw(tmp_path / "set", ReadOptions(skip_bad=True))
    assert raw.parts["train"].images.shape == (8, 7, 9, 1)


def test_a_part_without_any_good_image_is_refused(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        paint(tmp_path / "set" / name)
    (tmp_path / "set" / "test" / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"\(test\) has no image that can be decoded"):
        read_raw(tmp_path / "set", ReadOptions(skip_bad=True))


def test_values_of_32_bits_among_8_are_refused_and_of_16_said(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "b" / "1.png", 200)
    (tmp_path / "set" / "a").mkdir()
    Image.fromarray(np.full((7, 9), 200, np.int32)).save(tmp_path / "set" / "a" / "1.tif")
    with pytest.raises(DataError, match=r"a/1\.tif: holds 32-bit values"):
        read_raw(tmp_path / "set")
    (tmp_path / "set" / "a" / "1.tif").unlink()
    Image.fromarray(np.full((7, 9), 200 * 257, np.uint16)).save(tmp_path / "set" / "a" / "1.png")
    raw = read_raw(tmp_path / "set")
    assert (np.asarray(raw.parts["train"].images) == 200).all()
    assert "of 16 bits the upper 8 are kept" in raw.notes[0]


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Arrays) -> Path:
    """A folder of class folders, and a cache that takes sets of any size."""
    monkeypatch.setattr(pixel_cache, "CACHE_FROM_BYTES", 0)
    write_class_folders(tmp_path / "set", toy)
    return tmp_path / "set"


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "decode", refuse)


def rows_of(raw: RawData) -> np.ndarray:
    return np.asarray(raw.parts["train"].images)


def test_images_are_decoded_once_and_mapped_from_then_on(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_raw(cached)
    assert "are kept in" in first.notes[0]
    forbid_decoding(monkeypatch)
    second = read_raw(cached)
    assert second.notes == []
    assert np.array_equal(rows_of(first), rows_of(second))
    assert isinstance(second.parts["train"].images, np.ndarray)
    assert not second.parts["train"].images.flags.writeable


def test_a_moved_or_touched_folder_is_known_by_its_content(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rows_of(read_raw(cached))
    cached.rename(tmp_path / "moved")
    os.utime(tmp_path / "moved" / "a" / "000.png", (1, 1))
    forbid_decoding(monkeypatch)
    assert np.array_equal(rows_of(read_raw(tmp_path / "moved")), first)


def test_a_changed_file_is_decoded_anew_even_if_size_and_time_are_the_same(cached: Path) -> None:
    first = rows_of(read_raw(cached)).copy()
    path = cached / "a" / "000.png"
    status = path.stat()
    image = np.asarray(Image.open(path)).copy()
    for value in range(256):  # another image whose file has the same size
        image[0, 0] = value
        Image.fromarray(image).save(path)
        if path.stat().st_size == status.st_size and image[0, 0] != first[0, 0, 0, 0]:
            break
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = rows_of(read_raw(cached))
    assert second[0, 0, 0, 0] == image[0, 0] != first[0, 0, 0, 0]
    assert np.array_equal(second[1:], first[1:])


def test_another_size_is_another_entry(cached: Path) -> None:
    assert rows_of(read_raw(cached)).shape == (150, 8, 8, 1)
    assert rows_of(read_raw(cached, ReadOptions(image_size=(4, 6)))).shape == (150, 4, 6, 1)
    assert rows_of(read_raw(cached)).shape == (150, 8, 8, 1)


def test_an_interrupted_decode_goes_on_where_it_was(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "JOURNAL_SECONDS", 0.0)
    monkeypatch.setattr(decoding, "_CHUNK", 10)
    whole, seen = decoding.decode, []

    def breaks_off(content: bytes, *target: object) -> object:
        seen.append(content)
        if len(seen) == 73:
            raise KeyboardInterrupt
        return whole(content, *target)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "decode", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        read_raw(cached)
    raw = read_raw(cached)
    assert len(seen) == 73 + 80  # 70 rows were safe
    monkeypatch.setattr(decoding, "decode", whole)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert np.array_equal(rows_of(raw), rows_of(read_raw(cached)))


def test_a_killed_decode_goes_on_in_a_fresh_process(cached: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from fovea.data import decoding, pixel_cache\n"
        "from fovea.data.load import read_raw\n"
        "pixel_cache.CACHE_FROM_BYTES, pixel_cache.JOURNAL_SECONDS, decoding._CHUNK = 0, 0.0, 10\n"
        "whole, count = decoding.decode, [0]\n"
        "def decode(*args):\n"
        "    count[0] += 1\n"
        "    if count[0] == int(sys.argv[2]): os.kill(os.getpid(), 9)\n"
        "    return whole(*args)\n"
        "decoding.decode = decode\n"
        "images = read_raw(sys.argv[1]).parts['train'].images\n"
        "print(count[0], int(images[:].sum()))\n"
    )

    def run(stop: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(cached), str(stop)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert run(95).returncode == -9
    assert run(40).returncode == -9
    done = run(10_000)
    assert done.returncode == 0, done.stderr
    count, total = map(int, done.stdout.split())
    assert count == 150 - 90 - 30
    assert total == int(rows_of(read_raw(cached)).sum())


def test_bad_images_are_remembered(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cached / "b" / "100.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"b/100\.png: is no image"):
        read_raw(cached)
    forbid_decoding(monkeypatch)
    with pytest.raises(DataError, match=r"b/100\.png: is no image"):
        read_raw(cached)
    assert len(read_raw(cached, ReadOptions(skip_bad=True)).parts["train"].images) == 149


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00v", b"x" * 200])
def test_a_damaged_cache_is_made_again(cached: Path, tmp_path: Path, damage: bytes) -> None:
    first = rows_of(read_raw(cached)).copy()
    (pixels,) = (tmp_path / "cache" / "fovea" / "images").glob("*/pixels.npy")
    pixels.write_bytes(damage)
    assert np.array_equal(rows_of(read_raw(cached)), first)
    for note in (tmp_path / "cache" / "fovea" / "images" / "listings").iterdir():
        note.write_text(json.dumps({"content": 1, "bad": []}))
    assert np.array_equal(rows_of(read_raw(cached)), first)


def test_without_a_cache_folder_images_are_decoded_into_memory(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache folder should be")
    raw = read_raw(cached)
    assert rows_of(raw).shape == (150, 8, 8, 1)
    assert "are not kept for the next time" in raw.notes[0]


def test_a_full_disk_is_said_with_the_need_and_leaves_no_entry(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunFailedError, match=r"could not be written to .*images: 0\.00 GB are needed, 0"):
        read_raw(cached)
    assert not list((tmp_path / "cache" / "fovea" / "images").glob("*/about.json"))


def test_two_processes_at_once_decode_once_and_agree(cached: Path) -> None:
    script = (
        "import sys\n"
        "from fovea.data import pixel_cache\n"
        "from fovea.data.load import read_raw\n"
        "pixel_cache.CACHE_FROM_BYTES = 0\n"
        "print(int(read_raw(sys.argv[1]).parts['train'].images[:].sum()))\n"
    )
    command = [sys.executable, "-c", script, str(cached)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in both]
    assert outputs[0][0] == outputs[1][0] != "", outputs


def test_a_passing_error_of_the_disk_is_not_remembered(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(tree: object, name: str, limit: int = 0) -> bytes:
        if name == "b/100.png":
            raise DataError("cannot be read: Input/output error") from OSError(5, "Input/output error")
        return whole(tree, name)  # type: ignore[arg-type]

    whole = decoding.Tree.read
    monkeypatch.setattr(decoding.Tree, "read", fails)
    with pytest.raises(DataError, match="Input/output error"):
        read_raw(cached, ReadOptions(skip_bad=True))
    monkeypatch.setattr(decoding.Tree, "read", whole)
    assert len(read_raw(cached).parts["train"].images) == 150


def test_images_that_do_not_fit_into_memory_are_no_bad_images(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "decode", fails)
    with pytest.raises(RunFailedError, match="do not fit into memory"):
        read_raw(cached)


# --- processes that decode small files -------------------------------------------------------------------------------


def by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes from the first file on, in blocks of 16, even where there is one core."""
    monkeypatch.setattr(decoding, "_PROCESSES_FROM_FILES", 1)
    monkeypatch.setattr(decoding, "_CHUNK", 16)
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 2)


def test_processes_decode_the_same_rows_and_find_the_same_bad_files(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/000.png", "c/149.png"):
        (cached / name).write_bytes(b"torn")
    (cached / "b" / "nowhere.png").symlink_to("nothing")
    serial = read_raw(cached, ReadOptions(skip_bad=True))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    by_processes(monkeypatch)
    parallel = read_raw(cached, ReadOptions(skip_bad=True))
    assert len(rows_of(parallel)) == 148
    assert np.array_equal(rows_of(parallel), rows_of(serial))
    assert parallel.parts["train"].ids.tolist() == serial.parts["train"].ids.tolist()
    assert parallel.notes[-1] == serial.notes[-1]


def test_where_processes_die_or_cannot_be_had_the_work_is_done_here(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows_of(read_raw(cached)).copy()
    by_processes(monkeypatch)
    for name, script in (("chatty", f'echo hello\nexec {sys.executable} "$@"'), ("parrot", "exec cat"), ("mute", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for number, program in enumerate(("chatty", "parrot", "mute", "nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))
        monkeypatch.setattr(sys, "executable", str(tmp_path / program))
        assert np.array_equal(rows_of(read_raw(cached)), expected)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see other processes")
def test_no_process_outlives_its_parent(cached: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from fovea.data import decode_workers, decoding\n"
        "from fovea.data.load import read_raw\n"
        "decoding._PROCESSES_FROM_FILES, decoding.os.cpu_count = 1, lambda: 2\n"
        "start = decode_workers._start\n"
        "def noted(*args):\n"
        "    worker = start(*args)\n"
        "    print(worker.pid, flush=True)\n"
        "    return worker\n"
        "decode_workers._start = noted\n"
        "decode_workers._ask = lambda *_: os.kill(os.getpid(), 9)\n"
        "read_raw(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(cached)], capture_output=True, text=True, timeout=100)
    assert done.returncode == -9
    workers = [int(line) for line in done.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
