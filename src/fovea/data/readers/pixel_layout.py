"""How a row of pixels becomes an image: its height and width, and where its colours stand."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError

_ROW_COLUMN = re.compile(r"\D*(\d+)[x_](\d+)", re.IGNORECASE)
_MAX_CHANNEL_SAMPLE = 200


def square_side(count: int) -> tuple[int, int] | None:
    """(side, channels) of a square image of `count` values, or None."""
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side > 1 and side * side * channels == count:
            return side, channels
    return None


@dataclass(frozen=True)
class Layout:
    """How a row of pixels becomes an image."""

    shape: tuple[int, ...]  # height, width, and 3 where it is in colour
    by_plane: bool = False
    note: str | None = None

    def images(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """[N, columns] -> [N, H, W] or [N, H, W, 3]."""
        if not self.by_plane:
            return pixels.reshape(-1, *self.shape)
        height, width, channels = self.shape
        return np.ascontiguousarray(pixels.reshape(-1, channels, height, width).transpose(0, 2, 3, 1))


def layout_of(
    pixels: NDArray[Any], names: tuple[str, ...] | None, where: str, known: tuple[int, int, int] | None = None
) -> Layout:
    """How rows like these become images.

    Args:
        pixels: some rows, [n, columns].
        names: of the columns, where a header has them.
        known: height, width and channels that are tried first.

    Raises:
        DataError: when their number makes no image.
    """
    count = pixels.shape[1]
    named = _named_shape(names) if names else None
    if named is not None:
        return Layout(named)
    if known is not None and math.prod(known) == count:
        height, width, channels = known
    else:
        height, channels = _square(count, where, known)
        width = height
    if channels == 1:
        return Layout((height, width))
    sample = pixels[:_MAX_CHANNEL_SAMPLE].astype(np.float32)
    mixed, planes = sample.reshape(-1, height, width, 3), sample.reshape(-1, 3, height, width)
    # From row to row, not within one: side by side the three colours of a grey pixel differ less than two pixels do.
    by_plane = bool(np.abs(np.diff(planes, axis=2)).mean() < np.abs(np.diff(mixed, axis=1)).mean())
    order = "plane by plane (red, green, blue)" if by_plane else "pixel by pixel"
    return Layout((height, width, 3), by_plane, f"{count} columns: {height}x{width} in colour, {order}")


def _square(count: int, where: str, known: tuple[int, int, int] | None) -> tuple[int, int]:
    """Side and channels of a square image of `count` values.

    Raises:
        DataError: when there is none.
    """
    square = square_side(count)
    if square is None and known is not None:
        height, width, channels = known
        raise DataError(
            f"{where} has {count} pixel columns, which make no square image; an image of the model, {height}x{width} "
            f"in {'grey' if channels == 1 else 'colour'}, has {math.prod(known)}. Is a column missing, or one of "
            "something else among them? In a header call labels 'label' and the names of images 'id'."
        )
    if square is None:
        raise DataError(
            f"{where} has {count} pixel columns, which make no square image (784 make 28x28, 3072 make 32x32 in "
            "colour). Is a column of something else among them, or is the label column not named 'label'? "
            "(--set data.label_column=NAME)"
        )
    return square


def _named_shape(names: tuple[str, ...]) -> tuple[int, int] | None:
    """Height and width where the columns are called 1x1, 1x2 ... row by row."""
    matches = [_ROW_COLUMN.fullmatch(name) for name in names]
    if not all(matches):
        return None
    places = [(int(match[1]), int(match[2])) for match in matches if match]
    height, width = len({row for row, _ in places}), len({column for _, column in places})
    return (height, width) if height * width == len(names) and places == sorted(places) else None
