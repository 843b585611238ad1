"""Whether data is what its authors published: digests of the decoded content, or of the files."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.imageset import RawData, RawSet

_BATCH = 10_000  # records a batch of CIFAR-10


def is_published(raw: RawData, contents: tuple[str, ...], files: Mapping[str, str]) -> bool | None:
    """Hold data against published digests.

    Args:
        contents: sha256 or md5 (hex) of the decoded content: of grey sets the IDX form of train images, train labels,
            test images and test labels; of CIFAR-10 its binary batches. A copy that was packed again or is stored in
            another format has them too.
        files: file name -> sha256 or md5 (hex) of official files; used where no `contents` are known.

    Returns:
        None where there is nothing to hold the data against.
    """
    if contents:
        pairs = zip_longest(contents, _contents(raw))
        return all(expected and pieces and _digest(pieces, expected) == expected for expected, pieces in pairs)
    if raw.place is None:
        return None
    used = [raw.place] if raw.place.is_file() else [raw.place / name for name in raw.files]
    checked = [_file_digest(path, files[path.name]) == files[path.name] for path in used if path.name in files]
    return all(checked) if checked else None


def _contents(raw: RawData) -> Iterator[list[Any]]:
    """The official files' contents, rebuilt from the decoded images; each as pieces of bytes."""
    for part in ("train", "test"):
        if part not in raw.parts:
            return
        found = raw.parts[part]
        labels = np.asarray(found.labels)
        if found.images.dtype != np.uint8 or labels.dtype.kind not in "iu" or labels.size != len(found.images):
            return
        yield from _as_batches(found, labels) if found.images.ndim == 4 else _as_idx(found, labels)


def _as_idx(found: RawSet, labels: np.ndarray[Any, Any]) -> Iterator[list[Any]]:
    for array in (np.asarray(found.images), labels.astype(np.uint8).ravel()):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        yield [header, np.ascontiguousarray(array).data]


def _as_batches(found: RawSet, labels: np.ndarray[Any, Any]) -> Iterator[list[Any]]:
    for start in range(0, len(labels), _BATCH):
        images = found.images[start : start + _BATCH]
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records = np.concatenate([labels[start : start + _BATCH].astype(np.uint8).reshape(-1, 1), planes], axis=1)
        yield [records.data]


def _digest(pieces: Iterable[Any], like: str) -> str:
    hasher = _hasher(like)
    for piece in pieces:
        hasher.update(piece)
    return str(hasher.hexdigest())


def _hasher(like: str) -> Any:
    """md5 only tells known files apart: who can forge it can forge a data set just as well."""
    return hashlib.sha256() if len(like) == 64 else hashlib.md5(usedforsecurity=False)


def _file_digest(path: Path, like: str) -> str:
    with path.open("rb") as file:
        return str(hashlib.file_digest(file, lambda: _hasher(like)).hexdigest())
