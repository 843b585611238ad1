"""Several images as one: a strip or a grid."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray

from fovea.data.pixels import from_array


def mosaic(images: NDArray[np.uint8], columns: int, gap: int = 1) -> NDArray[np.uint8]:
    """Images [n, h, w, C] in rows of `columns`, with `gap` white pixels between them: [H, W, C]."""
    count, height, width, channels = images.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def as_png(image: NDArray[np.uint8]) -> bytes:
    """An image [H, W, C] as a PNG file."""
    return _encoded(image, "PNG", optimize=True)


def as_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An image [H, W, C] as a JPEG file of good quality."""
    return _encoded(image, "JPEG", quality=88)


def _encoded(image: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    from_array(image).save(buffer, kind, **options)
    return buffer.getvalue()
