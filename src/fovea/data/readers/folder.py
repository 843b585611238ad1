"""Image folders: one folder a class, with or without split folders (train, val, test) above them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fovea.data.imageset import RawData, RawSet
from fovea.data.labels import natural_key
from fovea.data.pixels import as_array
from fovea.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
DEEP_MODES = {"I;16", "I;16B", "I;16L", "I", "F"}
GREY_MODES = {"1", "L", "LA"}
DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
MAX_PIXELS = 50_000_000
DEFAULT_SIDE = 64  # for images of unequal size, where no image_size is set


def recognises_folder(path: Path) -> bool:
    """Whether `path` is a folder that holds folders."""
    return path.is_dir() and any(True for _ in _subfolders(path))


def read_folder(path: Path, image_size: tuple[int, int] | None) -> RawData:
    """Read every image below the class folders, decoded to one size.

    Args:
        image_size: height, width to resize to; None: as they are, or 64 x 64 where their sizes differ.

    Raises:
        DataError: lists every file that cannot be decoded; names empty classes and unequal class folders.
    """
    splits = _split_folders(path)
    if splits and "train" not in splits:
        raise DataError(f"{path} has the folder {next(iter(splits.values())).name} but no train folder.")
    folders = splits or {"train": path}
    files = {part: _class_files(folder) for part, folder in folders.items()}
    classes = tuple(sorted(files["train"], key=natural_key))
    for part in files:
        _check_classes(folders[part], set(files[part]), set(classes))
    listed = {part: [(name, file) for name in by_class for file in by_class[name]] for part, by_class in files.items()}
    pictures, note = _decode([file for rows in listed.values() for _, file in rows], path, image_size)
    parts, start = {}, 0
    for part, rows in listed.items():
        ids = np.array([file.relative_to(path).as_posix() for _, file in rows])
        parts[part] = RawSet(pictures[start : start + len(rows)], np.array([name for name, _ in rows]), ids)
        start += len(rows)
    return RawData(path.resolve().name, "image folder", parts, classes, notes=[note] if note else [])


def _split_folders(path: Path) -> dict[str, Path]:
    """Split name -> folder. Folders called train or test that hold images and no folders are classes."""
    splits: dict[str, Path] = {}
    for entry in _subfolders(path):
        split = SPLIT_FOLDERS.get(entry.name.lower())
        if split is None or not _subfolders(entry):
            continue
        if split in splits:
            raise DataError(f"{path} has two folders for the {split} split: {splits[split].name} and {entry.name}.")
        splits[split] = entry
    return splits


def _subfolders(path: Path) -> list[Path]:
    junk = {"__macosx", "@eadir"}
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name.lower() not in junk
    )


def _class_files(folder: Path) -> dict[str, list[Path]]:
    classes = {entry.name: sorted(filter(_is_image_file, entry.rglob("*"))) for entry in _subfolders(folder)}
    if not classes:
        raise DataError(f"{folder} holds no class folders: expected one folder of images a class.")
    empty = [name for name, found in classes.items() if not found]
    if empty:
        raise DataError(
            f"No images in the class folder{'s' if len(empty) > 1 else ''} {', '.join(empty)} of {folder} "
            f"(looked for {', '.join(sorted(SUFFIXES))})."
        )
    return classes


def _is_image_file(file: Path) -> bool:
    """By name; a link that leads nowhere counts, so that it is reported."""
    named = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    return named and (file.is_file() or file.is_symlink())


def _check_classes(folder: Path, found: set[str], expected: set[str]) -> None:
    strangers = sorted(found - expected)
    if strangers:
        raise DataError(
            f"{folder} has the class folder {', '.join(strangers)}, which the train folder lacks: "
            f"its classes are {', '.join(sorted(expected, key=natural_key))}."
        )


def _decode(files: list[Path], root: Path, image_size: tuple[int, int] | None) -> tuple[NDArray[Any], str | None]:
    """All files as one array [N, H, W, C], uint8 or (16-bit and float images) float32; a line on what was resized."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        headers = list(pool.map(_header, files))
        _refuse(root, [problem for _, _, problem in headers])
        sizes = {size for size, _, _ in headers}
        size = image_size or (next(iter(sizes)) if len(sizes) == 1 else (DEFAULT_SIDE, DEFAULT_SIDE))
        modes = {found for _, found, _ in headers}
        # 16-bit and float images keep their values: they are mapped by one range fitted on the training images.
        mode = "F" if modes <= DEEP_MODES else "L" if modes <= DEEP_MODES | GREY_MODES else "RGB"
        dtype = np.float32 if mode == "F" else np.uint8
        pictures = np.empty((len(files), *size, 3 if mode == "RGB" else 1), dtype)
        problems = list(pool.map(lambda i: _decode_into(pictures, i, files[i], mode), range(len(files))))
    _refuse(root, problems)
    differing = image_size is None and len(sizes) > 1
    note = f"the images differ in size; all were resized to {size[0]}x{size[1]} (set image_size for another)"
    return pictures, note if differing else None


Header = tuple[tuple[int, int], str, str | None]  # size, mode, what is wrong


def _open(file: Path) -> Image.Image:
    picture = Image.open(file, formats=FORMATS)
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"claims {picture.width} x {picture.height} pixels, over the limit of {MAX_PIXELS:,}")
    return picture


def _header(file: Path) -> Header:
    """(height, width) after EXIF rotation, Pillow's mode, and what is wrong, without decoding the pixels."""
    try:
        with _open(file) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5
            size = (picture.width, picture.height) if turned else (picture.height, picture.width)
            return size, picture.mode, None
    except DECODE_ERRORS as error:
        return (0, 0), "", f"{file}: {error}"


def _decode_into(pictures: NDArray[Any], row: int, file: Path, mode: str) -> str | None:
    height, width = pictures.shape[1:3]
    try:
        with _open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
            converted = _as_float(upright) if mode == "F" else _eight_bit(upright).convert(mode)
            if converted.size != (width, height):
                converted = converted.resize((width, height), Image.Resampling.BILINEAR)
            pictures[row] = np.asarray(converted)[..., None] if mode == "F" else as_array(converted)
    except DECODE_ERRORS as error:
        return f"{file}: {error}"
    return None


def _as_float(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture).astype(np.float32))


def _eight_bit(picture: Image.Image) -> Image.Image:
    """A 16-bit image among 8-bit ones -> its high byte; transparent pixels -> on white."""
    if picture.mode == "F":
        raise ValueError("holds floats, the others whole numbers: convert them to one form")
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).astype(np.uint32).clip(0, 65535) >> 8).astype(np.uint8))
    if picture.mode in {"LA", "RGBA", "PA"} or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture


def _refuse(root: Path, found: list[str | None]) -> None:
    problems = [problem for problem in found if problem]
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise DataError(
            f"{len(problems)} image{'s' if len(problems) > 1 else ''} below {root} cannot be decoded:\n  {shown}"
        )
