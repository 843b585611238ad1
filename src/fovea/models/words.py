"""The words of a layer line, and the activations that may end it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable

import torch
from torch import nn

from fovea.errors import ModelError
from fovea.registry import Registry


class Exponential(nn.Module):
    """exp(x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()


class HardSigmoid(nn.Module):
    """slope * x + .5, cut off at 0 and 1: Keras 3 has the slope 1/6, Keras 1 and 2 have .2."""

    def __init__(self, slope: float = 1 / 6) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.slope + 0.5).clamp(0, 1)


def _relu(most: float | None = None) -> nn.Module:
    if most is None:
        return nn.ReLU()
    if most <= 0:
        raise ModelError(f"its maximum is {most:g}, expected a number above 0")
    return nn.Hardtanh(0.0, most)


ACTIVATIONS: Registry[Callable[..., nn.Module]] = Registry(
    "activation",
    {
        "relu": _relu,
        "relu6": nn.ReLU6,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "elu": nn.ELU,
        "selu": nn.SELU,
        "mish": nn.Mish,
        "leaky_relu": lambda slope=0.3: nn.LeakyReLU(slope),
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "hard_sigmoid": HardSigmoid,
        "softplus": nn.Softplus,
        "softsign": nn.Softsign,
        "exponential": Exponential,
        "linear": nn.Identity,
    },
)
# Words of Keras that a layer line does not have -> what stands there.
KERAS_WORDS = {
    "swish": "silu",
    "activation": "the activation alone, such as relu",
    "padding": "same or valid alone",
    "strides": "stride",
    "dilation_rate": "dilation",
    "kernel_initializer": "init",
    "use_bias": "nobias where there is none",
}
NUMBERED = {"relu", "leaky_relu", "elu", "hard_sigmoid"}  # take a number where they stand alone: maximum or slope


class Words:
    """The words of one layer line, taken off one by one; what is left over at the end is a mistake."""

    def __init__(self, line: str) -> None:
        try:
            self.left = shlex.split(line)
        except ValueError:
            self.left = line.split()
        self.kind = self.left.pop(0) if self.left else ""

    def number(self, what: str) -> float:
        if not self.left:
            raise ModelError(f"it lacks its {what}")
        return read_number(self.left.pop(0), what)

    def whole(self, what: str) -> int:
        value = self.number(what)
        if value != int(value) or value < 1:
            raise ModelError(f"its {what} is {value:g}, expected a whole number of at least 1")
        return int(value)

    def pair(self, what: str) -> tuple[int, int]:
        if not self.left:
            raise ModelError(f"it lacks its {what}")
        pieces = self.left.pop(0).split("x")
        sides = [int(piece) for piece in pieces if piece.isdecimal() and int(piece) > 0]
        if len(sides) != len(pieces) or len(sides) > 2:
            raise ModelError(f"its {what} is {'x'.join(pieces)!r}, expected a size such as 3 or 3x3")
        return sides[0], sides[-1]

    def numbers(self, what: str) -> list[float]:
        """One number, or several with commas between them."""
        if not self.left:
            raise ModelError(f"it lacks its {what}")
        return [read_number(piece, what) for piece in self.left.pop(0).split(",")]

    def option(self, name: str) -> bool:
        """Whether the word `name` stands somewhere in the rest; it is taken off."""
        if name in self.left:
            self.left.remove(name)
            return True
        return False

    def valued(self, name: str) -> str | None:
        """The word after `name`, both taken off; None where `name` does not stand there."""
        if name not in self.left:
            return None
        position = self.left.index(name)
        if position + 1 == len(self.left):
            raise ModelError(f"{name!r} lacks its value")
        self.left.pop(position)
        return self.left.pop(position)

    def activation(self) -> nn.Module | None:
        """A trailing activation's module."""
        if self.left and self.left[-1] in ACTIVATIONS:
            return ACTIVATIONS[self.left.pop()]()
        return None


def read_number(text: str, what: str) -> float:
    """A number of a layer line.

    Raises:
        ModelError: for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ModelError(f"its {what} is {text!r}, expected a number")
    return value
