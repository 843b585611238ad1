"""What the layers of a list have in common: shapes, windows, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fovea.errors import ModelError
from fovea.models.words import Words

Shape = tuple[int, ...]  # (channels, height, width), or (features,) after flatten
LayerList = Sequence[Any]
Built = tuple[list[nn.Module], Shape]
Pads = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


@dataclass(frozen=True)
class Context:
    """What a layer may ask about the net it stands in."""

    num_classes: int
    initializer: str


def need_map(shape: Shape) -> tuple[int, int, int]:
    """Channels, height, width of a layer's input.

    Raises:
        ModelError: when it is flat.
    """
    if len(shape) != 3:
        raise ModelError("it needs a feature map (height, width, channels), but the map was flattened or pooled away")
    return shape[0], shape[1], shape[2]


def same_padding(words: Words, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """Keras' same padding; zeros where the padding is valid."""
    same = words.option("same")
    words.option("valid")
    if not same:
        return (0, 0), (0, 0)
    sides = []
    for length, width, step in zip(size, kernel, stride, strict=True):
        total = max((-(-length // step) - 1) * step + width - length, 0)
        sides.append((total // 2, total - total // 2))
    return sides[0], sides[1]


def window_size(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Pads
) -> tuple[int, int]:
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


def show_shape(shape: Shape) -> str:
    """(channels, height, width) -> "height x width x channels", as people write image sizes."""
    return f"{shape[1]}x{shape[2]}x{shape[0]}" if len(shape) == 3 else f"{shape[0]} numbers"
