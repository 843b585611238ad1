"""CIFAR-10 and CIFAR-100 as their author ships them: binary records, or python batches (pickled dicts).

Binary: a record is one label byte (CIFAR-100: coarse, then fine) and 3,072 bytes, the red, green and blue plane of a
32 x 32 image. Python: a dict with `data` uint8 [N, 3072], `labels` or `fine_labels` and `coarse_labels`
(Krizhevsky, "Learning multiple layers of features from tiny images", 2009).
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import RawData, RawSet
from fovea.data.options import ReadOptions
from fovea.data.readers.arrays import set_from_arrays
from fovea.data.tree import Tree, reason_of
from fovea.errors import DataError, SettingsError

_PLANES = 3072
Reader = Callable[[Tree, str, str | None], tuple[NDArray[np.uint8], NDArray[np.int64]]]
_FILE = re.compile(r"(data_batch_\d+|test_batch|train|test)(\.bin)?")
_NAMES = {"batches.meta": "label_names", "meta": "{}_label_names"}
_TEXTS = {"batches.meta.txt": None, "fine_label_names.txt": "fine", "coarse_label_names.txt": "coarse"}
# What a pickled batch may name: the parts of an array, and the bytes of one written by Python 3.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def recognises_cifar(tree: Tree) -> bool:
    """Whether files at the top are named like CIFAR's batches and begin as these do."""
    for name in tree.stamps:
        match = _FILE.fullmatch(name)
        if match and (match[2] or tree.head(name, 1) == b"\x80"):
            return True
    return False


def read_cifar(tree: Tree, options: ReadOptions) -> RawData:
    """Read the batches of a folder or archive.

    Raises:
        DataError: for a batch of a wrong length, labels out of range, or a pickle that names code (it does not run).
    """
    names = [name for name in tree.stamps if _FILE.fullmatch(name)]
    binary = any(name.endswith(".bin") for name in names)
    names = sorted(name for name in names if name.endswith(".bin") == binary)
    hundred = any(name.startswith("train") for name in names) or names in (["test"], ["test.bin"])
    level = _level(options.label_column) if hundred else None
    classes = _class_names(tree, level)
    read = _binary if binary else _pickled
    of_test = [name for name in names if name.startswith("test")]
    by_part = {"train": [name for name in names if name not in of_test], "test": of_test}
    parts = {part: _read_batches(tree, chosen, read, level, part) for part, chosen in by_part.items() if chosen}
    if "train" not in parts:
        raise DataError(f"{tree.place} holds {', '.join(names)} but no training batch (data_batch_1 or train).")
    highest = (len(classes) if classes else {None: 10, "fine": 100, "coarse": 20}[level]) - 1
    for part, found in parts.items():
        labels = np.asarray(found.labels)
        if (bad := np.flatnonzero((labels < 0) | (labels > highest))).size:
            raise DataError(
                f"The label of image {bad[0]} in {tree.place} ({part}) is {labels[bad[0]]}: expected 0 to {highest}."
            )
    present = {name.removesuffix(".bin") for name in names}
    missing = sorted({f"data_batch_{number}" for number in range(1, 6)} - present) if not hundred else []
    form = f"CIFAR-{'100' if hundred else '10'} {'binary' if binary else 'python'} batches"
    note = [f"the {level} labels are used (--set data.label_column={_other(level)} for the others)"] if level else []
    if missing:
        note.append(f"{', '.join(missing)} of CIFAR-10's five training batches are not there")
    return RawData(tree.name, form, parts, classes, "photos", note, files=tuple(names))


def _other(level: str) -> str:
    return "coarse" if level == "fine" else "fine"


def _level(label_column: str | int | None) -> str:
    if label_column not in (None, "fine", "coarse"):
        raise SettingsError(f"data.label_column is {label_column!r}: CIFAR-100 has 'fine' and 'coarse' labels.")
    return str(label_column or "fine")


def _read_batches(tree: Tree, names: list[str], read: Reader, level: str | None, part: str) -> RawSet:
    """Planes of one batch after the other -> images [N, 32, 32, 3], written once into their place."""
    room = sum(tree.size(name) for name in names) // _PLANES  # at least as many images as there are
    images = np.empty((room, 32, 32, 3), np.uint8)
    labels: list[NDArray[np.int64]] = []
    start = 0
    for name in names:
        planes, found = read(tree, name, level)
        for channel in range(3):  # four times faster than one transposed copy
            images[start : start + len(planes), ..., channel] = planes.reshape(-1, 3, 32, 32)[:, channel]
        labels.append(found)
        start += len(planes)
    return set_from_arrays(images[:start], np.concatenate(labels), f"{tree.name} ({part})")


def _binary(tree: Tree, name: str, level: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = _PLANES + (2 if level else 1)
    content = np.frombuffer(tree.read(name), np.uint8)
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{tree.where(name)} has {len(content):,} bytes: expected a multiple of {record:,}, one record an image. "
            "Is the download complete?"
        )
    rows = content.reshape(-1, record)
    column = 1 if level == "fine" else 0
    return rows[:, record - _PLANES :], rows[:, column].astype(np.int64)


def _pickled(tree: Tree, name: str, level: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    where = tree.where(name)
    batch = load_restricted(tree.read(name), where)
    data, labels = batch.get("data"), batch.get(f"{level}_labels" if level else "labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PLANES:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{where} holds data of the form {found}: expected uint8 (N, {_PLANES}).")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{where} holds no list of whole numbers as its labels.")
    if len(labels) != len(data):
        raise DataError(f"{where} holds {len(data):,} images but {len(labels):,} labels.")
    try:
        return data, np.array(labels, np.int64)
    except OverflowError:
        raise DataError(f"{where} holds a label that is out of any range.") from None


def _class_names(tree: Tree, level: str | None) -> tuple[str, ...] | None:
    for file, key in _NAMES.items():
        if file in tree.stamps:
            names = load_restricted(tree.read(file), tree.where(file)).get(key.format(level))
            if isinstance(names, list) and names and all(isinstance(name, str | bytes) for name in names):
                return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names)
    for file, meant in _TEXTS.items():
        if file in tree.stamps and meant == level:
            return tuple(tree.read(file, 2**20).decode("utf-8", "replace").split())
    return None


# Sets, and what builds instances of classes in other ways than arrays need.
_NOT_ALLOWED = {
    code[0]
    for code in (
        pickle.EMPTY_SET,
        pickle.ADDITEMS,
        pickle.FROZENSET,
        pickle.NEWOBJ,
        pickle.NEWOBJ_EX,
        pickle.OBJ,
        pickle.INST,
        pickle.DICT,
    )
}


class _Restricted(pickle._Unpickler):
    """The unpickler in Python: the one in C takes gigabytes for a memo index that a damaged file invents."""

    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array: it was not run")
        return _latin1 if name == "encode" else super().find_class(module, name)

    def load_setitem(self) -> None:
        """Keys are texts or bytes: the hash of deeply nested tuples would never be done."""
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        """As `load_setitem`."""
        self._check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_reduce(self) -> None:
        """Arguments are plain, or the one-element shape that an array is rebuilt from."""
        for argument in self.stack[-1] if isinstance(self.stack[-1], tuple) else [None]:
            inner = argument if isinstance(argument, tuple) else (argument,)
            if not all(isinstance(value, str | bytes | int | type) for value in inner):
                raise pickle.UnpicklingError("it builds something else than arrays")
        super().load_reduce()  # type: ignore[misc]

    def _check_keys(self, keys: list[Any]) -> None:
        if not all(isinstance(key, str | bytes) for key in keys):
            raise pickle.UnpicklingError("it holds a dict with keys that are no names")

    dispatch: ClassVar[dict[int, Any]] = {
        **{code: load for code, load in pickle._Unpickler.dispatch.items() if code not in _NOT_ALLOWED},
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.REDUCE[0]: load_reduce,
    }


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 names where it pickles bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes as {encoding}")
    return text.encode("latin1")


def load_restricted(content: bytes, where: str) -> dict[str, Any]:
    """Load a pickled dict of arrays, lists, numbers and texts; bytes keys become texts.

    Raises:
        DataError: for anything else, above all for a pickle that names code: nothing of it is run.
    """
    try:
        loaded = _Restricted(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{where} is no batch of CIFAR that can be read: {reason_of(error)}.") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{where} holds a pickled {type(loaded).__name__}: expected a dict with data and labels.")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in loaded.items()}
