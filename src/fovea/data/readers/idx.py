"""IDX files, plain or gzipped: MNIST's four files and those of the sets that follow its layout.

Format: two zero bytes, a type byte, the number of axes, each axis as a big-endian uint32, then the values
(LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fovea.data.archives import BOMB_BYTES, BOMB_RATIO, open_unpacked
from fovea.data.imageset import RawData, RawSet
from fovea.data.options import ReadOptions
from fovea.data.readers.arrays import set_from_arrays
from fovea.data.tree import READ_ERRORS, Tree, unreadable
from fovea.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# train-images-idx3-ubyte.gz, train-images.idx3-ubyte, emnist-letters-test-labels-idx1-ubyte, train_images ...
_FILE = re.compile(
    r"(?P<set>[^/]*?)(?P<part>train|t10k|test|validation|valid|val)(ing)?[-._ ]?(?P<kind>images?|labels?)"
    r"(?P<idx>[-._ ]idx\d[-._ ]\w+)?(\.idx)?(\.gz)?",
    re.IGNORECASE,
)
_PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val", "validation": "val"}

_CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SMALL = tuple("abcdefghijklmnopqrstuvwxyz")
_DIGITS = tuple("0123456789")
# The class names of EMNIST's sets by label (Cohen, Afshar, Tapson and van Schaik, 2017); letters begin at 1.
EMNIST_CLASSES = {
    "byclass": _DIGITS + _CAPITALS + _SMALL,
    "bymerge": _DIGITS + _CAPITALS + tuple("abdefghnqrt"),
    "balanced": _DIGITS + _CAPITALS + tuple("abdefghnqrt"),
    "letters": _SMALL,
    "digits": _DIGITS,
    "mnist": _DIGITS,
}


def recognises_idx(tree: Tree) -> bool:
    """Whether files at the top are named like train-images-idx3-ubyte, or named images or labels and begin as IDX."""
    for name in tree.stamps:
        match = _FILE.fullmatch(name)
        if match and (match["idx"] or begins_as_idx(tree, name)):
            return True
    return False


def read_idx_files(tree: Tree, options: ReadOptions) -> RawData:
    """Read the image and label files of a folder or archive, pair by pair.

    EMNIST's files are recognised by their names: its images are stored transposed and its letters begin at 1.

    Raises:
        DataError: when a file is missing or damaged, there is no training pair, or several sets lie side by side.
    """
    sets: dict[str, dict[str, dict[str, str]]] = {}
    for name in sorted(tree.stamps, reverse=True):  # the unpacked file wins over its .gz
        match = _FILE.fullmatch(name)
        if match:
            kind = "images" if match["kind"].lower().startswith("image") else "labels"
            part = _PARTS[match["part"].lower()]
            sets.setdefault(match["set"].strip("-._ "), {}).setdefault(part, {})[kind] = name
    if len(sets) > 1:
        raise DataError(
            f"{tree.place} holds several sets of IDX files ({', '.join(sorted(sets))}): give a folder with one of "
            "them, or for EMNIST the name emnist-letters, emnist-balanced ... with FOVEA_DATA set to the folder above."
        )
    (prefix, found), *_ = sets.items()
    if "train" not in found:
        raise DataError(
            f"{tree.place} has IDX files but no train-images-idx3-ubyte: expected MNIST's four files, plain or .gz."
        )
    parts = {part: _read_pair(tree, part, files) for part, files in found.items()}
    used = tuple(name for files in found.values() for name in files.values())
    raw = RawData(prefix or tree.name, "IDX files", parts, files=used)
    return _as_emnist(raw, prefix) if prefix.lower().startswith("emnist") else raw


def idx_images_to_answer(tree: Tree) -> str | None:
    """The file with the images of a test set among IDX files, the only file of images else; None: there is none.

    Raises:
        DataError: when several could be meant.
    """
    matches = {name: _FILE.fullmatch(name) for name in sorted(tree.stamps, reverse=True)}
    files: dict[tuple[str, str], str] = {}  # (set, part) -> its file; the unpacked file wins over its .gz
    for name, match in matches.items():
        if match and match["kind"].lower().startswith("image"):
            files.setdefault((match["set"].strip("-._ "), _PARTS[match["part"].lower()]), name)
    chosen = [name for (_, part), name in files.items() if part == "test"] or list(files.values())
    if len(chosen) > 1:
        raise DataError(f"{tree.place} holds the images {', '.join(chosen)}: name the file that is meant.")
    return chosen[0] if chosen else None


def begins_as_idx(tree: Tree, name: str) -> bool:
    """Whether a file, unpacked on the way, begins as IDX files do."""
    try:
        with open_unpacked(tree, name) as file:
            magic = file.read(4)
    except (*READ_ERRORS, DataError):
        return False
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _DTYPES and magic[3] > 0


def read_idx_images(tree: Tree, name: str) -> NDArray[Any]:
    """The images of one IDX file, [N, H, W]; EMNIST's, known by their name, are turned upright.

    Raises:
        DataError: as `read_idx`.
    """
    images = read_idx(tree, name)
    is_emnist = name.rpartition("/")[2].lower().startswith("emnist") and images.ndim == 3
    return images.swapaxes(1, 2) if is_emnist else images


def one_set(tree: Tree, prefix: str) -> Tree:
    """The tree with the IDX files of one set alone, wherever they lie ("emnist-letters" ...)."""
    kept = {name.rpartition("/")[2]: name for name in tree.stamps if name.rpartition("/")[2].startswith(prefix + "-")}
    renamed = {short: tree.stamps[name] for short, name in kept.items()}
    return replace(tree, stamps=renamed, opener=lambda short: tree.opener(kept[short]))


def _as_emnist(raw: RawData, prefix: str) -> RawData:
    classes = EMNIST_CLASSES.get(prefix.lower().removeprefix("emnist").strip("-._ "))
    first = 1 if classes == _SMALL else 0
    parts = {
        part: RawSet(
            np.ascontiguousarray(np.asarray(found.images).swapaxes(1, 2)), np.asarray(found.labels) - first, found.ids
        )
        for part, found in raw.parts.items()
    }
    return replace(raw, parts=parts, classes=classes, kind="characters")


def _read_pair(tree: Tree, part: str, files: dict[str, str]) -> RawSet:
    for kind in ("images", "labels"):
        if kind not in files:
            there = next(iter(files.values()))
            raise DataError(f"{tree.place} holds {there} but not the {kind} that belong to it.")
    images, labels = read_idx(tree, files["images"]), read_idx(tree, files["labels"])
    if labels.ndim == 2 and labels.dtype.kind == "i":  # QMNIST: the class, then where the digit came from
        labels = labels[:, 0]
    return set_from_arrays(images, labels, f"{tree.name} ({part})")


def read_idx(tree: Tree, name: str) -> NDArray[Any]:
    """Read one IDX file, unpacked on the way where it is compressed.

    Raises:
        DataError: when it is no IDX file, is cut short, or holds more than its header says.
    """
    where = tree.where(name)
    try:
        with open_unpacked(tree, name) as file:
            return _parse(file, where, max(BOMB_BYTES, BOMB_RATIO * tree.size(name)))
    except READ_ERRORS as error:
        raise unreadable(where, error) from None


def _parse(file: BinaryIO, where: str, max_bytes: int) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise DataError(
            f"{where} is no IDX file: it begins with {magic.hex(' ')}, expected 00 00, a type and the number of axes."
        )
    axes = file.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise DataError(f"{where} is cut short inside its header.")
    shape = tuple(np.frombuffer(axes, ">u4").tolist())
    dtype = np.dtype(_DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    if expected > max_bytes:
        raise DataError(f"{where} claims {shape} values, {expected:,} bytes: far more than a file of its size holds.")
    content = file.read(expected + 1)  # one more than allowed shows what is too long, without reading it all
    if len(content) != expected:
        found = "more" if len(content) > expected else f"only {len(content):,}"
        raise DataError(
            f"{where} should hold {expected:,} bytes of values {shape}, but holds {found}. Download it again."
        )
    values = np.frombuffer(content, dtype).reshape(shape)
    return values if dtype.itemsize == 1 else values.astype(dtype.newbyteorder("="))
