"""Arrays and tables of pixels on their way to a trained net, some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.new_images import NewImages, batch_of_one_size, shape_of_images
from fovea.data.pixels import Range, check_images, range_of_new_images, to_uint8
from fovea.data.readers.pixel_table import TableStream
from fovea.delivery.image_inputs import BATCH_ROWS, BATCH_VALUES, Reading
from fovea.errors import DataError

Chunks = Callable[[int], Iterator[NDArray[Any]]]  # (rows) -> the array from its beginning, so many rows at a time


def batches_of_array(
    chunks: Chunks, shape: tuple[int, ...], dtype: np.dtype[Any], where: str, reading: Reading
) -> Iterator[NewImages]:
    """The images of an array of any numeric dtype; ids are row numbers from 0, as NumPy counts.

    Args:
        chunks: reads the array; called twice where its values have to be looked at first.
        shape: [N, H, W], [N, H, W, C], [N, H*W*C] as the net has it, or of one image [H, W] or [H, W, C].

    Raises:
        DataError: for an array that holds no images, or values unlike those of the training.
    """
    shape = shape_of_images(shape, reading.preprocessor.image_shape)
    # One value seen through the whole shape: a check that reads nothing.
    check_images(np.broadcast_to(np.zeros((), np.uint8 if dtype.kind in "biuf" else dtype), shape), where)
    if shape[0] == 0:
        raise DataError(f"{where} holds no images.")
    rows = batch_rows(shape[1:])
    trained = reading.preprocessor.input_range
    # uint8 says by itself what it means; of other values all are looked at, for one scale must hold for all.
    input_range = None if dtype == np.uint8 else _range_of_all(chunks, rows, shape, dtype, trained, where)
    done = 0
    for part in _parts(chunks, rows, shape):
        if dtype == np.uint8:
            input_range = range_of_new_images(part, trained, where)
        pixels = np.asarray(to_uint8(part, input_range))
        yield batch_of_one_size(pixels, np.arange(done, done + len(part)))
        done += len(part)
        reading.progress("predicting", done, shape[0])


def batch_rows(shape: tuple[int, ...]) -> int:
    """How many images of a shape make a batch."""
    return max(1, min(BATCH_ROWS, BATCH_VALUES // max(1, math.prod(shape))))


def _parts(chunks: Chunks, rows: int, shape: tuple[int, ...]) -> Iterator[Any]:
    """Parts of the array, [n, H, W, C]."""
    image = (*shape[1:], 1) if len(shape) == 3 else shape[1:]
    for chunk in chunks(shape[1] if shape[0] == 1 else rows):  # the one image is its rows
        yield chunk.reshape(-1, *image)


def _range_of_all(
    chunks: Chunks, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any], trained: Range | None, where: str
) -> Range | None:
    low, high, done = math.inf, -math.inf, 0
    for part in _parts(chunks, rows, shape):
        check_images(part, f"{where} (from row {done:,} on)")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        done += len(part)
    both_ends = np.array([low, high]).astype(dtype).reshape(1, 1, 2, 1)
    return range_of_new_images(both_ends, trained, where)


def batches_of_table(stream: TableStream, where: str, num_bytes: int, reading: Reading) -> Iterator[NewImages]:
    """The images of a table of pixels; ids are those of its column, else row numbers from 1, as Kaggle counts.

    Args:
        num_bytes: of its text; 0: not known.

    Raises:
        DataError: at the line where a block is no such table.
    """
    trained = reading.preprocessor.input_range
    input_range: Range | None = None
    done = 0
    for images, ids, text_read in _regrouped(stream):
        checked = check_images(images, where)
        fitting = range_of_new_images(checked, trained, where)
        if done == 0:
            input_range = fitting
        elif input_range != fitting and (high := float(np.asarray(checked).max())) > 1:
            scale = "fractions of 1" if input_range == (0.0, 1.0) else "values up to 255"
            raise DataError(
                f"{where} begins with {scale}, but row {done + 1:,} or one soon after it is of another kind (up to "
                f"{high:g}): give all images in one scale."
            )
        names = np.arange(done + 1, done + 1 + len(images)) if ids is None else ids
        yield batch_of_one_size(np.asarray(to_uint8(checked, input_range)), names)
        done += len(images)
        if num_bytes >= 1_000_000:
            reading.progress("predicting, MB of text", text_read // 1_000_000, num_bytes // 1_000_000)
        else:
            reading.progress("predicting", done, 0)


def _regrouped(stream: TableStream) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, int]]:
    """The blocks of a table as batches, with the bytes of text that were read so far."""
    images: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None
    text_read = 0
    for more, more_ids, num_bytes in stream.blocks:
        text_read += num_bytes
        images = more if images is None else np.concatenate([images, more])
        ids = more_ids if ids is None or more_ids is None else np.concatenate([ids, more_ids])
        rows = batch_rows(images.shape[1:])
        while len(images) >= rows:
            yield images[:rows], None if ids is None else ids[:rows], text_read
            images, ids = images[rows:], None if ids is None else ids[rows:]
    if images is not None and len(images):
        yield images, ids, text_read
