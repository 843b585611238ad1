"""Convolutions on AMX tiles, forward and backward, with the relu and the 2x2 max-pool that follow them.

numba compiles these functions; `convolutions` calls them on every thread with addresses. A convolution is a sum of
matrix products, one for each pixel of its kernel and each 32 channels; of its weight gradient the products go over the
positions of pairs of images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from fovea.training.compiled.compiler import compiled, kernel
from fovea.training.compiled.plans import BLOCK, DEPTH, TILE_BYTES, Geometry, lay_image, lay_pair
from fovea.training.compiled.pools import mask_image, pool_image, unpool_image
from fovea.training.compiled.threads import share, thread_number
from fovea.training.compiled.tiles import (
    MOST_SUMS,
    clear_sums,
    each_times_fixed,
    end_tiles,
    fixed_times_each,
    load_sums,
    start_tiles,
    store_sums,
)
from fovea.training.compiled.vectors import at, put_rounded, transpose_pairs

RUN = 24  # blocks of positions after which sums are put down, so that their factors stay in the nearest cache


class ForwardTask(NamedTuple):
    """What `forward` works on: addresses; `relu` and `pool` are 0 or 1.

    Attributes:
        scratch: of all threads, each with scratch_bytes; sums, whole: distances in it, see `convolutions`.
    """

    x: int
    weight: int
    bias: int
    out: int
    winners: int
    relu: int
    pool: int
    scratch: int
    scratch_bytes: int
    sums: int
    whole: int
    configuration: int


class BackwardTask(NamedTuple):
    """What `backward` works on; as above, and distances in the scratch memory from `sums` to `zeros`."""

    gradient: int
    out: int
    winners: int
    relu: int
    pool: int
    x: int
    weight: int
    bias: int
    of_input: int
    weight_sums: int
    bias_sums: int
    scratch: int
    scratch_bytes: int
    sums: int
    whole: int
    inputs: int
    tiles: int
    places: int
    zeros: int
    configuration: int


_SIZES = len(Geometry._fields)
_FORWARD, _BACKWARD = len(ForwardTask._fields), len(BackwardTask._fields)


@compiled
def _geometry(n: Any) -> Geometry:
    return Geometry(
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15]
    )


@compiled
def _forward_task(n: Any) -> ForwardTask:
    return ForwardTask(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11])


@compiled
def _backward_task(n: Any) -> BackwardTask:
    return BackwardTask(
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9],
        n[10], n[11], n[12], n[13], n[14], n[15], n[16], n[17], n[18], n[19],
    )  # fmt: skip


@compiled
def _groups(shape: Geometry) -> tuple[int, int]:
    """The groups of images of this thread."""
    return share((shape.images + shape.group - 1) // shape.group)


def _sum_over_kernel(count: int) -> Any:
    """Products of `count` blocks of positions with the weights, summed over the kernel and the channels."""
    clear, multiply, store = clear_sums[count], each_times_fixed[count], store_sums[count]

    @compiled
    def summed(positions: int, weight: int, distances: Any, sums: int) -> None:
        clear(sums)
        for distance in distances:
            first = positions + distance
            multiply(weight, first, first + TILE_BYTES, first + 2 * TILE_BYTES)
            weight += TILE_BYTES
        store(sums)

    return summed


def _sum_over_positions(count: int) -> Any:
    """Products of gradients with the inputs at `count` pixels of the kernel, added over blocks of positions."""
    load, multiply, store = load_sums[count], fixed_times_each[count], store_sums[count]

    @compiled
    def summed(gradient: int, one: int, two: int, three: int, blocks: int, sums: int) -> None:
        load(sums)
        for _ in range(blocks):
            multiply(gradient, one, two, three)
            gradient += TILE_BYTES
            one += TILE_BYTES
            two += TILE_BYTES
            three += TILE_BYTES
        store(sums)

    return summed


_one_block, _two_blocks, _three_blocks = (_sum_over_kernel(count) for count in range(1, MOST_SUMS + 1))
_one_pixel, _two_pixels, _three_pixels = (_sum_over_positions(count) for count in range(1, MOST_SUMS + 1))


@compiled
def _distances(shape: Geometry, found: Any) -> None:
    """Bytes from a position to what each product of the sum over the kernel reads."""
    pixels = shape.kernel_height * shape.kernel_width
    for step in range(len(found)):
        block, pixel = step // pixels, step % pixels
        away = pixel // shape.kernel_width * shape.pitch + pixel % shape.kernel_width
        found[step] = (block * shape.positions + away) * 64


@compiled
def _convolve(
    shape: Geometry, plan: int, count: int, weight: int, bias: int, least: Any, distances: Any, sums: int, out: int
) -> None:
    """The convolution of the `count` images of a plan, to [image, row, column, channel]."""
    blocks = (count * shape.rows * shape.pitch + BLOCK - 1) // BLOCK
    for block in range(0, blocks, MOST_SUMS):
        together = min(MOST_SUMS, blocks - block)
        position = plan + block * TILE_BYTES
        for channels in range(shape.outer // BLOCK):
            factors = weight + channels * len(distances) * TILE_BYTES
            if together == 3:
                _three_blocks(position, factors, distances, sums)
            elif together == 2:
                _two_blocks(position, factors, distances, sums)
            else:
                _one_block(position, factors, distances, sums)
            _put(shape, block * BLOCK, together * BLOCK, count, channels * BLOCK, bias, np.float32(least), sums, out)


@compiled
def _put(
    shape: Geometry, first: int, positions: int, count: int, channel: int, bias: int, least: Any, sums: int, out: int
) -> None:
    """The sums of positions that are pixels of an image to their place; the others are left out."""
    image, rest = first // (shape.rows * shape.pitch), first % (shape.rows * shape.pitch)
    row, column = rest // shape.pitch, rest % shape.pitch
    bias += 4 * channel
    position = 0
    while position < positions and image < count:
        run = min(shape.pitch - column, positions - position)
        if row < shape.out_height and column < shape.out_width:
            pixel = (image * shape.out_height + row) * shape.out_width + column
            place = out + 2 * (pixel * shape.outer + channel)
            for number in range(position, position + min(run, shape.out_width - column)):
                put_rounded(sums + number * 64, bias, least, place)
                place += 2 * shape.outer
        position, column = position + run, column + run
        if column == shape.pitch:
            column, row = 0, row + 1
        if row == shape.rows:
            row, image = 0, image + 1


@compiled
def _scratch(address: int, size: int) -> int:
    """The address of this thread's share of the scratch memory, cleared: between the images lie zeros."""
    own: int = address + thread_number() * size
    carray(at(own), (size // 8,), np.int64)[:] = 0
    return own


@compiled
def convolved(
    shape: Geometry,
    plan: int,
    sums: int,
    x: int,
    first: int,
    count: int,
    weight: int,
    bias: int,
    least: Any,
    out: int,
) -> None:
    """The convolution of `count` images from number `first` on, to `out`; all by their addresses."""
    one, depth = 2 * shape.height * shape.width * shape.inner, (shape.inner + DEPTH - 1) // DEPTH
    for image in range(count):
        lay_image(x + (first + image) * one, plan, image, shape)
    steps = shape.kernel_height * shape.kernel_width * depth
    distances = carray(at(sums + MOST_SUMS * TILE_BYTES), (steps,), np.int64)
    _distances(shape, distances)
    _convolve(shape, plan, count, weight, bias, least, distances, sums, out)


@compiled
def _pool_all(shape: Geometry, first: int, count: int, full: int, out: int, winners: int, relu: int) -> None:
    height, width, channels = shape.out_height, shape.out_width, shape.outer
    size = (shape.images, height // 2, width // 2, channels)
    pooled, places = carray(at(out), size, np.uint16), carray(at(winners), size, np.uint8)
    images = carray(at(full), (count, height, width, channels), np.uint16)
    for image in range(count):
        pool_image(images[image], pooled[first + image], places[first + image], relu)


@kernel
def forward(data: Any) -> None:
    """out = pool(relu(conv(x, weight) + bias)), for this thread's images. Numbers: a Geometry, a ForwardTask."""
    numbers = carray(data, (_SIZES + _FORWARD,), np.int64)
    shape, task = _geometry(numbers), _forward_task(numbers[_SIZES:])
    plan = _scratch(task.scratch, task.scratch_bytes)
    least = np.float32(0.0) if task.relu else np.float32(-np.inf)
    one = 2 * shape.out_height * shape.out_width * shape.outer
    begin, end = _groups(shape)
    start_tiles(task.configuration)
    for group in range(begin, end):
        first = group * shape.group
        count = min(shape.group, shape.images - first)
        place = plan + task.whole if task.pool else task.out + first * one
        convolved(shape, plan, plan + task.sums, task.x, first, count, task.weight, task.bias, least, place)
        if task.pool:
            _pool_all(shape, first, count, place, task.out, task.winners, task.relu)
    end_tiles()


@compiled
def _whole_gradient(shape: Geometry, task: BackwardTask, first: int, count: int, full: int) -> int:
    """The address of the gradient of the convolution itself, for images from `first` on: undone are pool and relu."""
    height, width, channels = shape.out_height, shape.out_width, shape.outer
    if not (task.relu or task.pool):
        return task.gradient + 2 * first * height * width * channels
    size = (shape.images, height // 2, width // 2, channels) if task.pool else (shape.images, height, width, channels)
    gradients, places = carray(at(task.gradient), size, np.uint16), carray(at(task.winners), size, np.uint8)
    results = carray(at(task.out), size, np.uint16)
    images = carray(at(full), (count, height, width, channels), np.uint16)
    for image in range(count):
        if task.pool:
            unpool_image(gradients[first + image], places[first + image], images[image])
        else:
            mask_image(gradients[first + image], results[first + image], images[image])
    return full


@compiled
def _lay_gradient(shape: Geometry, count: int, gradient: int, places: Any, zeros: int, tiles: int, sums: int) -> None:
    """Gradients of pairs of images as tiles [outer / 16, block of positions, channel, position], and their sums."""
    one = shape.out_height * shape.out_width
    pair = row = column = 0
    blocks = ((count + 1) // 2 * shape.rows * shape.pitch + BLOCK - 1) // BLOCK
    for block in range(blocks):
        for position in range(BLOCK):
            inside = column < shape.out_width and row < shape.out_height
            for other in range(2):
                image = 2 * pair + other
                pixel = image * one + row * shape.out_width + column
                found = gradient + 2 * pixel * shape.outer if inside and image < count else zeros
                places[other * BLOCK + position] = found
            column += 1
            if column == shape.pitch:
                column, row = 0, row + 1
            if row == shape.rows:
                row, pair = 0, pair + 1
        for channels in range(shape.outer // BLOCK):
            tile = tiles + (channels * shape.blocks + block) * TILE_BYTES
            transpose_pairs(places.ctypes.data, channels * 32, tile, sums + channels * 64)


@compiled
def _add_weight_gradient(shape: Geometry, count: int, gradients: int, inputs: int, sums: int) -> None:
    """Add to sums [outer / 16, inner / 16, pixel of the kernel, 16, 16] what the pairs of a plan give."""
    blocks = ((count + 1) // 2 * shape.rows * shape.pitch + BLOCK - 1) // BLOCK
    pixels, width = shape.kernel_height * shape.kernel_width, shape.kernel_width
    inner_blocks = shape.inner // BLOCK
    for begin in range(0, blocks, RUN):
        run = min(RUN, blocks - begin)
        for outer in range(shape.outer // BLOCK):
            gradient = gradients + (outer * shape.blocks + begin) * TILE_BYTES
            for inner in range(inner_blocks):
                start = inputs + (inner * shape.positions + begin * BLOCK) * 64
                place = sums + (outer * inner_blocks + inner) * pixels * TILE_BYTES
                for pixel in range(0, pixels, MOST_SUMS):
                    second, third = min(pixel + 1, pixels - 1), min(pixel + 2, pixels - 1)
                    one = start + (pixel // width * shape.pitch + pixel % width) * 64
                    two = start + (second // width * shape.pitch + second % width) * 64
                    three = start + (third // width * shape.pitch + third % width) * 64
                    if pixels - pixel >= 3:
                        _three_pixels(gradient, one, two, three, run, place + pixel * TILE_BYTES)
                    elif pixels - pixel == 2:
                        _two_pixels(gradient, one, two, three, run, place + pixel * TILE_BYTES)
                    else:
                        _one_pixel(gradient, one, two, three, run, place + pixel * TILE_BYTES)


@kernel
def backward(data: Any) -> None:
    """The gradients of a convolution's weight, bias and, if asked for, input; for this thread's images.

    Numbers: the Geometry, that of the convolution that carries gradients back, a BackwardTask. Plans of the first hold
    pairs of images, for the weight gradient, those of the second single ones.
    """
    numbers = carray(data, (2 * _SIZES + _BACKWARD,), np.int64)
    shape, turned, task = _geometry(numbers), _geometry(numbers[_SIZES:]), _backward_task(numbers[2 * _SIZES :])
    plan = _scratch(task.scratch, task.scratch_bytes)
    places, zeros = carray(at(plan + task.places), (2 * BLOCK,), np.int64), plan + task.zeros
    inputs, tiles = plan + task.inputs, plan + task.tiles
    weight_sums = _scratch(task.weight_sums, 4 * shape.kernel_height * shape.kernel_width * shape.outer * shape.inner)
    bias_sums = _scratch(task.bias_sums, 4 * shape.outer)
    one, least = 2 * shape.height * shape.width * shape.inner, np.float32(-np.inf)
    begin, end = _groups(shape)
    start_tiles(task.configuration)
    for group in range(begin, end):
        first = group * shape.group
        count = min(shape.group, shape.images - first)
        whole = _whole_gradient(shape, task, first, count, plan + task.whole)
        for pair in range((count + 1) // 2):
            image = task.x + (first + 2 * pair) * one
            alone = 2 * pair + 1 == count
            lay_pair(image, zeros if alone else image + one, 0 if alone else 1, inputs, pair, shape)
        _lay_gradient(shape, count, whole, places, zeros, tiles, bias_sums)
        _add_weight_gradient(shape, count, tiles, inputs, weight_sums)
        if task.of_input:
            place = task.of_input + first * one
            convolved(turned, plan, plan + task.sums, whole, 0, count, task.weight, task.bias, least, place)
    end_tiles()
