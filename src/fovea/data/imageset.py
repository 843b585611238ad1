"""ImageSet: labelled images as the rest of Fovea sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RawSet:
    """What a reader found, before anything is decided about it.

    Attributes:
        images: [N, H, W] or [N, H, W, C], any numeric dtype.
        labels: [N] integers or strings, [N, 1], or one-hot [N, K].
        ids: file names or row numbers, [N].
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    ids: NDArray[Any]


@dataclass(frozen=True)
class RawData:
    """The parts ("train", and where they exist "val" and "test") of one data source.

    Attributes:
        name: a short name, used for the run folder.
        form: the format in words, for messages ("IDX files", "image folder").
        parts: part name -> images and labels.
        classes: the class names in label order, where the source states them.
        kind: "characters" or "photos" where it is known; it guides `augmentation: auto`.
        notes: lines that the user should see.
    """

    name: str
    form: str
    parts: dict[str, RawSet]
    classes: tuple[str, ...] | None = None
    kind: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int64 [N], indices into `classes`.
        classes: the class names.
        ids: file names or row numbers, [N].
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of images, labels and class names: equal contents have equal fingerprints."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    def class_counts(self) -> dict[str, int]:
        """Class name -> number of images."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def take(self, indices: NDArray[np.int64]) -> ImageSet:
        """The images at `indices` (int64 [M]), in that order, as a new set."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes, self.ids[indices])
