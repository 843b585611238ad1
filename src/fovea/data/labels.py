"""Labels of any form -> class indices and class names."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.tree import listed
from fovea.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorting key that puts "10" after "2" and leaves other names in alphabetical order."""
    pieces = [piece.lstrip("0") if piece[:1].isdecimal() else piece for piece in re.split(r"(\d+)", name)]
    numbers = [piece[:1].isdecimal() for piece in re.split(r"(\d+)", name)]
    # A longer number is a larger one; as an int it might have more digits than Python converts.
    return tuple(
        (0, len(p), p) if number else (1, 0, p) for p, number in zip(pieces, numbers, strict=True) if p or number
    )


def flat_labels(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Labels as one column: integers [N], (N, 1), one-hot (N, K) or strings -> [N] of int64 or str.

    Raises:
        DataError: for NaN, fractions, soft labels or a shape that is none of these.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        labels = _from_one_hot(labels, where)
    if labels.ndim != 1:
        raise DataError(
            f"The labels of {where} have shape {labels.shape}: "
            "expected one label an image, (N,), (N, 1) or one-hot (N, K)."
        )
    if labels.dtype.kind in "OUS":
        return _text_labels(labels, where)
    if labels.dtype.kind == "b":
        return np.asarray(labels, np.int64)
    return _whole_numbers(labels, where)


def _from_one_hot(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    is_one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
    if not is_one_hot:
        raise DataError(
            f"The labels of {where} have shape {labels.shape} but are not one-hot: "
            "each row needs a single 1 and zeros elsewhere."
        )
    return np.asarray(labels.argmax(axis=1), np.int64)


def _text_labels(labels: NDArray[Any], where: str) -> NDArray[Any]:
    texts = [
        label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else label for label in labels.tolist()
    ]
    bad = [i for i, label in enumerate(texts) if _is_missing(label)]
    if bad:
        raise DataError(
            f"The label of image {bad[0]} in {where} is missing ({len(bad)} in all): give every image a class."
        )
    return np.array([str(label) for label in texts])


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ == "NAType":  # pandas.NA, which is neither equal to itself nor unequal
        return True
    return bool(label != label) or not str(label).strip()


def _whole_numbers(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iuf":
        raise DataError(f"The labels of {where} are of type {labels.dtype}: expected integers, names or one-hot rows.")
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)) | (np.abs(labels) >= 2**53))
        if len(bad):
            raise DataError(
                f"The label of image {bad[0]} in {where} is {labels[bad[0]]} ({len(bad)} such in all): "
                "labels must be classes (whole numbers or names), not measurements."
            )
    if labels.dtype.kind == "u" and len(labels) and int(labels.max()) >= 2**63:
        raise DataError(f"A label of {where} is {int(labels.max())}: class numbers must be below 2^63.")
    return labels.astype(np.int64)


def class_map(train_labels: NDArray[Any], one_hot_width: int | None = None) -> dict[Any, str]:
    """Label value -> class name, in class order: numbers by size, names in natural order.

    Args:
        train_labels: flat labels of the training part.
        one_hot_width: K of one-hot labels, whose classes are 0 .. K - 1 whether they occur or not.
    """
    if one_hot_width:
        return {value: str(value) for value in range(one_hot_width)}
    values = np.unique(train_labels).tolist()
    if train_labels.dtype.kind == "U":
        values = sorted(values, key=natural_key)
    return {value: str(value) for value in values}


def encode_labels(labels: NDArray[Any], mapping: dict[Any, str], where: str) -> NDArray[np.int64]:
    """Flat labels -> class indices, int64 [N].

    Raises:
        DataError: names the labels that are no class of the training images.
    """
    position = {value: index for index, value in enumerate(mapping)}
    present = np.unique(labels).tolist()
    strangers = [value for value in present if value not in position]
    if strangers:
        raise DataError(
            f"{where} has labels that are no class of the training images: {listed(strangers)}. "
            f"Classes: {listed(mapping.values())}. Remove these images, or add training images of that class."
        )
    lookup = np.array([position[value] for value in present], dtype=np.int64)
    return lookup[np.searchsorted(np.array(present), labels)]
