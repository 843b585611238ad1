"""A convolution layer, with the relu and the pool that follow it, that trains by the compiled kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from fovea.training.compiled.convolutions import convolution_gradients, convolve
from fovea.training.compiled.patches import patches, patches_fit
from fovea.training.compiled.plans import BLOCK
from fovea.training.kernels import tiles_hold


def convolution_fits(layer: nn.Module) -> bool:
    """Whether the kernels compute such a layer."""
    if type(layer) is not nn.Conv2d or not isinstance(layer.padding, tuple) or layer.padding_mode != "zeros":
        return False
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.weight.dtype == torch.float32
    return plain and tiles_hold(layer.out_channels, layer.kernel_size, layer.stride, layer.padding)


class TilesConv2d(nn.Conv2d):
    """A convolution and, where `relu` and `pool` are set, what follows it. Parameters are those of the convolution."""

    plain_name = "Conv2d"
    relu = False
    pool = False

    def take_over(self, following: nn.Module | None) -> bool:
        """Do what the layer behind this one does, too; False where that cannot be."""
        if type(following) is nn.ReLU and not self.relu:
            self.relu = True
            return True
        if type(following) is nn.MaxPool2d and not self.pool and _halves(following):
            self.pool = True
            return True
        return False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        learns = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        plain = self.weight.dtype == torch.float32 and x.device.type == "cpu"
        if learns and plain and torch.is_autocast_enabled("cpu"):
            return self._by_tiles(x.to(torch.bfloat16))
        x = super().forward(x)
        x = F.relu(x) if self.relu else x
        return F.max_pool2d(x, 2) if self.pool else x

    def _by_tiles(self, x: torch.Tensor) -> torch.Tensor:
        weight, padding = self.weight, self.padding
        if patches_fit(self.in_channels, self.kernel_size) and not x.requires_grad:
            x, padding = patches(x, self.kernel_size, self.padding), (0, 0)  # type: ignore[arg-type]
            weight = weight.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]
        elif x.shape[1] % BLOCK:
            x = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % BLOCK))
        if x.shape[1] > weight.shape[1]:
            weight = F.pad(weight, (0, 0, 0, 0, 0, x.shape[1] - weight.shape[1]))
        x = x.contiguous(memory_format=torch.channels_last)
        out: torch.Tensor = _Tiles.apply(x, weight, self.bias, padding, self.relu, self.pool)  # type: ignore[no-untyped-call]
        return out


def _halves(pool: nn.MaxPool2d) -> bool:
    sizes = [size if isinstance(size, tuple) else (size, size) for size in (pool.kernel_size, pool.stride)]
    plain = pool.padding in (0, (0, 0)) and pool.dilation in (1, (1, 1)) and not pool.ceil_mode
    return plain and sizes == [(2, 2), (2, 2)] and not pool.return_indices


class _Tiles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, padding: Any, relu: bool, pool: bool
    ) -> torch.Tensor:
        out, winners = convolve(x, weight, bias, padding, relu, pool)
        ctx.save_for_backward(x, weight, out if relu and not pool else None, winners)
        ctx.padding, ctx.relu, ctx.has_bias = padding, relu, bias is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight, out, winners = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_input, of_weight, of_bias = convolution_gradients(
            gradient, x, weight, ctx.padding, ctx.relu, out, winners, ctx.needs_input_grad[0]
        )
        return of_input, of_weight, of_bias if ctx.has_bias else None, None, None, None
