"""A layer list -> torch modules, with every shape checked before training.

A layer is one line, or a mapping for branches:

    conv 32 5x5 same relu        conv FILTERS KERNEL [same|valid] [stride S] [dilation D] [groups G] [nobias]
                                 [init NAME] [ACTIVATION]
    depthwise 3x3                each channel for itself; [multiplier M] and the words of conv
    sepconv 32 3x3               the same, then all channels by 1x1; FILTERS KERNEL and the words of depthwise
    maxpool 2                    avgpool 2; [stride S] [same|valid]
    globalavgpool                globalmaxpool
    zeropad 1                    crop 1; one number of pixels, or top,bottom,left,right
    batchnorm                    [momentum .99] [epsilon .001] [noscale] [nocenter]
    dropout .25
    flatten
    dense 256 relu               dense classes: one unit a class; [nobias] [init NAME] [ACTIVATION]
    scale .125                   multiplies by a constant; [offset O]; also one number a channel: .5,.5,.25
    normalize mean 3 variance 2  (x - mean) / sqrt(variance); also one number a channel
    relu                         any ACTIVATION stands alone, too; then leaky_relu .3, elu 1 and hard_sigmoid .2 may
                                 name their slope, relu 1 its maximum
    prelu                        a slope of its own for each channel, trained
    whiten 2x2                   only first: a frozen convolution that decorrelates patches, fitted on training images;
                                 [stride S]
    residual: [...]              adds the block's input (shortcut: [...] reshapes it) to its output
    concat: [[...], [...]]       the channels of all branches, one after the other

Defaults are Keras': valid padding, glorot_uniform kernels, zero biases, a pool's stride is its size. The net ends in
logits: a final softmax may be written and is left to the loss and to the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fovea.errors import FoveaError, ModelError
from fovea.models.convolutions import (
    activated,
    convolution,
    depthwise_convolution,
    initialized,
    padded,
    pool,
    separable_convolution,
    stride_of,
)
from fovea.models.shapes import Built, Context, LayerList, Shape, need_map, show_shape, window_size
from fovea.models.whitening import PatchWhitening
from fovea.models.words import ACTIVATIONS, KERAS_WORDS, NUMBERED, Words, read_number
from fovea.registry import Registry, unknown_name


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
    """Multiplies by a constant and adds one, or one a channel: x * factor + offset."""

    factors: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, factors: Sequence[float], offsets: Sequence[float] = (0.0,)) -> None:
        super().__init__()
        self.factor = factors[0] if len(factors) == 1 else None
        self.offset = offsets[0] if len(offsets) == 1 else None
        self.register_buffer("factors", _of_channels(factors), persistent=False)
        self.register_buffer("offsets", _of_channels(offsets), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * (self.factors if self.factor is None else self.factor)
        return x if self.offset == 0 else x + (self.offsets if self.offset is None else self.offset)


class Normalize(nn.Module):
    """(x - mean) / sqrt(variance), of all values or of each channel: Keras' Normalization."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, mean: Sequence[float], variance: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", _of_channels(mean), persistent=False)
        self.register_buffer("deviation", _of_channels(variance).sqrt().clamp(min=1e-7), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.deviation


def _of_channels(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


class PReLU(nn.PReLU):
    """max(0, x) + slope * min(0, x) with a trained slope for each channel; it begins as Keras', at 0."""

    def __init__(self, channels: int, of_map: bool) -> None:
        super().__init__(channels, init=0.0)
        self.of_map = of_map


class Residual(nn.Module):
    """block(x) + shortcut(x)."""

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block, self.shortcut = block, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.block(x) + self.shortcut(x)
        return added


class Concat(nn.Module):
    """The channels of all branches, one after the other."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _global_pool(words: Words, shape: Shape, _: Context) -> Built:
    channels = need_map(shape)[0]
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
    if words.option("nocenter"):
        norm.bias.requires_grad_(False)
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
    initialized(words, context, dense.weight, dense.bias)
    return [dense, *activated(words)], (units,)


def _whiten(words: Words, shape: Shape, _: Context) -> Built:
    channels, height, width = need_map(shape)
    kernel = words.pair("patch size")
    stride = stride_of(words, (1, 1))
    out = window_size((height, width), kernel, stride, ((0, 0), (0, 0)))
    layer = PatchWhitening(channels, kernel, stride)
    return [layer, *activated(words)], (layer.out_channels, *out)


def _values(words: Words, name: str, shape: Shape, default: str) -> list[float]:
    """The numbers after `name`: one, or one a channel."""
    values = Words(f"{name} {words.valued(name) or default}").numbers(name)
    if len(values) != 1 and (len(shape) != 3 or len(values) != shape[0]):
        raise ModelError(f"its {name} has {len(values)} numbers, expected 1, or of a map one a channel")
    return values


def _scale(words: Words, shape: Shape, _: Context) -> Built:
    if not words.left:
        raise ModelError("it lacks its factor")
    words.left.insert(0, "factor")
    return [Scale(_values(words, "factor", shape, ""), _values(words, "offset", shape, "0"))], shape


def _normalize(words: Words, shape: Shape, _: Context) -> Built:
    need_map(shape)
    mean, variance = _values(words, "mean", shape, "0"), _values(words, "variance", shape, "1")
    if min(variance) < 0:
        raise ModelError("its variance is negative")
    return [Normalize(mean, variance)], shape


def _prelu(_: Words, shape: Shape, __: Context) -> Built:
    return [PReLU(shape[0], len(shape) == 3)], shape


LAYERS: Registry[Callable[[Words, Shape, Context], Built]] = Registry(
    "layer",
    {
        "conv": convolution,
        "depthwise": depthwise_convolution,
        "sepconv": separable_convolution,
        "maxpool": pool,
        "avgpool": pool,
        "zeropad": padded,
        "crop": padded,
        "globalavgpool": _global_pool,
        "globalmaxpool": _global_pool,
        "batchnorm": _batch_norm,
        "dropout": _dropout,
        "flatten": _flatten,
        "dense": _dense,
        "scale": _scale,
        "normalize": _normalize,
        "prelu": _prelu,
        "whiten": _whiten,
    },
)


def build_layers(
    layers: LayerList, image_shape: tuple[int, int, int], num_classes: int, initializer: str
) -> nn.Sequential:
    """Build a net from a layer list. Weights are drawn from torch's global generator.

    Args:
        layers: lines and branches, see the top of this file.
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
    modules, shape = build_chain(lines, (channels, height, width), Context(num_classes, initializer), "layer")
    if shape != (num_classes,):
        raise ModelError(
            f"The net ends in {show_shape(shape)}, expected {num_classes} numbers, one a class: "
            "end it with 'dense classes' (after flatten or a global pool)."
        )
    return nn.Sequential(*modules)


def build_chain(layers: LayerList, shape: Shape, context: Context, place: str) -> tuple[list[nn.Module], Shape]:
    """The modules of the layers of a list and the shape of their output, for an input of `shape`.

    Args:
        place: what a layer is called in a message, before its number.

    Raises:
        ModelError: names the layer, its input shape and the reason.
    """
    modules: list[nn.Module] = []
    for number, layer in enumerate(layers, start=1):
        where = f"{place} {number}"
        built, shape = _build_layer(layer, shape, context, where)
        modules += built
    return modules, shape


def _build_layer(layer: Any, shape: Shape, context: Context, where: str) -> Built:
    if isinstance(layer, dict):
        return (_build_concat if "concat" in layer else _build_residual)(layer, shape, context, where)
    words = Words(str(layer))
    try:
        if words.kind in ACTIVATIONS:
            slope = [words.number("slope")] if words.left and words.kind in NUMBERED else []
            built: Built = ([ACTIVATIONS[words.kind](*slope)], shape)
        elif words.kind in LAYERS:
            built = LAYERS[words.kind](words, shape, context)
        else:
            name = words.kind.partition("(")[0] or words.kind  # Conv2D(32, ...): a call
            raise unknown_name("layer", name, [*LAYERS, *ACTIVATIONS, "residual", "concat"], KERAS_WORDS)
        if words.left:
            hints = [f"; Keras' {word} here: {KERAS_WORDS[word]}" for word in words.left if word in KERAS_WORDS]
            raise ModelError(f"{' '.join(words.left)!r} is not understood there{''.join(hints[:1])}")
    except (FoveaError, RuntimeError, MemoryError, OverflowError) as error:  # torch cannot hold a layer of that size
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
    block, out = build_chain(layer["residual"], shape, context, f"{where}, residual layer")
    shortcut, aside = build_chain(layer.get("shortcut") or [], shape, context, f"{where}, shortcut layer")
    if out != aside:
        raise ModelError(
            f"In {where} (residual), whose input is {show_shape(shape)}: the block gives {show_shape(out)} and the "
            f"shortcut {show_shape(aside)}; they must be equal to be added. Give it a shortcut: [conv ...]."
        )
    return [Residual(nn.Sequential(*block), nn.Sequential(*shortcut))], out


def _build_concat(layer: dict[str, Any], shape: Shape, context: Context, where: str) -> Built:
    chains = layer["concat"]
    if set(layer) != {"concat"} or not isinstance(chains, list) or not all(isinstance(c, list) for c in chains):
        raise ModelError(f"In {where} ({layer!r}): it is written concat: [[...], [...]], one list a branch.")
    built = [
        build_chain(chain, shape, context, f"{where}, branch {number}, layer") for number, chain in enumerate(chains, 1)
    ]
    shapes = [out for _, out in built]
    if len(built) < 2 or any(out[1:] != shapes[0][1:] for out in shapes):
        found = ", ".join(map(show_shape, shapes)) or "none"
        raise ModelError(
            f"In {where} (concat), whose input is {show_shape(shape)}: its branches give {found}; expected two or more "
            "of one height and width."
        )
    channels = sum(out[0] for out in shapes)
    return [Concat([nn.Sequential(*modules) for modules, _ in built])], (channels, *shapes[0][1:])
