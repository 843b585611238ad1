"""Initialisers, by Keras' names. Fans of a convolution count its window, as in Keras."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from fovea.registry import Registry

# A normal cut off at two deviations has this deviation itself; Keras divides by it.
_TRUNCATED_STD = 0.87962566103423978


def _fans(weight: torch.Tensor) -> tuple[float, float]:
    window = weight[0, 0].numel() if weight.dim() > 2 else 1
    return weight.shape[1] * window, weight.shape[0] * window


def _uniform(weight: torch.Tensor, variance: float) -> None:
    limit = math.sqrt(3 * variance)
    nn.init.uniform_(weight, -limit, limit)


def _normal(weight: torch.Tensor, variance: float) -> None:
    std = math.sqrt(variance) / _TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def _average_fan(weight: torch.Tensor) -> float:
    return sum(_fans(weight)) / 2


def _dirac(weight: torch.Tensor) -> None:
    """The first filters of a convolution pass their input on; the others are torch's default."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if weight.dim() == 4:
        nn.init.dirac_(weight.data[: weight.shape[1]])


def _zeros(weight: torch.Tensor) -> None:
    nn.init.zeros_(weight)


INITIALIZERS: Registry[Callable[[torch.Tensor], None]] = Registry(
    "initializer",
    {
        "glorot_uniform": lambda weight: _uniform(weight, 1 / _average_fan(weight)),
        "glorot_normal": lambda weight: _normal(weight, 1 / _average_fan(weight)),
        "he_uniform": lambda weight: _uniform(weight, 2 / _fans(weight)[0]),
        "he_normal": lambda weight: _normal(weight, 2 / _fans(weight)[0]),
        "lecun_uniform": lambda weight: _uniform(weight, 1 / _fans(weight)[0]),
        "lecun_normal": lambda weight: _normal(weight, 1 / _fans(weight)[0]),
        "dirac": _dirac,
        "zeros": _zeros,
    },
)
