"""The table that Keras users know: layer, output shape, parameters, and multiply-adds beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fovea.models.convolutions import SameAvgPool
from fovea.models.shapes import show_shape


@dataclass(frozen=True)
class SummaryRow:
    """One layer: `output_shape` without the batch axis, counts for one image."""

    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int

    @property
    def output(self) -> str:
        """The output's shape as text."""
        return show_shape(self.output_shape) if self.output_shape else ""


@dataclass(frozen=True)
class Summary:
    """The layers of a net in the order in which they run; prints as a table."""

    input_shape: tuple[int, int, int]
    rows: tuple[SummaryRow, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        return sum(row.trainable for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "output", "parameters", "multiply-adds")
        height, width, channels = self.input_shape
        cells = [("input", f"{height}x{width}x{channels}", "", "")]
        cells += [
            (
                row.layer,
                show_shape(row.output_shape) if row.output_shape else "",
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
            )
            for row in self.rows
        ]
        cells.append(("total", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(len(line[column]) for line in [head, *cells]) for column in range(4)]
        rule = "-" * (sum(widths) + 6)
        lines = [
            _line(head, widths),
            rule,
            *(_line(line, widths) for line in cells[:-1]),
            rule,
            _line(cells[-1], widths),
        ]
        if self.trainable != self.parameters:
            lines.append(f"trainable parameters: {self.trainable:,}")
        return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = f"{cells[0]:<{widths[0]}}  {cells[1]:<{widths[1]}}"
    return f"{left}  {cells[2]:>{widths[2]}}  {cells[3]:>{widths[3]}}".rstrip()


def count_parameters(net: nn.Module) -> int:
    """How many numbers the net's parameters hold, trained or not."""
    return sum(parameter.numel() for parameter in net.parameters())


def summarize(net: nn.Module, image_shape: tuple[int, int, int]) -> Summary:
    """Run one zero image through the net and note each leaf module as it runs.

    Args:
        image_shape: height, width, channels.

    Buffers (a batch norm's running statistics) are no parameters here; Keras counts them as non-trainable.
    """
    rows: list[SummaryRow] = []
    counted: set[int] = set()  # a layer used twice, or a tied weight, counts once
    height, width, channels = image_shape
    leaves = [module for module in net.modules() if not list(module.children())]
    hooks = [
        leaf.register_forward_hook(lambda module, _, out: rows.append(_row(module, out, counted))) for leaf in leaves
    ]
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, channels, height, width, device=_device(net)))
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    others = [parameter for parameter in net.parameters() if id(parameter) not in counted]
    if others:
        rows.append(SummaryRow("other parameters", (), *_counts(others, counted), 0))
    return Summary(image_shape, tuple(rows))


def _device(net: nn.Module) -> torch.device:
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _row(module: nn.Module, out: Any, counted: set[int]) -> SummaryRow:
    shape = tuple(out.shape[1:]) if isinstance(out, torch.Tensor) else ()
    parameters, trainable = _counts(module.parameters(), counted)
    return SummaryRow(layer_name(module), shape, parameters, trainable, _multiply_adds(module, shape))


def _counts(parameters: Iterable[nn.Parameter], counted: set[int]) -> tuple[int, int]:
    """How many numbers are new in these parameters, and how many of them are trained."""
    new = {id(parameter): parameter for parameter in parameters if id(parameter) not in counted}
    counted.update(new)
    trained = [parameter.numel() for parameter in new.values() if parameter.requires_grad]
    return sum(parameter.numel() for parameter in new.values()), sum(trained)


def layer_name(module: nn.Module) -> str:
    """What a table calls a layer: its kind, and the size of its window or its rate."""
    name = str(getattr(module, "plain_name", type(module).__name__.strip("_")))
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | SameAvgPool):
        size = module.kernel_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        return f"{name} {rows}x{columns}"
    if isinstance(module, nn.Dropout):
        return f"{name} {module.p:g}"
    return name


def _multiply_adds(module: nn.Module, shape: tuple[int, ...]) -> int:
    if isinstance(module, nn.Conv2d) and len(shape) == 3:
        return module.weight.numel() * shape[1] * shape[2]
    if isinstance(module, nn.Linear):
        return module.weight.numel() * math.prod(shape[:-1])
    return 0
