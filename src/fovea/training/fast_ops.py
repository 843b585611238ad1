"""Layers of the same meaning as torch's own that train faster on a CPU.

They change a net in place and leave its parameters, their names and its answers as they are: what is saved is read
back by the plain net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from fovea.training.kernels import IM2COL


def use_fast_ops(net: nn.Module, kernels: Mapping[str, str]) -> None:
    """Exchange the layers of a net that have a faster equal.

    Args:
        kernels: names of convolutions (as in `named_modules`) -> how their weight gradient is computed, where not by
            torch.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            _pool_before_relu(module)
        elif type(module) is nn.Dropout:
            module.__class__ = BulkDropout
        elif type(module) is nn.Conv2d and kernels.get(name) == IM2COL:
            module.__class__ = Im2colConv2d


def _pool_before_relu(chain: nn.Sequential) -> None:
    """relu, maxpool -> maxpool, relu: a quarter of the work, the same bits, as relu never changes an order."""
    for name, following in zip(list(chain._modules), list(chain._modules)[1:], strict=False):
        pair = chain._modules[name], chain._modules[following]
        if type(pair[0]) is nn.ReLU and type(pair[1]) is nn.MaxPool2d:
            chain._modules[name], chain._modules[following] = pair[1], pair[0]


class BulkDropout(nn.Dropout):
    """Dropout whose mask is made from the bytes of random words, drawn all at once.

    torch draws one bit after the other, in one thread. The generator (SFC64) is seeded from torch's: the mask is a
    function of (seed, step) as torch's own is, though not the same one.
    """

    plain_name = "Dropout"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p in (0.0, 1.0) or x.device.type != "cpu":
            return super().forward(x)
        return x * dropout_mask(x, self.p)


def dropout_mask(like: torch.Tensor, rate: float) -> torch.Tensor:
    """0 with probability `rate`, else 1 / (1 - rate): shape, dtype and memory format of `like`.

    The rate is rounded to 1/256 where that is exact, else to 1/65536, and the scale follows the rounded rate.
    """
    bits = 8 if float(rate * 256).is_integer() else 16
    levels = 1 << bits
    threshold = round(rate * levels)
    seed = int(torch.randint(2**62, ()))
    kind: Any = np.uint8 if bits == 8 else np.uint16
    count = like.numel()
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(0, 2**64, -(-count * bits // 64), dtype=np.uint64).view(kind)[:count]
    kept = torch.from_numpy(words >= threshold)
    mask = torch.empty_like(like)  # dense, in the strides of `like`: what lies next to what does not matter
    flat = mask.as_strided((count,), (1,))
    torch.mul(kept, levels / (levels - threshold), out=flat) if threshold < levels else flat.zero_()
    return mask


class Im2colConv2d(nn.Conv2d):
    """A convolution whose weight gradient is one matrix product over the patches of its input.

    For wide layers on small maps, where torch's own runs far below the speed of a matrix product.
    """

    plain_name = "Conv2d"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"):
            return super().forward(x)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), self.weight.to(dtype)
        else:
            weight = self.weight
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: torch.Tensor = _Im2colConvolution.apply(x, weight, bias, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return out


class _Im2colConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.has_bias = stride, padding, bias is not None
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        of_bias = gradient.sum(dim=(0, 2, 3)) if ctx.has_bias else None
        return of_input, im2col_weight_gradient(gradient, x, weight.shape, ctx.stride, ctx.padding), of_bias, None, None


def im2col_weight_gradient(
    gradient: torch.Tensor,
    x: torch.Tensor,
    shape: torch.Size,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """The gradient of a convolution's kernel: [C_out, C_in, kH, kW].

    Args:
        gradient: of the output, [B, C_out, H', W'].
        x: the input, [B, C_in, H, W], of the same dtype.
        shape: of the kernel.
    """
    out_channels, in_channels, height, width = shape
    batch, _, rows, columns = gradient.shape
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1).contiguous()
    by_image, by_row, by_column, _ = padded.stride()
    # In this order of memory a row of a patch is one run of kW * C_in numbers.
    patches = padded.as_strided(
        (batch, rows, columns, height, width * in_channels),
        (by_image, by_row * stride[0], by_column * stride[1], by_row, 1),
    ).reshape(batch * rows * columns, height * width * in_channels)
    flat = gradient.permute(0, 2, 3, 1).reshape(-1, out_channels)
    return (flat.T @ patches).view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)
