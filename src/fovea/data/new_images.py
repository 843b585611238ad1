"""New images on their way to a trained net: fitted to its input, held against its training images, adapted if asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.adapt import adapt_images, fit_sizes
from fovea.data.guard import Comparison, InputProfile, compare, compare_sizes
from fovea.data.imageset import ImageSet
from fovea.data.pixels import check_images, fit_channels, off_torch, range_of_new_images, to_uint8
from fovea.data.preprocess import Preprocessor
from fovea.errors import DataError

_COLOURFUL = 8.0  # mean distance between the highest and the lowest channel from which on an image is no grey one


@dataclass(frozen=True, eq=False)
class NewImages:
    """A batch of images to be answered.

    Attributes:
        pixels: uint8 [N, h, w, C] of one size, or N arrays uint8 [h, w, C] of any sizes; C is 1 or 3.
        ids: file names or row numbers, [N].
        sizes: int64 [N, 2], height and width as they came (files may have been resized when they were decoded).
    """

    pixels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
    ids: NDArray[Any]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class FittedImages:
    """The same images as the net will see them.

    Attributes:
        images: uint8 [N, H, W, C].
        ids: [N].
        sizes: int64 [N, 2], height and width as they came.
        comparison: how they differ from the training images, as they came.
        adapted: what was done to them ("inverted", "centred") -> which images, bool [N]; empty where nothing was asked.
        still: how they differ once adapted; the same as `comparison` where nothing was asked.
    """

    images: NDArray[np.uint8]
    ids: NDArray[Any]
    sizes: NDArray[np.int64]
    comparison: Comparison
    adapted: dict[str, NDArray[np.bool_]]
    still: Comparison

    def __len__(self) -> int:
        return len(self.ids)


def from_array(preprocessor: Preprocessor, images: Any) -> NewImages:
    """Arrays of raw values, mapped to 0..255 as the training images were.

    Args:
        images: an ImageSet, which keeps its ids; one image [H, W] or [H, W, C], or many [N, H, W], [N, H, W, C] or
            [N, H * W * C], which are numbered.

    Raises:
        DataError: for arrays that are no images, or whose values lie far outside those of the training images.
    """
    if isinstance(images, ImageSet):  # its values were mapped when it was made
        return batch_of_one_size(np.asarray(images.images), images.ids)
    images = off_torch(images)
    try:
        array = np.asarray(images)
    except ValueError:
        raise DataError("The images are of unequal size and make no array: predict them one by one.") from None
    if array.dtype.kind in "OUS":
        raise DataError(
            "The images are no array of numbers: read them first, or answer for files with `fovea predict`."
        )
    array = array.reshape(shape_of_images(array.shape, preprocessor.image_shape))
    checked = check_images(array, "the array")
    pixels = np.asarray(to_uint8(checked, range_of_new_images(checked, preprocessor.input_range, "the array")))
    return batch_of_one_size(pixels, np.arange(len(pixels)))


def shape_of_images(shape: tuple[int, ...], own: tuple[int, int, int]) -> tuple[int, ...]:
    """[N, H, W] or [N, H, W, C] of what may also be one image, or N rows of all values of an image of shape `own`."""
    if len(shape) == 2:
        return (shape[0], *own) if shape[1] == math.prod(own) else (1, *shape)
    if len(shape) == 3 and shape[2] in (1, 3) and shape[1] > 3:
        return (1, *shape)
    return shape


def batch_of_one_size(pixels: NDArray[np.uint8], ids: NDArray[Any]) -> NewImages:
    """Images uint8 [N, h, w, C] with their ids."""
    return NewImages(pixels, ids, np.tile(np.array(pixels.shape[1:3], np.int64), (len(pixels), 1)))


def fit_new_images(
    preprocessor: Preprocessor, profile: InputProfile | None, new: NewImages, adapt: bool
) -> FittedImages:
    """Give new images the net's size and channels, and hold them against the training images.

    Args:
        profile: of the training images; None: they are not known, and nothing is unlike them.
        adapt: whether to make those that are unlike the training images like them (see `adapt_images`).

    Raises:
        DataError: when they are to be made like training images that are not known.
    """
    height, width, channels = preprocessor.image_shape
    unlike_channels = _colour_before_grey(new.pixels) if channels == 1 else {}
    pixels = _with_channels(new.pixels, channels)
    images = fit_sizes(pixels, (height, width))
    if profile is None:
        if adapt:
            raise DataError("The model was imported: no training images are known that images could be made like.")
        nothing = Comparison({}, {})
        return FittedImages(images, new.ids, new.sizes, nothing, {}, nothing)
    found = compare(profile, images)
    as_they_came = {**compare_sizes(profile, new.sizes), **unlike_channels}
    comparison = Comparison({**found.outside, **as_they_came}, found.values)
    if not adapt or not comparison.outside:
        return FittedImages(images, new.ids, new.sizes, comparison, {}, comparison)
    images, adapted = adapt_images(profile, pixels, (height, width))
    still = compare(profile, images)
    left = {name: which & ~adapted["centred"] for name, which in as_they_came.items()}
    left = {name: which for name, which in left.items() if which.any()}
    still = Comparison({**still.outside, **left}, still.values)
    return FittedImages(images, new.ids, new.sizes, comparison, adapted, still)


def _with_channels(pixels: Any, channels: int) -> Any:
    if isinstance(pixels, np.ndarray):
        return fit_channels(pixels, channels)
    return [np.asarray(fit_channels(image[None], channels))[0] for image in pixels]


def _colour_before_grey(pixels: Any) -> dict[str, NDArray[np.bool_]]:
    """Images in colour before a net of grey ones. (Grey ones before a net of colour have too little "colour".)"""
    which = np.array([_is_colourful(image) for image in pixels], np.bool_)
    return {"channels": which} if which.any() else {}


def _is_colourful(image: NDArray[np.uint8]) -> bool:
    return image.shape[2] == 3 and float((image.max(axis=2) - image.min(axis=2)).mean()) > _COLOURFUL
