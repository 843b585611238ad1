"""Convolutions of torch tensors by the compiled kernels: values, gradients, and a layer that uses them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fovea.training.compiled.convolution_kernels import BackwardTask, ForwardTask, backward, forward
from fovea.training.compiled.plans import BLOCK, DEPTH, TILE_BYTES, Geometry, geometry, images_together
from fovea.training.compiled.threads import run
from fovea.training.compiled.tiles import MOST_SUMS, tile_configuration
from fovea.training.compiled.weights import tiles_of, weights_of

_CONFIGURATION = tile_configuration()


class _Memory:
    """Pieces of one scratch buffer for each thread, in bytes, each at a multiple of 64."""

    def __init__(self) -> None:
        self.size = 0

    def piece(self, size: int) -> int:
        start, self.size = self.size, self.size + -(-size // 64) * 64
        return start

    def of_threads(self) -> torch.Tensor:
        return torch.empty(self.size * torch.get_num_threads(), dtype=torch.uint8)


def _plan_bytes(shape: Geometry) -> int:
    return -(-shape.inner // DEPTH) * DEPTH * 2 * shape.positions


def _sums_bytes(shape: Geometry) -> int:
    """Three tiles, and the distance of each product."""
    return MOST_SUMS * TILE_BYTES + 8 * shape.kernel_height * shape.kernel_width * -(-shape.inner // DEPTH)


def _whole_bytes(shape: Geometry) -> int:
    return 2 * shape.group * shape.out_height * shape.out_width * shape.outer


def _images(*size: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Memory for [B, C, H, W] in channels_last."""
    return torch.empty(size, dtype=dtype, memory_format=torch.channels_last)


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Sequence[int], relu: bool, pool: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """pool(relu(conv(x, weight) + bias)), of stride 1.

    Args:
        x: bf16 [B, C_in, H, W] in channels_last memory; channels are multiples of 16.
        weight: float32 [C_out, C_in, kH, kW]. bias: float32 [C_out].
        pool: 2x2 with a stride of 2.

    Returns:
        bf16 [B, C_out, H', W'], and with a pool the pixel of each 2x2 that won, uint8 of the same shape.
    """
    shape = _geometry(x, weight, padding)
    down = 2 if pool else 1
    size = (shape.images, shape.outer, shape.out_height // down, shape.out_width // down)
    out, winners = _images(*size), _images(*size, dtype=torch.uint8) if pool else None
    tiles = tiles_of(weight)
    added = torch.zeros(shape.outer, dtype=torch.float32) if bias is None else bias
    memory = _Memory()
    memory.piece(_plan_bytes(shape))
    sums, whole = memory.piece(_sums_bytes(shape)), memory.piece(_whole_bytes(shape) if pool else 0)
    scratch = memory.of_threads()
    task = ForwardTask(
        x=x.data_ptr(), weight=tiles.data_ptr(), bias=added.data_ptr(), out=out.data_ptr(), winners=_address(winners),
        relu=relu, pool=pool, scratch=scratch.data_ptr(), scratch_bytes=memory.size, sums=sums, whole=whole,
        configuration=_CONFIGURATION.ctypes.data,
    )  # fmt: skip
    run(forward, [*shape, *task])
    return out, winners


def convolution_gradients(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, padding: Sequence[int], relu: bool,
    out: torch.Tensor | None, winners: torch.Tensor | None, of_input: bool,
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The gradients of `convolve`: of x (bf16), of weight (float32) and of bias (float32).

    Args:
        gradient: of the output, bf16 in channels_last memory.
        out: the output, where a relu and no pool came after the convolution.
        winners: of the pool.
    """
    shape, threads = _geometry(x, weight, padding), torch.get_num_threads()
    kernel = (shape.kernel_height, shape.kernel_width)
    back = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
    behind = (shape.out_height, shape.out_width)
    turned = geometry(shape.images, behind, shape.outer, shape.inner, kernel, back, shape.group)
    result = torch.empty_like(x) if of_input else None
    tiles = tiles_of(weight, turned=True) if of_input else None
    blocks = (shape.outer // BLOCK, shape.inner // BLOCK, kernel[0] * kernel[1], BLOCK, BLOCK)
    weight_sums = torch.zeros(threads, *blocks, dtype=torch.float32)
    bias_sums, no_bias = (
        torch.zeros(threads, shape.outer, dtype=torch.float32),
        torch.zeros(shape.inner, dtype=torch.float32),
    )
    memory = _Memory()
    memory.piece(_plan_bytes(turned))
    pieces = {
        "sums": memory.piece(_sums_bytes(turned)),
        "whole": memory.piece(_whole_bytes(shape) if relu or winners is not None else 0),
        "inputs": memory.piece(4 * shape.inner * shape.positions),
        "tiles": memory.piece(4 * shape.outer * shape.blocks * BLOCK),
        "places": memory.piece(8 * 2 * BLOCK),
        "zeros": memory.piece(2 * max(shape.outer, shape.inner)),
    }
    scratch = memory.of_threads()
    task = BackwardTask(
        gradient=gradient.data_ptr(), out=_address(out), winners=_address(winners), relu=relu,
        pool=winners is not None, x=x.data_ptr(), weight=_address(tiles), bias=no_bias.data_ptr(),
        of_input=_address(result), weight_sums=weight_sums.data_ptr(), bias_sums=bias_sums.data_ptr(),
        scratch=scratch.data_ptr(), scratch_bytes=memory.size, **pieces, configuration=_CONFIGURATION.ctypes.data,
    )  # fmt: skip
    run(backward, [*shape, *turned, *task])
    return result, weights_of(weight_sums, weight.shape), bias_sums.sum(0)


def _geometry(x: torch.Tensor, weight: torch.Tensor, padding: Sequence[int]) -> Geometry:
    images, inner, height, width = x.shape
    kernel, pads = (weight.shape[2], weight.shape[3]), (padding[0], padding[1])
    group = images_together(images, (height + pads[0]) * (width + pads[1]), torch.get_num_threads())
    return geometry(images, (height, width), inner, weight.shape[0], kernel, pads, group)


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
