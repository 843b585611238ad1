"""Weights of a convolution as tiles, and the tiles of their gradients as weights.

In memory weights lie as [outer, row, column, inner] float32, torch's channels_last; numbers of channels are multiples
of 16. What is missing to 32 of a tile's depth is zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray

from fovea.training.compiled.compiler import kernel
from fovea.training.compiled.plans import BLOCK, DEPTH, TILE_BYTES
from fovea.training.compiled.threads import run, share
from fovea.training.compiled.vectors import at, pair_rounded, weight_tile

_ZEROS = torch.zeros(BLOCK, dtype=torch.float32)


def tiles_of(weight: torch.Tensor, turned: bool = False) -> torch.Tensor:
    """float32 [outer, inner, kH, kW] -> pairs of bf16: [outer / 16, inner / 32, kH * kW, 16 pairs of inner, 16 outer].

    With `turned`, of the kernel that carries gradients back: turned by half a turn, outer and inner exchanged.
    """
    weight = weight.contiguous(memory_format=torch.channels_last)
    outer, inner, height, width = weight.shape
    first, second = (inner, outer) if turned else (outer, inner)
    tiles = torch.empty(first // BLOCK, -(-second // DEPTH), height * width, BLOCK, BLOCK, dtype=torch.int32)
    addresses = [weight.data_ptr(), tiles.data_ptr(), _ZEROS.data_ptr()]
    run(_pack_turned if turned else _pack, [outer, inner, height * width, *addresses])
    return tiles


def weights_of(sums: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """[threads, outer / 16, inner / 16, kH * kW, 16 outer, 16 inner] -> float32 [outer, inner, kH, kW], summed."""
    outer, inner, height, width = shape
    found = torch.empty(outer, height, width, inner, dtype=torch.float32)
    run(_gather, [len(sums), outer, inner, height * width, sums.data_ptr(), found.data_ptr()])
    return found.permute(0, 3, 1, 2)


@kernel
def _pack(data: Any) -> None:
    numbers = carray(data, (6,), np.int64)
    outer, inner, pixels, weight, tile, zeros = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
    )  # fmt: skip
    depth, step = (inner + DEPTH - 1) // DEPTH, 4 * pixels * inner
    begin, end = share(outer // BLOCK)
    for block in range(begin, end):
        for channels in range(depth):
            for pixel in range(pixels):
                first = weight + block * BLOCK * step + 4 * (pixel * inner + channels * DEPTH)
                missing = channels * DEPTH + BLOCK >= inner
                second = zeros if missing else first + 4 * BLOCK
                place = tile + ((block * depth + channels) * pixels + pixel) * TILE_BYTES
                weight_tile(first, second, step, 0 if missing else step, place)


@kernel
def _pack_turned(data: Any) -> None:
    numbers = carray(data, (6,), np.int64)
    outer, inner, pixels, weight, tile, zeros = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
    )  # fmt: skip
    depth, step = (outer + DEPTH - 1) // DEPTH, 4 * pixels * inner
    begin, end = share(inner // BLOCK)
    for block in range(begin, end):
        for channels in range(depth):
            for pixel in range(pixels):
                place = tile + ((block * depth + channels) * pixels + pixels - 1 - pixel) * TILE_BYTES
                for pair in range(BLOCK):
                    channel = channels * DEPTH + 2 * pair
                    first = weight + channel * step + 4 * (pixel * inner + block * BLOCK)
                    if channel < outer:
                        pair_rounded(first, first + step, place + 64 * pair)
                    else:
                        pair_rounded(zeros, zeros, place + 64 * pair)


@kernel
def _gather(data: Any) -> None:
    numbers = carray(data, (6,), np.int64)
    threads, outer, inner, pixels = numbers[0], numbers[1], numbers[2], numbers[3]
    inners = inner // BLOCK
    sums = carray(at(numbers[4]), (threads, outer // BLOCK, inners, pixels, BLOCK, BLOCK), np.float32)
    found = carray(at(numbers[5]), (outer, pixels, inner), np.float32)
    begin, end = share(outer // BLOCK)
    for block in range(begin, end):
        for channels in range(inners):
            for pixel in range(pixels):
                for row in range(BLOCK):
                    place = found[block * BLOCK + row, pixel]
                    for column in range(BLOCK):
                        place[channels * BLOCK + column] = sums[0, block, channels, pixel, row, column]
                    for thread in range(1, threads):
                        for column in range(BLOCK):
                            place[channels * BLOCK + column] += sums[thread, block, channels, pixel, row, column]
