"""Nets by name, each a layer list; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fovea.registry import Registry

ImageShape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class ZooEntry:
    """A named net: how its layers follow from the image's shape, and one line about it."""

    layers: Callable[[ImageShape], list[Any]]
    description: str
    initializer: str = "glorot_uniform"


def _small(shape: ImageShape) -> list[Any]:
    """Groups of two convolutions, the first of them pooled, until the map is 3 to 5 pixels wide; at least two groups.

    After the airbench nets (Jordan, arXiv 2404.00498): pool before norm and activation, dirac initialisation,
    norms without a gain, a global maximum at the end and a scaled head.
    """
    side = min(shape[0], shape[1])
    widths = [32, 64, 64] if shape[2] == 1 else [64, 128, 128]
    norm = ["batchnorm momentum .6 epsilon 1e-5 noscale", "gelu"]
    layers: list[Any] = []
    for group in range(6):
        if side < (4 if group < 2 else 6):
            break
        width = widths[min(group, len(widths) - 1)]
        layers += [
            f"conv {width} 3x3 same nobias",
            "maxpool 2",
            *norm,
            f"conv {width} 3x3 same nobias",
            *norm,
        ]
        side //= 2
    return [*layers, "globalmaxpool", "dense classes nobias init glorot_uniform", "scale .2"]


def _airbench(*widths: int) -> Callable[[ImageShape], list[Any]]:
    """Three groups of two convolutions behind a frozen patch whitening; a group's first is pooled before its norm.

    After airbench94 (Jordan, arXiv 2404.00498), whose widths are 64, 256, 256; with SiLU, which takes half the time of
    GELU on a CPU.
    """

    def layers(_: ImageShape) -> list[Any]:
        norm = ["batchnorm momentum .6 epsilon 1e-5 noscale", "silu"]
        found: list[Any] = ["whiten 2x2 silu"]
        for width in widths:
            convolution = f"conv {width} 3x3 same nobias"
            found += [convolution, "maxpool 2", *norm, convolution, *norm]
        return [*found, "globalmaxpool", "dense classes nobias init glorot_uniform", "scale .2"]

    return layers


def _strided(*widths: int) -> Callable[[ImageShape], list[Any]]:
    """The same behind a whitening of 4x4 patches at a stride of 2, which leaves the maps that the first pool would.

    The first group, a quarter of the work now, is not pooled.
    """

    def layers(shape: ImageShape) -> list[Any]:
        _, first, pool, *others = _airbench(*widths)(shape)
        assert pool == "maxpool 2", "the layer that the stride stands for"
        return ["whiten 4x4 stride 2 silu", first, *others]

    return layers


def _airbench_residual(*widths: int) -> Callable[[ImageShape], list[Any]]:
    """The same with a third convolution a group and a sum over the last two, after airbench96 (ibid.)."""

    def layers(_: ImageShape) -> list[Any]:
        norm = "batchnorm momentum .9 epsilon 1e-5 noscale"
        found: list[Any] = ["whiten 2x2 silu"]
        for width in widths:
            convolution = f"conv {width} 3x3 same nobias"
            block = [convolution, norm, "silu", convolution, norm]
            found += [convolution, "maxpool 2", norm, "silu", {"residual": block}, "silu"]
        return [*found, "globalmaxpool", "dense classes nobias init glorot_uniform", "scale .2"]

    return layers


def _lenet5(_: ImageShape) -> list[Any]:
    return [
        "conv 6 5x5 same tanh",
        "avgpool 2",
        "conv 16 5x5 tanh",
        "avgpool 2",
        "flatten",
        "dense 120 tanh",
        "dense 84 tanh",
        "dense classes",
    ]


def _basic_block(width: int, stride: int, project: bool) -> dict[str, Any]:
    block: dict[str, Any] = {
        "residual": [
            f"conv {width} 3x3 same stride {stride} nobias",
            "batchnorm momentum .9",
            "relu",
            f"conv {width} 3x3 same nobias",
            "batchnorm momentum .9",
        ]
    }
    if project:
        block["shortcut"] = [f"conv {width} 1x1 same stride {stride} nobias", "batchnorm momentum .9"]
    return block


def _resnet20(_: ImageShape) -> list[Any]:
    layers: list[Any] = ["conv 16 3x3 same nobias", "batchnorm momentum .9", "relu"]
    for group, width in enumerate((16, 32, 64)):
        for block in range(3):
            first = group > 0 and block == 0
            layers += [_basic_block(width, 2 if first else 1, first), "relu"]
    return [*layers, "globalavgpool", "dense classes"]


def _wide_block(width: int, stride: int, project: bool) -> dict[str, Any]:
    """Pre-activation: norm and activation come before each convolution."""
    block: dict[str, Any] = {
        "residual": [
            "batchnorm momentum .9",
            "relu",
            f"conv {width} 3x3 same stride {stride} nobias",
            "batchnorm momentum .9",
            "relu",
            f"conv {width} 3x3 same nobias",
        ]
    }
    if project:
        block["shortcut"] = [f"conv {width} 1x1 same stride {stride} nobias"]
    return block


def _wide_resnet(_: ImageShape) -> list[Any]:
    layers: list[Any] = ["conv 16 3x3 same nobias"]
    for group, width in enumerate((64, 128, 256)):
        for block in range(2):
            layers.append(_wide_block(width, 2 if group > 0 and block == 0 else 1, block == 0))
    return [*layers, "batchnorm momentum .9", "relu", "globalavgpool", "dense classes"]


def _p0(_: ImageShape) -> list[Any]:
    pair = ["conv 64 3x3 same relu", "conv 64 3x3 same relu", "maxpool 2", "dropout .2"]
    return [*pair, *pair, "conv 128 3x3 same relu", "flatten", "dense 64 relu", "dense classes"]


def _p1(_: ImageShape) -> list[Any]:
    return [
        "conv 32 5x5 same relu",
        "conv 32 5x5 same relu",
        "maxpool 2",
        "dropout .25",
        "conv 64 3x3 same relu",
        "conv 64 3x3 same relu",
        "maxpool 2 stride 2",
        "dropout .25",
        "flatten",
        "dense 256 relu",
        "dropout .25",
        "dense classes",
    ]


def _p2(first: str, second: str, units: int, rate: float) -> Callable[[ImageShape], list[Any]]:
    def layers(_: ImageShape) -> list[Any]:
        convolutions = [f"conv {first} relu", "maxpool 2", f"conv {second} relu", "maxpool 2"]
        return [*convolutions, "flatten", f"dense {units} relu", f"dropout {rate:g}", "dense classes"]

    return layers


def _p3(_: ImageShape) -> list[Any]:
    return [
        "conv 256 5x5 same relu",
        "conv 256 5x5 same relu",
        "conv 128 5x5 same relu",
        "flatten",
        "dense 328 relu",
        "dense 192 relu",
        "dropout .5",
        "dense classes",
    ]


def _p4_dense(_: ImageShape) -> list[Any]:
    return ["flatten", "dense 128 relu", "dense classes"]


def _p4_conv(_: ImageShape) -> list[Any]:
    return [
        "conv 64 3x3 relu",
        "maxpool 2",
        "conv 64 3x3 relu",
        "maxpool 2",
        "flatten",
        "dense 128 relu",
        "dense classes",
    ]


def _p4_conv1(_: ImageShape) -> list[Any]:
    return ["conv 32 3x3 relu", "maxpool 2", "flatten", "dense 128 relu", "dense classes"]


MODELS: Registry[ZooEntry] = Registry(
    "model",
    {
        "small": ZooEntry(_small, "the default: groups of two convolutions, as many as the image allows", "dirac"),
        "airbench-tiny": ZooEntry(_airbench(32, 64, 64), "airbench94's form at widths 32, 64, 64", "dirac"),
        "strided-tiny": ZooEntry(
            _strided(32, 64, 64), "airbench-tiny behind a stride of 2, two thirds of the time", "dirac"
        ),
        "airbench-small": ZooEntry(_airbench(64, 128, 128), "airbench94's form at widths 64, 128, 128", "dirac"),
        "airbench94": ZooEntry(_airbench(64, 256, 256), "after Jordan (arXiv 2404.00498), 2.0 M parameters", "dirac"),
        "airbench96": ZooEntry(_airbench_residual(128, 384, 512), "the same, residual, 9.9 M parameters", "dirac"),
        "lenet5": ZooEntry(_lenet5, "LeNet-5 (LeCun et al. 1998), with plain pooling and a dense output"),
        "resnet20": ZooEntry(_resnet20, "ResNet-20 for small images (He et al. 2015), 0.27 M parameters", "he_normal"),
        "wideresnet16-4": ZooEntry(_wide_resnet, "wide ResNet 16-4 (Zagoruyko and Komodakis 2016), 2.7 M", "he_normal"),
        "p0": ZooEntry(_p0, "five convolutions of the program that fits twice"),
        "p1": ZooEntry(_p1, "the Digit Recognizer net, 0.89 M parameters on 28x28"),
        "p2-first": ZooEntry(_p2("256 3x3", "128 2x2", 1024, 0.5), "the CIFAR-10 question's first net"),
        "p2-edited": ZooEntry(_p2("64 3x3", "256 3x3", 512, 0.3), "the CIFAR-10 question's edited net", "he_normal"),
        "p2-answer": ZooEntry(_p2("64 3x3", "256 2x2", 1024, 0.4), "the CIFAR-10 question's answer net", "he_normal"),
        "p3": ZooEntry(_p3, "the translation study's net, 35 M parameters on 28x28"),
        "p4-dense": ZooEntry(_p4_dense, "one hidden layer"),
        "p4-conv": ZooEntry(_p4_conv, "two convolutions, 0.24 M parameters on 28x28"),
        "p4-conv1": ZooEntry(_p4_conv1, "one convolution, 0.69 M parameters on 28x28"),
    },
)
