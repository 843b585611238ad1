"""Where each array of a Keras layer has its place in our nets, and how its axes lie there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.models.convolutions import DepthwiseConv2d
from fovea.models.layers import PReLU


@dataclass(frozen=True)
class Slot:
    """One array.

    Attributes:
        key: its name in the net's state_dict.
        shape: in Keras.
        axes: Keras' axes in the order in which torch has them.
        torch_shape: in torch; where it has fewer axes than Keras', two of them are one.
    """

    key: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    torch_shape: tuple[int, ...]

    def to_torch(self, array: NDArray[Any]) -> torch.Tensor:
        """An array of Keras as float32 with torch's axes: the same numbers, bit for bit, where it is float32."""
        moved = np.ascontiguousarray(np.asarray(array, np.float32).transpose(self.axes))
        return torch.from_numpy(moved.reshape(self.torch_shape))

    def to_keras(self, tensor: torch.Tensor) -> NDArray[np.float32]:
        """The inverse of `to_torch`."""
        values = tensor.detach().cpu().to(torch.float32).contiguous().numpy()
        moved = values.reshape([self.shape[axis] for axis in self.axes])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.axes) if self.axes else None))


def slots_of(module: nn.Module, prefix: str) -> list[Slot]:
    """The arrays of a module in Keras' order; none for modules without weights.

    Args:
        prefix: of its names in the state_dict, with its dot.
    """
    if isinstance(module, DepthwiseConv2d):
        rows, columns = module.kernel_size
        multiplier = module.out_channels // module.in_channels
        shape = (rows, columns, module.in_channels, multiplier)
        return [_slot(module, prefix, "weight", shape, (2, 3, 0, 1)), *_bias(module, prefix)]
    if isinstance(module, nn.Conv2d):
        filters, channels, rows, columns = module.weight.shape
        kernel = _slot(module, prefix, "weight", (rows, columns, channels, filters), (3, 2, 0, 1))
        return [kernel, *_bias(module, prefix)]
    if isinstance(module, nn.Linear):
        kernel = _slot(module, prefix, "weight", (module.in_features, module.out_features), (1, 0))
        return [kernel, *_bias(module, prefix)]
    if isinstance(module, PReLU):
        slopes = (module.num_parameters,)
        return [_slot(module, prefix, "weight", (1, 1, *slopes) if module.of_map else slopes)]
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        trained = [name for name in ("weight", "bias") if getattr(module, name).requires_grad]
        names = [*trained, "running_mean", "running_var"]
        return [_slot(module, prefix, name, (module.num_features,)) for name in names]
    return []


def _slot(
    module: nn.Module, prefix: str, name: str, shape: tuple[int, ...], axes: tuple[int, ...] | None = None
) -> Slot:
    own = tuple(getattr(module, name).shape)
    assert math.prod(own) == math.prod(shape)
    return Slot(prefix + name, shape, tuple(range(len(shape))) if axes is None else axes, own)


def _bias(module: nn.Module, prefix: str) -> list[Slot]:
    return [] if module.bias is None else [_slot(module, prefix, "bias", tuple(module.bias.shape))]  # type: ignore[arg-type]


def weighted_modules(net: nn.Module) -> list[list[Slot]]:
    """The slots of each module of a net that has some, in the order in which they were built."""
    found = [slots_of(module, f"{name}." if name else "") for name, module in net.named_modules()]
    return [slots for slots in found if slots]
