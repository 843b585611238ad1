"""Images of any dtype, size and channel count -> uint8 [N, H, W, C]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.data.imageset import Pixels, Rows, slices
from fovea.errors import DataError

Range = tuple[float, float]


def off_torch(values: Any) -> Any:
    """A torch tensor, or a list of them, as NumPy can take it: without gradient, on the CPU, not bfloat16.

    Anything else stays as it is.

    Raises:
        DataError: for an array some values of which are masked: what lies below a mask is no value.
    """
    if np.ma.is_masked(values):
        raise DataError(
            f"{int(values.mask.sum()):,} values are masked, and what they are is not known: fill them, "
            "array.filled(0), or leave their images out."
        )
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values[:1]):
        return [off_torch(value) for value in values]
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return values.float() if str(values.dtype) == "torch.bfloat16" else values


def check_images(images: Any, where: str) -> Pixels:
    """Give images the shape [N, H, W, C]; rows of a memory map stay where they are.

    Raises:
        DataError: for unequal sizes, a wrong number of axes or channels, a dtype without numbers, or NaN.
    """
    try:
        images = images if isinstance(images, Rows) else np.asarray(images)
    except ValueError:
        images = np.empty(0, object)
    if images.dtype == object:
        raise DataError(
            f"The images of {where} are of unequal size (or not numeric): an array needs one height, width and "
            "number of channels. Resize them first, or give a folder of image files with --set image_size=64."
        )
    if images.ndim == 3:
        images = Rows(images.array[..., None], images.rows) if isinstance(images, Rows) else images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:3]:
        raise DataError(
            f"The images of {where} have shape {images.shape}: expected (N, height, width) or "
            "(N, height, width, channels) with 1 or 3 channels, channels last."
        )
    if images.dtype.kind not in "biuf":
        raise DataError(f"The images of {where} are of type {images.dtype}: expected numbers.")
    if images.dtype.kind == "f" and (bad := _not_finite(images)):
        raise DataError(
            f"The images of {where} hold NaN or infinite values in {len(bad)} of {len(images)} images, first in "
            f"image {bad[0]}: repair or remove them."
        )
    return images  # type: ignore[no-any-return]


def _not_finite(images: Pixels) -> list[int]:
    bad: list[int] = []
    for start, part in slices(images):
        bad += (start + np.flatnonzero(~np.isfinite(part).all(axis=(1, 2, 3)))).tolist()
    return bad


def extremes(images: Pixels) -> tuple[float, float]:
    """The lowest and the highest value."""
    found = [(float(part.min()), float(part.max())) for _, part in slices(images)]
    return min(low for low, _ in found), max(high for _, high in found)


def value_range(images: Pixels) -> Range | None:
    """The range that is mapped to 0..255, fitted on the training images; None where values are 0..255 already.

    Floats within 0..1 are taken as k / 255, so that k / 255 becomes k exactly.

    Raises:
        DataError: for values so far apart that their distance is no finite number.
    """
    if images.dtype == np.uint8 or len(images) == 0:
        return None
    low, high = extremes(images)
    if not math.isfinite(255 * (high - low)):
        raise DataError(f"The images have values of {low:g} to {high:g}, a range too wide to compute with.")
    if low >= 0 and high <= 1:
        return (0.0, 1.0)
    if low >= 0 and 127 < high <= 255:
        return None
    return (min(low, 0.0), high if high > low else low + 1.0)


def range_of_new_images(images: Pixels, trained: Range | None, where: str) -> Range | None:
    """How images that come after training are mapped to 0..255 by a model whose own range is `trained`.

    A model of 8-bit images takes uint8 and k / 255 alike; any other keeps the range that it was trained with. Fractions
    a little outside 0..1, as resampling or another maximum leaves them, stay fractions where the model had such.

    Raises:
        DataError: when the values lie far outside what the model was trained on.
    """
    if len(images) == 0 or (images.dtype == np.uint8 and trained is None):
        return trained
    low, high = extremes(images)
    if trained == (0.0, 1.0) and images.dtype.kind == "f" and low >= -0.5 and high <= 1.5:
        return trained
    if trained in (None, (0.0, 1.0)):
        fits = low >= 0 and high <= 255
        fractions = images.dtype.kind == "f" or (trained is not None and images.dtype != np.uint8)
        mapped = (0.0, 1.0) if fractions and high <= 1 else None
    else:
        assert trained is not None
        span = trained[1] - trained[0]
        fits = trained[0] - span <= low and high <= trained[1] + span
        mapped = trained
    if not fits:
        raise DataError(
            f"The values of {where} range from {low:g} to {high:g}, but the model was trained on "
            f"{'0..255 or 0..1' if trained in (None, (0.0, 1.0)) else f'{trained[0]:g}..{trained[1]:g}'}: "
            "give the images as they were before any scaling of your own."
        )
    return mapped


def to_uint8(images: Pixels, input_range: Range | None) -> Pixels:
    """Map images to 0..255 by `input_range`; values outside it are clipped.

    Args:
        images: [N, H, W, C], any numeric dtype.
        input_range: the low and high value that become 0 and 255; None: the values are kept.
    """
    if images.dtype == np.uint8 and input_range is None:
        return images
    low, high = input_range or (0.0, 255.0)
    mapped = np.empty(images.shape, np.uint8)
    for start, part in slices(images):  # float copies of a whole set are large
        values = part.astype(np.float64)
        mapped[start : start + len(part)] = np.rint(((values - low) * (255 / (high - low))).clip(0, 255))
    return mapped


def fit_size(images: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize images to (height, width), bilinear with antialiasing as Pillow does it.

    Args:
        images: uint8 [N, H, W, C], C 1 or 3.
    """
    if images.shape[1:3] == size:
        return images
    resized = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for row, image in enumerate(images):
        resized[row] = as_array(from_array(image).resize(size[::-1], Image.Resampling.BILINEAR))
    return resized


def fit_channels(images: Pixels, channels: int) -> Pixels:
    """Grey images as colour (channels 3) or colour images as grey (channels 1, ITU-R 601 luma)."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(np.asarray(images), 3, axis=3)
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for row, image in enumerate(images):
        grey[row, ..., 0] = np.asarray(Image.fromarray(image).convert("L"))
    return grey


def from_array(image: NDArray[np.uint8]) -> Image.Image:
    """uint8 [H, W, C] -> a Pillow image."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image of mode L or RGB -> uint8 [H, W, C]."""
    array = np.asarray(image, dtype=np.uint8)
    return array[..., None] if array.ndim == 2 else array
