"""Max-pools of 2x2 pixels at a stride of 2, together with a relu; a kernel of one image, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.training.compiled.compiler import compiled

NO_WINNER = 4  # relu made all four pixels 0, so that none has a gradient


@compiled
def _order(bits: Any) -> Any:
    """bf16 as whole numbers of the same order; what is not a number comes last."""
    number = np.int16(bits)
    return number ^ ((number >> np.int16(15)) & np.int16(0x7FFF))


@compiled
def pool_image(full: Any, out: Any, winners: Any, relu: int) -> None:
    """[row, column, channel] -> a quarter of it, and which pixel won: 0 to 3 by rows, of equals the first.

    Where `relu` is set the pixels are 0 or more, and NO_WINNER stands for a largest pixel of 0.
    """
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            first, second = full[2 * row, 2 * column], full[2 * row, 2 * column + 1]
            third, fourth = full[2 * row + 1, 2 * column], full[2 * row + 1, 2 * column + 1]
            values, places = out[row, column], winners[row, column]
            for channel in range(out.shape[2]):
                best, place = first[channel], np.uint8(0)
                if _order(second[channel]) > _order(best):
                    best, place = second[channel], np.uint8(1)
                if _order(third[channel]) > _order(best):
                    best, place = third[channel], np.uint8(2)
                if _order(fourth[channel]) > _order(best):
                    best, place = fourth[channel], np.uint8(3)
                values[channel] = best
                places[channel] = place
            if relu:
                for channel in range(out.shape[2]):
                    if values[channel] == 0:
                        places[channel] = np.uint8(NO_WINNER)


@compiled
def unpool_image(gradient: Any, winners: Any, full: Any) -> None:
    """The gradient of a pooled image to the pixels that won: [row, column, channel], all of it written."""
    rows, columns = 2 * gradient.shape[0], 2 * gradient.shape[1]
    full[rows:] = 0
    full[:, columns:] = 0
    for row in range(rows):
        for column in range(columns):
            number = np.uint8(2 * (row % 2) + column % 2)
            values, places = gradient[row // 2, column // 2], winners[row // 2, column // 2]
            place = full[row, column]
            for channel in range(full.shape[2]):
                place[channel] = values[channel] if places[channel] == number else np.uint16(0)


@compiled
def mask_image(gradient: Any, values: Any, out: Any) -> None:
    """The gradient of a relu: what it left above 0 passes."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for channel in range(out.shape[2]):
                passes = np.int16(values[row, column, channel]) > 0
                out[row, column, channel] = gradient[row, column, channel] if passes else np.uint16(0)
