"""How images lie for the matrix unit: plans in which a pixel of a convolution's kernel is a constant distance.

The images of a group lie one below the other, `rows` rows of `pitch` columns each, with zeros where a convolution
pads; the zeros after a row are the next one's zeros before it. So 16 neighbouring positions fill a tile whatever the
size of a map. What falls between the images is computed too and left out. Numbers are bf16; images are [image, row,
column, channel], plans [channels / per tile, position, channels per tile], so that a tile is one run of 1024 bytes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fovea.training.compiled.compiler import compiled
from fovea.training.compiled.vectors import copy_half_row, copy_row, pair_rows

BLOCK = 16  # positions, or channels, along the side of a tile
DEPTH = 32  # channels of a position that a tile holds of single images
TILE_BYTES, ROW_BYTES = 1024, 64
GROUP_BLOCKS = 32  # small maps are put together until about so many blocks of positions are full


class Geometry(NamedTuple):
    """A convolution and the plan of its input; sizes in pixels and channels.

    Attributes:
        images: of the batch. group: of them in one plan, an even number.
        inner, outer: channels of the input and of the output.
        pitch, rows: of an image in the plan.
        blocks: of 16 positions in a full plan. positions: with those that are read past its end.
    """

    images: int
    height: int
    width: int
    inner: int
    out_height: int
    out_width: int
    outer: int
    kernel_height: int
    kernel_width: int
    padding_height: int
    padding_width: int
    pitch: int
    rows: int
    group: int
    blocks: int
    positions: int


def images_together(images: int, positions: int, threads: int) -> int:
    """How many images of so many positions lie in one plan: an even number, with work left for each thread."""
    pairs_a_thread = math.ceil(math.ceil(images / 2) / threads)
    return 2 * max(1, min(pairs_a_thread, GROUP_BLOCKS * BLOCK // (2 * positions)))


def geometry(
    images: int, size: tuple[int, int], inner: int, outer: int, kernel: tuple[int, int], padding: tuple[int, int],
    group: int,
) -> Geometry:  # fmt: skip
    """The plan for a convolution of stride 1 whose padding is smaller than its kernel."""
    (height, width), (kernel_height, kernel_width), (down, across) = size, kernel, padding
    pitch, rows = width + across, height + down
    blocks = -(-group * rows * pitch // BLOCK)
    read = blocks * BLOCK + (kernel_height - 1) * pitch + kernel_width - 1
    return Geometry(
        images, height, width, inner,
        height + 2 * down - kernel_height + 1, width + 2 * across - kernel_width + 1, outer,
        kernel_height, kernel_width, down, across, pitch, rows, group, blocks,
        max(read, (group * rows + down) * pitch + across),
    )  # fmt: skip


@compiled
def _place_of(shape: Geometry, number: int, row: int) -> int:
    """The position of the first pixel of a row of the image with that number in its plan."""
    return (number * shape.rows + row + shape.padding_height) * shape.pitch + shape.padding_width


@compiled
def lay_image(image: int, plan: int, number: int, shape: Geometry) -> None:
    """An image into its place in a plan [channels / 32, position, 32]; channels that are missing stay 0."""
    for row in range(shape.height):
        start = plan + _place_of(shape, number, row) * ROW_BYTES
        for block in range((shape.inner + DEPTH - 1) // DEPTH):
            whole = (block + 1) * DEPTH <= shape.inner
            pixel = image + 2 * (row * shape.width * shape.inner + block * DEPTH)
            place = start + block * shape.positions * ROW_BYTES
            for _ in range(shape.width):
                if whole:
                    copy_row(pixel, place)
                else:
                    copy_half_row(pixel, place)
                pixel += 2 * shape.inner
                place += ROW_BYTES


@compiled
def lay_pair(one: int, other: int, other_step: int, plan: int, number: int, shape: Geometry) -> None:
    """Two images into [channels / 16, position, 16 pairs]; with a step of 0 the other is one row of zeros."""
    for row in range(shape.height):
        for block in range(shape.inner // BLOCK):
            away = 2 * (row * shape.width * shape.inner + block * BLOCK)
            pixel, second = one + away, other + other_step * away
            place = plan + (block * shape.positions + _place_of(shape, number, row)) * ROW_BYTES
            for _ in range(shape.width):
                pair_rows(pixel, second, place)
                pixel += 2 * shape.inner
                second += other_step * 2 * shape.inner
                place += ROW_BYTES
