"""The patches under a small kernel as channels, so that a convolution of few channels becomes one of 1x1 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import carray

from fovea.training.compiled.compiler import compiled, kernel
from fovea.training.compiled.plans import BLOCK, DEPTH, ROW_BYTES
from fovea.training.compiled.threads import run, share
from fovea.training.compiled.vectors import at, copy_half_row, copy_row


def patches_fit(channels: int, kernel_size: Sequence[int]) -> bool:
    """Whether all numbers under a kernel are as many channels as one tile holds."""
    return channels * kernel_size[0] * kernel_size[1] <= DEPTH


def patches(x: torch.Tensor, kernel_size: Sequence[int], padding: Sequence[int]) -> torch.Tensor:
    """bf16 [B, C, H, W] -> [B, 32, H', W'] in channels_last memory: rows, columns, channels of a patch.

    What stands behind them is zeros or numbers of the image: weights for it must be 0.
    """
    (height, width), (down, across) = kernel_size, padding
    spare = 1 + BLOCK // (x.shape[3] + 2 * across)  # rows, for 16 numbers are read where a patch has fewer
    padded = F.pad(x, (across, across, down, down + spare)).contiguous(memory_format=torch.channels_last)
    images, channels, rows, columns = padded.shape
    sizes = images, rows, columns, channels, height, width, rows - spare - height + 1, columns - width + 1
    found = torch.empty((images, DEPTH, *sizes[-2:]), dtype=x.dtype, memory_format=torch.channels_last)
    zeros = torch.zeros(DEPTH, dtype=x.dtype)
    run(_unfold, [*sizes, padded.data_ptr(), found.data_ptr(), zeros.data_ptr()])
    return found


@compiled
def _exact(pixel: int, place: int, count: int, height: int, step: int) -> None:
    """One patch, and nothing behind it: rows of `count` numbers, `step` bytes apart."""
    numbers = carray(at(place), (DEPTH,), np.uint16)
    for row in range(height):
        source = carray(at(pixel + row * step), (count,), np.uint16)
        for number in range(count):
            numbers[row * count + number] = source[number]


@kernel
def _unfold(data: Any) -> None:
    numbers = carray(data, (11,), np.int64)
    images, rows, columns, channels, height, width = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
    )  # fmt: skip
    out_rows, out_columns, padded, found, zeros = numbers[6], numbers[7], numbers[8], numbers[9], numbers[10]
    count, step = width * channels, 2 * columns * channels
    begin, end = share(images)
    for line in range(begin * out_rows, end * out_rows):
        image, row = line // out_rows, line % out_rows
        pixel = padded + 2 * (image * rows + row) * columns * channels
        place = found + line * out_columns * ROW_BYTES
        for column in range(out_columns):
            copy_row(zeros, place)
            if column == out_columns - 1 or count > BLOCK:
                _exact(pixel, place, count, height, step)
            else:  # 16 numbers a row: of those too many some are written over by the next row, some stay
                for number in range(height):
                    copy_half_row(pixel + number * step, place + 2 * number * count)
            pixel += 2 * channels
            place += ROW_BYTES
