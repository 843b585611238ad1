"""ImageSet: labelled images as the rest of Fovea sees them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.display import image_html, table_html


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array or of a memory map, copied only when they are asked for.

    Attributes:
        array: [M, ...].
        rows: int64 [N], which of its rows, in this order.
    """

    array: NDArray[Any]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        return (len(self.rows), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        """As an array's."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As an array's."""
        return self.array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, tuple) or key is Ellipsis or key is None:
            return np.asarray(self)[key]
        return np.asarray(self.array[self.rows[key]])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.rows], dtype)


Pixels = NDArray[Any] | Rows


def slices(images: Pixels) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, images) of consecutive parts, for work on sets that may not fit into memory.

    A part holds at most 2**18 values, or one image: in float32 that stays in a processor's cache.
    """
    rows = max(1, 2**18 // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        yield start, images[start : start + rows]


def take_rows(images: Pixels, rows: NDArray[np.int64]) -> Pixels:
    """Some rows of images, not copied; `rows` ascending or in any order."""
    if isinstance(images, Rows):
        return Rows(images.array, images.rows[rows])
    if len(rows) == len(images) and (len(rows) == 0 or (rows[0] == 0 and (np.diff(rows) == 1).all())):
        return images
    return Rows(images, rows)


def spread_rows(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` rows, evenly spread: ascending, the first and the last among them; int64."""
    return np.linspace(0, max(count - 1, 0), min(count, most)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class RawSet:
    """What a reader found, before anything is decided about it.

    Attributes:
        images: [N, H, W] or [N, H, W, C], any numeric dtype.
        labels: [N] integers or strings, [N, 1], or one-hot [N, K]; None: the source has none.
        ids: file names or row numbers, [N].
        groups: which images belong together, [N] of any values; None: the source does not say.
    """

    images: Pixels
    labels: NDArray[Any] | None
    ids: NDArray[Any]
    groups: NDArray[Any] | None = None


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
        files: the files that were read, by their names in the folder or archive.
        place: the folder, file or archive; None for what was in memory.
        known: whether the content is the published one; None where there is nothing to hold it against.
        sizes: the distinct (height, width) of image files before they were made alike, three at most; () for arrays.
    """

    name: str
    form: str
    parts: dict[str, RawSet]
    classes: tuple[str, ...] | None = None
    kind: str | None = None
    notes: list[str] = field(default_factory=list)
    files: tuple[str, ...] = ()
    place: Path | None = None
    known: bool | None = None
    sizes: tuple[tuple[int, int], ...] = ()


_SHOWN_IMAGES, _SHOWN_CLASSES = 20, 12  # in a notebook


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images.

    Attributes:
        images: uint8 [N, H, W, C]; an array, a memory map, or rows of one.
        labels: int64 [N], indices into `classes`.
        classes: the class names.
        ids: file names or row numbers, [N].
    """

    images: Pixels
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
        for _, part in slices(self.images):
            digest.update(np.ascontiguousarray(part).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()

    @cached_property
    def image_keys(self) -> NDArray[np.int64]:
        """A number for each image, equal where all pixels are equal and the same in every process; int64 [N]."""
        numbers = (_key_of(image) for _, part in slices(self.images) for image in part)
        return np.fromiter(numbers, np.int64, len(self))

    def class_counts(self) -> dict[str, int]:
        """Class name -> number of images."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def _repr_html_(self) -> str:
        from fovea.data.mosaic import as_png, mosaic  # it needs what needs this module

        height, width, channels = self.image_shape
        counts = [f"{name}: {count:,}" for name, count in self.class_counts().items()]
        more = f" and {len(counts) - _SHOWN_CLASSES} more" if len(counts) > _SHOWN_CLASSES else ""
        rows = [
            ("images", f"{len(self):,} of {height}x{width}, {'grey' if channels == 1 else 'colour'}"),
            (f"{len(counts)} classes", ", ".join(counts[:_SHOWN_CLASSES]) + more),
        ]
        shown = spread_rows(len(self), _SHOWN_IMAGES)
        strip = mosaic(self.images[shown], _SHOWN_IMAGES // 2) if len(shown) else None
        picture = "" if strip is None else image_html(as_png(strip), f"{len(shown)} of the images")
        return table_html(rows) + picture

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        return f"ImageSet({len(self):,} images, {height}x{width}x{channels}, {len(self.classes)} classes)"

    def take(self, indices: NDArray[np.int64]) -> ImageSet:
        """The images at `indices` (int64 [M]), in that order, as a new set."""
        return ImageSet(take_rows(self.images, indices), self.labels[indices], self.classes, self.ids[indices])


def _key_of(image: NDArray[np.uint8]) -> int:
    """64 bits of BLAKE2; Python's own hash has another salt in every process, and groups are listed by their key."""
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little", signed=True)


class ImageSets(dict[str, ImageSet]):
    """Part ("train", "val", "test") -> its images; a notebook shows them below each other."""

    def _repr_html_(self) -> str:
        return "".join(f"<b>{escape(part)}</b>{images._repr_html_()}" for part, images in self.items())
