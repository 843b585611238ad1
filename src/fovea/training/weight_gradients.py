"""Weight gradients of convolutions that are faster on a CPU than torch's own, and convolutions that use them.

torch's kernels work along the rows of one image at a time. On CPUs with matrix units a row of 3 or 7 pixels leaves most
of a unit empty: there the images of a batch are laid side by side (STRIPS), or their patches copied into one matrix
(IM2COL). Sums are taken in another order, so the last bits differ from torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from fovea.training.kernels import IM2COL, STRIPS

STRIP_PIXELS = 64  # about the width at which wider strips gained nothing, by `make bench-kernels`


class _OwnGradientConv2d(nn.Conv2d):
    """A convolution whose weight gradient is computed by WEIGHT_GRADIENTS[way]."""

    plain_name = "Conv2d"
    way: ClassVar[str]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"):
            return super().forward(x)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), self.weight.to(dtype)
        else:
            weight = self.weight
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out: torch.Tensor = _Convolution.apply(x, weight, bias, self.stride, self.padding, self.way)  # type: ignore[no-untyped-call]
        return out


class Im2colConv2d(_OwnGradientConv2d):
    """Its weight gradient is one matrix product over the patches of its input."""

    way = IM2COL


class StripsConv2d(_OwnGradientConv2d):
    """Its weight gradient is torch's own over images laid side by side."""

    way = STRIPS


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any, way: str
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.way, ctx.has_bias = stride, padding, way, bias is not None
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
        of_weight = WEIGHT_GRADIENTS[ctx.way](gradient, x, weight.shape, ctx.stride, ctx.padding)
        return of_input, of_weight, of_bias, None, None, None


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


def strips_weight_gradient(
    gradient: torch.Tensor,
    x: torch.Tensor,
    shape: torch.Size,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """The same by torch's own kernel, several images side by side in each of fewer, wider ones.

    Columns of zeros between the images stand for the padding at their sides; they take no part in the sum, as the
    gradient is zero there. A stride of 1 only.
    """
    across = padding[1]
    pitch = x.shape[3] + across
    images = max(2, round(STRIP_PIXELS / pitch))
    tail = max(0, shape[3] - 1 - 2 * across)  # so that the last image, too, yields `pitch` columns of output
    wide_x = side_by_side(x, images, pitch, tail)
    wide_gradient = side_by_side(gradient, images, pitch)
    weight = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)  # its shape and layout are read
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        wide_gradient, wide_x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    return found


def side_by_side(x: torch.Tensor, images: int, pitch: int, tail: int = 0) -> torch.Tensor:
    """[B, C, H, W] -> [ceil(B / images), C, H, images * pitch + tail], channels last, zeros where no image lies."""
    batch, channels, height, width = x.shape
    strips = -(-batch // images)
    out = x.new_empty(strips, height, images * pitch + tail, channels)
    out[:, :, images * pitch :].zero_()
    body = out[:, :, : images * pitch].view(strips, height, images, pitch, channels)
    body[:, :, :, width:].zero_()
    rows, full = x.permute(0, 2, 3, 1), batch // images
    body[:full, :, :, :width] = rows[: full * images].reshape(full, images, height, width, channels).transpose(1, 2)
    if full < strips:
        rest = batch - full * images
        body[full, :, :rest, :width] = rows[full * images :].transpose(0, 1)
        body[full, :, rest:].zero_()
    return out.permute(0, 3, 1, 2)


WEIGHT_GRADIENTS: dict[str, Callable[..., torch.Tensor]] = {
    IM2COL: im2col_weight_gradient,
    STRIPS: strips_weight_gradient,
}
