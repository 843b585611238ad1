"""A layer list -> torch modules, with every shape checked before training.

A layer is one line, or a mapping for a residual block:

    conv 32 5x5 same relu        conv FILTERS KERNEL [same|valid] [stride S] [nobias] [init NAME] [ACTIVATION]
    maxpool 2                    avgpool 2; [stride S] [same|valid]
    globalavgpool                globalmaxpool
    batchnorm                    [momentum .99] [epsilon .001] [noscale]
    dropout .25
    flatten
    dense 256 relu               dense classes: one unit a class; [nobias] [init NAME] [ACTIVATION]
    scale .125                   multiplies by a constant
    relu                         any ACTIVATION stands alone, too
    whiten 2x2                   only first: a frozen convolution that decorrelates patches, fitted on training images
    residual: [...]              adds the block's input (shortcut: [...] reshapes it) to its output

Defaults are Keras': valid padding, glorot_uniform kernels, zero biases, a pool's stride is its size. The net ends in
logits: a final softmax may be written and is left to the loss and to the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fovea.errors import FoveaError, ModelError
from fovea.models.initializers import INITIALIZERS
from fovea.models.whitening import PatchWhitening
from fovea.models.words import ACTIVATIONS, Words, read_number
from fovea.registry import Registry, unknown_name

Shape = tuple[int, ...]  # (channels, height, width), or (features,) after flatten
LayerList = Sequence[Any]


@dataclass(frozen=True)
class Context:
    """What a layer may ask about the net it stands in."""

    num_classes: int
    initializer: str


class Flatten(nn.Module):
    """[B, C, H, W] -> [B, H*W*C]: Keras' order, and free of copies in channels_last memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x.flatten(1)


class GlobalPool(nn.Module):
    """[B, C, H, W] -> [B, C], by mean or maximum."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) if self.kind == "average" else x.amax(dim=(2, 3))


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Residual(nn.Module):
    """block(x) + shortcut(x)."""

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block, self.shortcut = block, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.block(x) + self.shortcut(x)
        return added


class _Pad(nn.Module):
    """Pads height and width by (top, bottom, left, right) with a value."""

    def __init__(self, rows: tuple[int, int], columns: tuple[int, int], value: float) -> None:
        super().__init__()
        self.padding, self.value = (*columns, *rows), value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.padding, value=self.value)


def _need_map(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ModelError("it needs a feature map (height, width, channels), but the map was flattened or pooled away")
    return shape[0], shape[1], shape[2]


def _padding(words: Words, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Any:
    """Keras' same padding for each axis: ((top, bottom), (left, right)); zeros where the padding is valid."""
    same = words.option("same")
    words.option("valid")
    if not same:
        return (0, 0), (0, 0)
    sides = []
    for length, width, step in zip(size, kernel, stride, strict=True):
        total = max((-(-length // step) - 1) * step + width - length, 0)
        sides.append((total // 2, total - total // 2))
    return sides[0], sides[1]


def _window(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Any) -> tuple[int, int]:
    """The output height and width of a convolution or pool.

    Raises:
        ModelError: when the kernel is larger than what it slides over.
    """
    out = []
    for length, width, step, (before, after) in zip(size, kernel, stride, padding, strict=True):
        if width > length + before + after:
            raise ModelError(
                f"its window of {kernel[0]}x{kernel[1]} is larger than the map of {size[0]}x{size[1]} pixels: "
                "pool less before it, use same padding, or a larger image_size"
            )
        out.append((length + before + after - width) // step + 1)
    return out[0], out[1]


def _stride(words: Words, default: tuple[int, int]) -> tuple[int, int]:
    value = words.valued("stride")
    if value is None:
        return default
    return Words(f"stride {value}").pair("stride")


def _initialized(words: Words, context: Context, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    INITIALIZERS[words.valued("init") or context.initializer](weight)
    if bias is not None:
        nn.init.zeros_(bias)


Built = tuple[list[nn.Module], Shape]


def _conv(words: Words, shape: Shape, context: Context) -> Built:
    channels, height, width = _need_map(shape)
    filters, kernel = words.whole("number of filters"), words.pair("kernel size")
    stride = _stride(words, (1, 1))
    padding = _padding(words, (height, width), kernel, stride)
    out = _window((height, width), kernel, stride, padding)
    even = all(before == after for before, after in padding)
    bias = not words.option("nobias")
    conv = nn.Conv2d(channels, filters, kernel, stride, tuple(p[0] for p in padding) if even else 0, bias=bias)
    _initialized(words, context, conv.weight, conv.bias)
    modules = [conv] if even else [_Pad(padding[0], padding[1], 0.0), conv]
    return [*modules, *_activated(words)], (filters, *out)


def _activated(words: Words) -> list[nn.Module]:
    activation = words.activation()
    return [] if activation is None else [activation]


def _pool(words: Words, shape: Shape, _: Context) -> Built:
    channels, height, width = _need_map(shape)
    kernel = words.pair("size")
    stride = _stride(words, kernel)
    padding = _padding(words, (height, width), kernel, stride)
    out = _window((height, width), kernel, stride, padding)
    padded = any(map(any, padding))
    if words.kind == "avgpool":
        if padded:
            raise ModelError("an average pool with same padding is not supported: its edges would count the padding")
        return [nn.AvgPool2d(kernel, stride)], (channels, *out)
    pads: list[nn.Module] = [_Pad(padding[0], padding[1], float("-inf"))] if padded else []
    return [*pads, nn.MaxPool2d(kernel, stride)], (channels, *out)


def _global_pool(words: Words, shape: Shape, _: Context) -> Built:
    channels = _need_map(shape)[0]
    return [GlobalPool("average" if words.kind == "globalavgpool" else "maximum")], (channels,)


def _batch_norm(words: Words, shape: Shape, _: Context) -> Built:
    keep = read_number(words.valued("momentum") or ".99", "momentum")
    epsilon = read_number(words.valued("epsilon") or "1e-3", "epsilon")
    if not 0 <= keep < 1 or epsilon <= 0:
        raise ModelError(f"its momentum {keep:g} must lie in [0, 1) and its epsilon {epsilon:g} above 0")
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    norm = kind(shape[0], eps=epsilon, momentum=1 - keep)  # Keras' momentum is the share that is kept
    if words.option("noscale"):
        norm.weight.requires_grad_(False)
    return [norm], shape


def _dropout(words: Words, shape: Shape, _: Context) -> Built:
    rate = words.number("rate")
    if not 0 <= rate < 1:
        raise ModelError(f"its rate is {rate:g}, expected 0 or more and below 1")
    return [nn.Dropout(rate)], shape


def _flatten(words: Words, shape: Shape, _: Context) -> Built:
    size = 1
    for side in shape:
        size *= side
    return [Flatten()], (size,)


def _dense(words: Words, shape: Shape, context: Context) -> Built:
    if len(shape) != 1:
        raise ModelError("it needs a flat input: put flatten, globalavgpool or globalmaxpool before it")
    units = context.num_classes if words.option("classes") else words.whole("number of units")
    dense = nn.Linear(shape[0], units, bias=not words.option("nobias"))
    _initialized(words, context, dense.weight, dense.bias)
    return [dense, *_activated(words)], (units,)


def _whiten(words: Words, shape: Shape, _: Context) -> Built:
    channels, height, width = _need_map(shape)
    kernel = words.pair("patch size")
    out = _window((height, width), kernel, (1, 1), ((0, 0), (0, 0)))
    layer = PatchWhitening(channels, kernel)
    return [layer, *_activated(words)], (layer.out_channels, *out)


def _scale(words: Words, shape: Shape, _: Context) -> Built:
    return [Scale(words.number("factor"))], shape


LAYERS: Registry[Callable[[Words, Shape, Context], Built]] = Registry(
    "layer",
    {
        "conv": _conv,
        "maxpool": _pool,
        "avgpool": _pool,
        "globalavgpool": _global_pool,
        "globalmaxpool": _global_pool,
        "batchnorm": _batch_norm,
        "dropout": _dropout,
        "flatten": _flatten,
        "dense": _dense,
        "scale": _scale,
        "whiten": _whiten,
    },
)


def build_layers(
    layers: LayerList, image_shape: tuple[int, int, int], num_classes: int, initializer: str
) -> nn.Sequential:
    """Build a net from a layer list. Weights are drawn from torch's global generator.

    Args:
        layers: lines and residual blocks, see the top of this file.
        image_shape: height, width, channels of the input.

    Returns:
        A module from float32 [B, C, H, W] to logits [B, num_classes].

    Raises:
        ModelError: names the layer, its input shape and the reason.
    """
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
        raise ModelError("A layer list is a list of lines such as 'conv 32 3x3 same relu'; it holds at least one.")
    height, width, channels = image_shape
    lines = list(layers)
    if lines[-1] == "softmax":
        lines.pop()
    elif isinstance(lines[-1], str) and lines[-1].endswith(" softmax"):
        lines[-1] = lines[-1].removesuffix(" softmax")
    modules, shape = _build_chain(lines, (channels, height, width), Context(num_classes, initializer), "layer")
    if shape != (num_classes,):
        raise ModelError(
            f"The net ends in {show_shape(shape)}, expected {num_classes} numbers, one a class: "
            "end it with 'dense classes' (after flatten or a global pool)."
        )
    return nn.Sequential(*modules)


def _build_chain(layers: LayerList, shape: Shape, context: Context, place: str) -> tuple[list[nn.Module], Shape]:
    modules: list[nn.Module] = []
    for number, layer in enumerate(layers, start=1):
        where = f"{place} {number}"
        built, shape = _build_layer(layer, shape, context, where)
        modules += built
    return modules, shape


def _build_layer(layer: Any, shape: Shape, context: Context, where: str) -> Built:
    if isinstance(layer, dict):
        return _build_residual(layer, shape, context, where)
    words = Words(str(layer))
    try:
        if words.kind in ACTIVATIONS:
            built: Built = ([ACTIVATIONS[words.kind]()], shape)
        elif words.kind in LAYERS:
            built = LAYERS[words.kind](words, shape, context)
        else:
            raise unknown_name("layer", words.kind, [*LAYERS, *ACTIVATIONS, "residual"])
        if words.left:
            raise ModelError(f"{' '.join(words.left)!r} is not understood there")
    except (FoveaError, RuntimeError, MemoryError) as error:  # torch cannot hold a layer of that size
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(f"In {where} ({layer!r}), whose input is {show_shape(shape)}: {reason}.") from None
    return built


def _build_residual(layer: dict[str, Any], shape: Shape, context: Context, where: str) -> Built:
    chains = [layer.get("residual"), layer.get("shortcut") or []]
    if (
        set(layer) - {"residual", "shortcut"}
        or not layer.get("residual")
        or not all(isinstance(c, list) for c in chains)
    ):
        raise ModelError(
            f"In {where} ({layer!r}): a block is written residual: [...] with, if needed, shortcut: [...]."
        )
    block, out = _build_chain(layer["residual"], shape, context, f"{where}, residual layer")
    shortcut, aside = _build_chain(layer.get("shortcut") or [], shape, context, f"{where}, shortcut layer")
    if out != aside:
        raise ModelError(
            f"In {where} (residual), whose input is {show_shape(shape)}: the block gives {show_shape(out)} and the "
            f"shortcut {show_shape(aside)}; they must be equal to be added. Give it a shortcut: [conv ...]."
        )
    return [Residual(nn.Sequential(*block), nn.Sequential(*shortcut))], out


def show_shape(shape: Shape) -> str:
    """(channels, height, width) -> "height x width x channels", as people write image sizes."""
    return f"{shape[1]}x{shape[2]}x{shape[0]}" if len(shape) == 3 else f"{shape[0]} numbers"
