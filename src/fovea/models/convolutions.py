"""Layers that slide over a map: convolutions and pools; and what pads or cuts it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from fovea.errors import ModelError
from fovea.models.initializers import INITIALIZERS
from fovea.models.shapes import Built, Context, Pads, Shape, need_map, same_padding, window_size
from fovea.models.words import Words


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel for itself: output channel c * M + m comes from input channel c, as in Keras."""

    def __init__(
        self, channels: int, multiplier: int, kernel: tuple[int, int], stride: tuple[int, int],
        padding: tuple[int, int], dilation: tuple[int, int], bias: bool,
    ) -> None:  # fmt: skip
        super().__init__(channels, channels * multiplier, kernel, stride, padding, dilation, groups=channels, bias=bias)


class Pad(nn.Module):
    """Pads height and width by (before, after) with a value; negative numbers cut."""

    def __init__(self, padding: Pads, value: float) -> None:
        super().__init__()
        self.padding, self.value = (*padding[1], *padding[0]), value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.padding, value=self.value)


class SameAvgPool(nn.Module):
    """An average pool with same padding: at the edges only real pixels count, as in Keras."""

    shares: torch.Tensor

    def __init__(self, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Pads) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel, stride, (*padding[1], *padding[0])
        shares = F.avg_pool2d(F.pad(torch.ones(1, 1, *size), self.padding), kernel, stride)
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.pad(x, self.padding), self.kernel_size, self.stride) / self.shares


def stride_of(words: Words, default: tuple[int, int], name: str = "stride") -> tuple[int, int]:
    """The pair after `stride` (or another word)."""
    value = words.valued(name)
    return default if value is None else Words(f"{name} {value}").pair(name)


def initialized(words: Words, context: Context, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Draw a layer's weight by the initialiser it names, or the net's; its bias is zero."""
    INITIALIZERS[words.valued("init") or context.initializer](weight)
    if bias is not None:
        nn.init.zeros_(bias)


def activated(words: Words) -> list[nn.Module]:
    """The activation that ends a line, if any."""
    activation = words.activation()
    return [] if activation is None else [activation]


@dataclass(frozen=True)
class _Placement:
    """How a kernel lies on a map: its steps, the padding that torch does, a pad where it cannot, the output's size."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    pads: list[nn.Module]
    out: tuple[int, int]


def _placement(words: Words, size: tuple[int, int], kernel: tuple[int, int]) -> _Placement:
    stride, dilation = stride_of(words, (1, 1)), stride_of(words, (1, 1), "dilation")
    reach = ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)
    padding = same_padding(words, size, reach, stride)
    out = window_size(size, reach, stride, padding)
    if all(before == after for before, after in padding):
        return _Placement(stride, dilation, (padding[0][0], padding[1][0]), [], out)
    return _Placement(stride, dilation, (0, 0), [Pad(padding, 0.0)], out)


def convolution(words: Words, shape: Shape, context: Context) -> Built:
    """conv FILTERS KERNEL ...: a convolution of all channels, or of groups of them."""
    channels, height, width = need_map(shape)
    filters, kernel = words.whole("number of filters"), words.pair("kernel size")
    place = _placement(words, (height, width), kernel)
    groups = Words(f"groups {words.valued('groups') or 1}").whole("number of groups")
    if channels % groups or filters % groups:
        raise ModelError(f"its {groups} groups do not divide {channels} channels and {filters} filters evenly")
    bias = not words.option("nobias")
    conv = nn.Conv2d(channels, filters, kernel, place.stride, place.padding, place.dilation, groups, bias)
    initialized(words, context, conv.weight, conv.bias)
    return [*place.pads, conv, *activated(words)], (filters, *place.out)


def _depthwise(words: Words, shape: Shape, context: Context, bias: bool) -> Built:
    """The convolution of each channel for itself, its kernel drawn as Keras draws it."""
    channels, height, width = need_map(shape)
    kernel = words.pair("kernel size")
    place = _placement(words, (height, width), kernel)
    multiplier = Words(f"multiplier {words.valued('multiplier') or 1}").whole("multiplier")
    conv = DepthwiseConv2d(channels, multiplier, kernel, place.stride, place.padding, place.dilation, bias)
    # Keras counts fans on [rows, columns, channels, multiplier].
    initialized(words, context, conv.weight.detach().view(channels, multiplier, *kernel).transpose(0, 1), conv.bias)
    return [*place.pads, conv], (channels * multiplier, *place.out)


def depthwise_convolution(words: Words, shape: Shape, context: Context) -> Built:
    """depthwise KERNEL ...: a convolution of each channel for itself."""
    modules, out = _depthwise(words, shape, context, bias=not words.option("nobias"))
    return [*modules, *activated(words)], out


def separable_convolution(words: Words, shape: Shape, context: Context) -> Built:
    """sepconv FILTERS KERNEL ...: each channel for itself, then all of them by 1x1."""
    filters = words.whole("number of filters")
    bias, init = not words.option("nobias"), words.valued("init")
    named = Context(context.num_classes, init or context.initializer)
    modules, (channels, *size) = _depthwise(words, shape, named, bias=False)
    pointwise = nn.Conv2d(channels, filters, 1, bias=bias)
    initialized(Words(""), named, pointwise.weight, pointwise.bias)
    return [*modules, pointwise, *activated(words)], (filters, *size)


def pool(words: Words, shape: Shape, _: Context) -> Built:
    """maxpool SIZE, avgpool SIZE ..."""
    channels, height, width = need_map(shape)
    kernel = words.pair("size")
    stride = stride_of(words, kernel)
    padding = same_padding(words, (height, width), kernel, stride)
    out = window_size((height, width), kernel, stride, padding)
    padded = any(map(any, padding))
    if words.kind == "avgpool":
        average = SameAvgPool((height, width), kernel, stride, padding) if padded else nn.AvgPool2d(kernel, stride)
        return [average], (channels, *out)
    pads: list[nn.Module] = [Pad(padding, float("-inf"))] if padded else []
    return [*pads, nn.MaxPool2d(kernel, stride)], (channels, *out)


def padded(words: Words, shape: Shape, _: Context) -> Built:
    """zeropad SIDES and crop SIDES: one number for all sides, or top,bottom,left,right."""
    channels, height, width = need_map(shape)
    sides = words.numbers("number of pixels")
    if len(sides) not in (1, 4) or any(side < 0 or side != int(side) for side in sides):
        raise ModelError("its sides are one whole number of pixels, or top,bottom,left,right")
    top, bottom, left, right = (int(side) for side in (sides * 4 if len(sides) == 1 else sides))
    if words.kind == "crop":
        top, bottom, left, right = -top, -bottom, -left, -right
    out = (height + top + bottom, width + left + right)
    if min(out) < 1:
        raise ModelError("it cuts the whole map away")
    return [Pad(((top, bottom), (left, right)), 0.0)], (channels, *out)
