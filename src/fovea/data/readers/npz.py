"""NumPy archives: Keras' x_train, y_train, x_test, y_test; x, y; MedMNIST's train_images; KMNIST's pairs of arr_0."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fovea.data.archives import inner_zip
from fovea.data.imageset import RawData, RawSet
from fovea.data.options import ReadOptions
from fovea.data.readers.arrays import set_from_arrays
from fovea.data.tree import READ_ERRORS, Tree, reason_of
from fovea.errors import DataError

_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IMAGES, _LABELS = ("x", "images", "image", "imgs", "data", "features"), ("y", "labels", "label", "target", "targets")
_PAIR_FILE = re.compile(r"(.*?)(train|test|val)[-_](imgs|images|labels)\.npz", re.IGNORECASE)


def recognises_npz(tree: Tree) -> bool:
    """Whether a tree is a .npz itself (a zip of .npy), or holds .npz files at its top."""
    names = list(tree.stamps)
    return bool(names) and (
        all(name.endswith(".npy") for name in names) or any(name.lower().endswith(".npz") for name in _top(tree))
    )


def read_npz(tree: Tree, options: ReadOptions) -> RawData:
    """Read a NumPy archive; nothing pickled is ever loaded.

    Raises:
        DataError: when it is damaged, holds Python objects, claims more than it holds, or has other names in it.
    """
    archives = [name for name in _top(tree) if name.lower().endswith(".npz")]
    pairs = {match[2].lower(): True for match in map(_PAIR_FILE.fullmatch, archives) if match}
    if pairs:
        return _read_pair_files(tree, archives)
    if len(archives) > 1:
        raise DataError(f"{tree.place} holds several archives ({', '.join(archives[:8])}): name one of them.")
    inner = inner_zip(tree, archives[0]) if archives else tree
    arrays = {name.removesuffix(".npy"): name for name in inner.stamps}
    found = _parts(arrays)
    if "train" not in found:
        raise DataError(
            f"{inner.place} holds the arrays {', '.join(arrays) or '(none)'}: expected x_train and y_train "
            "(and x_test, y_test) as Keras names them, or x and y."
        )
    parts = {part: _pair(inner, part, *names) for part, names in found.items()}
    return RawData(tree.name, "NumPy archive", parts, files=tuple(archives) or tuple(tree.stamps))


def _top(tree: Tree) -> list[str]:
    return [name for name in tree.stamps if "/" not in name]


def _parts(arrays: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """Part -> the names of its images and its labels."""
    kinds = {**dict.fromkeys(_IMAGES, "images"), **dict.fromkeys(_LABELS, "labels")}
    found: dict[str, dict[str, str]] = {}
    for key, member in arrays.items():
        words = [word for word in re.split(r"[-_.]", key.lower()) if word]
        part = next((_PARTS[word] for word in words if word in _PARTS), "train" if len(words) == 1 else None)
        kind = next((kinds[word] for word in words if word in kinds), None)
        if part and kind:
            found.setdefault(part, {}).setdefault(kind, member)
    return {part: (kinds["images"], kinds.get("labels")) for part, kinds in found.items() if "images" in kinds}


def array_to_answer(tree: Tree) -> str:
    """The array of a NumPy archive that holds images to be answered: the only one, those called test, or x.

    Raises:
        DataError: when it cannot be told.
    """
    arrays = {name.removesuffix(".npy"): name for name in tree.stamps}
    if len(arrays) == 1:
        return next(iter(tree.stamps))
    found = _parts(arrays)
    part = "test" if "test" in found else next(iter(found)) if len(found) == 1 else None
    if part is None:
        raise DataError(
            f"{tree.place} holds the arrays {', '.join(arrays) or '(none)'}: which of them holds the images cannot be "
            "told. Expected x_test, or x, or one array alone."
        )
    return found[part][0]


def _pair(tree: Tree, part: str, images: str, labels: str | None) -> RawSet:
    where = f"{tree.place.name} ({part})"
    return set_from_arrays(read_npy(tree, images), None if labels is None else read_npy(tree, labels), where)


def _read_pair_files(tree: Tree, archives: list[str]) -> RawData:
    """KMNIST's layout: one array a file, kmnist-train-imgs.npz, kmnist-train-labels.npz."""
    found: dict[str, dict[str, str]] = {}
    for name in archives:
        if match := _PAIR_FILE.fullmatch(name):
            kind = "labels" if match[3].lower() == "labels" else "images"
            found.setdefault(match[2].lower(), {})[kind] = name
    parts = {}
    for part, files in found.items():
        for kind in ("images", "labels"):
            if kind not in files:
                raise DataError(f"{tree.place} holds {next(iter(files.values()))} but not the {kind} of its images.")
        images, labels = (_single(inner_zip(tree, files[kind])) for kind in ("images", "labels"))
        parts[part] = set_from_arrays(images, labels, f"{tree.name} ({part})")
    if "train" not in parts:
        raise DataError(f"{tree.place} holds {', '.join(archives[:4])} but no training images (...-train-imgs.npz).")
    return RawData(tree.name, "NumPy archives", parts, files=tuple(name for f in found.values() for name in f.values()))


def _single(tree: Tree) -> NDArray[Any]:
    if len(tree.stamps) != 1:
        raise DataError(f"{tree.place} holds {len(tree.stamps)} arrays: expected one (arr_0).")
    return read_npy(tree, next(iter(tree.stamps)))


_ARRAY_ERRORS = (*READ_ERRORS, SyntaxError, TypeError, MemoryError)


@dataclass(frozen=True)
class ArrayFile:
    """What the header of a .npy says: its shape, its dtype, and where the values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool  # Fortran's order, in which an image is no piece of the file
    start: int


def read_npy_header(tree: Tree, name: str) -> ArrayFile:
    """Look at one array of an archive (or at a .npy); its header is held against the bytes that are there.

    Raises:
        DataError: for Python objects, a header that claims more or less than there is, or a damaged file.
    """
    where = tree.where(name)
    try:
        with tree.open(name) as file:
            version = npy.read_magic(file)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, by_column, dtype = header(file)
            start = file.tell()
    except _ARRAY_ERRORS as error:
        raise _no_array(where, error) from None
    claimed, there = math.prod(shape) * dtype.itemsize, tree.size(name) - start
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which are never loaded: save plain arrays.")
    if claimed != there:
        raise DataError(f"{where} claims {shape} values, {claimed:,} bytes, but holds {there:,} bytes.")
    return ArrayFile(shape, dtype, by_column, start)


def read_npy(tree: Tree, name: str) -> NDArray[Any]:
    """One array of an archive; its header is held against the bytes that are there before any memory is taken.

    Raises:
        DataError: as `read_npy_header`.
    """
    read_npy_header(tree, name)
    try:
        with tree.open(name) as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))
    except _ARRAY_ERRORS as error:
        raise _no_array(tree.where(name), error) from None


def stream_npy(tree: Tree, name: str, rows: int) -> Iterator[NDArray[Any]]:
    """The same array, so many rows at a time: read, not mapped, for pages of a map count as the process's memory.

    Raises:
        DataError: as `read_npy_header`.
    """
    header = read_npy_header(tree, name)
    if header.by_column or not header.shape:
        array = read_npy(tree, name)
        yield from (array[start : start + rows] for start in range(0, len(array) if header.shape else 0, rows))
        return
    row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
    try:
        with tree.open(name) as file:
            file.read(header.start)
            for start in range(0, header.shape[0], rows):
                count = min(rows, header.shape[0] - start)
                content = file.read(count * row_bytes)
                yield np.frombuffer(content, header.dtype).reshape(count, *header.shape[1:])
    except _ARRAY_ERRORS as error:
        raise _no_array(tree.where(name), error) from None


def _no_array(where: str, error: BaseException) -> DataError:
    return error if isinstance(error, DataError) else DataError(f"{where} cannot be read: {reason_of(error)}.")
