"""How each convolution is computed: by compiled kernels, from a shipped table, or as measured by --autotune.

All ways give the same numbers up to rounding. TILES does the whole layer, the others its weight gradient. Which is
faster depends on shape, dtype, CPU feature and threads; the choice stands in config.yaml, so that a run's bytes never
hang on a measurement of the moment.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any

import torch
import yaml
from torch import nn

from fovea.evaluation.predictions import cpu_has_bf16
from fovea.settings import TrainingSettings
from fovea.training.compiled.available import why_not

IM2COL, STRIPS, TORCH, TILES = "im2col", "strips", "torch", "tiles"
TABLE = "kernels.yaml"
TILE_CHANNELS = 16
SHORTEST_BUDGET_SECONDS = 60.0
FEWEST_OPERATIONS = 3e12  # forward and backward: about five seconds of two cores; loading the kernels takes one


@dataclass(frozen=True)
class ConvolutionShape:
    """What a convolution works on; sizes in pixels.

    Attributes:
        batch: images; height, width: of the output map.
    """

    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def products(self) -> int:
        """Multiplications of one forward pass of the batch."""
        pixels = self.batch * self.height * self.width
        return pixels * self.in_channels * self.out_channels * self.kernel[0] * self.kernel[1]

    @property
    def words(self) -> str:
        """Readable, and the key of tables: "256>256 3x3 on 3x3"."""
        return f"{self.in_channels}>{self.out_channels} {self.kernel[0]}x{self.kernel[1]} on {self.height}x{self.width}"


def convolution_shapes(net: nn.Module, image_shape: tuple[int, int, int], batch: int) -> dict[str, ConvolutionShape]:
    """The plain convolutions of a net, by module name, with the shapes they meet in training."""
    found: dict[str, ConvolutionShape] = {}
    names = {module: name for name, module in net.named_modules() if type(module) is nn.Conv2d}

    def note(module: nn.Module, _: Any, out: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        if module.groups == 1 and module.dilation == (1, 1) and not isinstance(module.padding, str):
            kernel, stride = (module.kernel_size[0], module.kernel_size[1]), (module.stride[0], module.stride[1])
            padding = (module.padding[0], module.padding[1])
            sizes = (module.in_channels, module.out_channels, out.shape[2], out.shape[3])
            found[names[module]] = ConvolutionShape(batch, *sizes, kernel, stride, padding)

    handles = [module.register_forward_hook(note) for module in names]
    was_training = net.training
    height, width, channels = image_shape
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, channels, height, width))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def strips_fit(kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether images laid side by side give a convolution's weight gradient; sizes as (height, width)."""
    return tuple(stride) == (1, 1) and 2 * padding[1] < kernel[1]


def tiles_hold(out_channels: int, kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> bool:
    """Whether the compiled kernels compute a plain convolution of these sizes, each (height, width)."""
    inside = all(0 <= pad < size for pad, size in zip(padding, kernel, strict=True))
    return out_channels % TILE_CHANNELS == 0 and inside and tuple(stride) == (1, 1)


def tiles_fit(shape: ConvolutionShape) -> bool:
    """Whether the compiled kernels compute such a convolution."""
    return tiles_hold(shape.out_channels, shape.kernel, shape.stride, shape.padding)


def tiles_pay(shapes: Mapping[str, ConvolutionShape], steps: int) -> bool:
    """Whether a training is long enough to make up for loading the compiled kernels."""
    return 6 * steps * sum(shape.products for shape in shapes.values() if tiles_fit(shape)) >= FEWEST_OPERATIONS


def possible_kernels(kernels: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The kernels that config.yaml names, without those that this machine cannot run, and the line that says so."""
    reason = why_not() if TILES in kernels.values() else None
    if reason is None:
        return dict(kernels), []
    left = {name: way for name, way in kernels.items() if way != TILES}
    lost = len(kernels) - len(left)
    counted = "1 convolution by tiles is" if lost == 1 else f"{lost} convolutions by tiles are"
    return left, [f"{counted} left to torch, whose last bits are others: {reason}"]


@cache
def shipped_table() -> list[dict[str, Any]]:
    """Rules in order: of those for a CPU and its threads the first that fits a convolution says how it is done."""
    text = resources.files("fovea.training").joinpath(TABLE).read_text(encoding="utf-8")
    rules: list[dict[str, Any]] = yaml.safe_load(text)["weight_gradient"]
    return rules


def table_kernels(
    shapes: Mapping[str, ConvolutionShape], settings: TrainingSettings, tiles: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Module name -> algorithm where it is another than torch's own, and the lines that say so.

    Args:
        tiles: compiled kernels are to be used where they fit; for the rest the shipped table is asked.
    """
    compiled = _compiled(shapes, tiles)
    feature = cpu_has_bf16() or "none"
    rules = [rule for rule in shipped_table() if (rule["feature"], rule["precision"]) == (feature, settings.precision)]
    threads = _nearest({rule["threads"] for rule in rules}, settings.threads or torch.get_num_threads())
    rules = [rule for rule in rules if rule["threads"] == threads]
    chosen = {name: _by_rules(shape, rules) for name, shape in shapes.items() if name not in compiled}
    kernels = {name: kernel for name, kernel in chosen.items() if kernel != TORCH}
    counted = f"{threads} thread{'' if threads == 1 else 's'}"
    lines = _lines(compiled, shapes, f"compiled for {feature}")
    return {**compiled, **kernels}, lines + _lines(kernels, shapes, f"by the shipped table for {feature} and {counted}")


def _nearest(measured: set[int], threads: int) -> int:
    """The number of threads that was measured nearest to the one that trains; in doubt the smaller."""
    return min(measured, key=lambda count: (abs(count - threads), count), default=threads)


def tuned_kernels(
    shapes: Mapping[str, ConvolutionShape], settings: TrainingSettings, tiles: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Module name -> algorithm where another than torch's own is measured to be at least 5 % faster now.

    Args:
        tiles: compiled kernels are to be used where they fit; the rest is measured.
    """
    compiled = _compiled(shapes, tiles)
    kernels, lines = {}, []
    with torch.random.fork_rng(devices=[]):
        for name, shape in shapes.items():
            if name in compiled:
                continue
            seconds = time_kernels(shape, settings.precision)
            fastest = min(seconds, key=lambda way: seconds[way])
            if seconds[fastest] < 0.95 * seconds[TORCH]:
                kernels[name] = fastest
            shown = ", ".join(f"{way} {found * 1000:.2f} ms" for way, found in seconds.items())
            lines.append(f"autotune {shape.words}: weight gradient {shown}")
    lines += _lines(compiled, shapes, "compiled, not measured") + _lines(kernels, shapes, "as measured")
    return {**compiled, **kernels}, lines


def _compiled(shapes: Mapping[str, ConvolutionShape], tiles: bool) -> dict[str, str]:
    return {name: TILES for name, shape in shapes.items() if tiles and tiles_fit(shape)}


def _lines(kernels: Mapping[str, str], shapes: Mapping[str, ConvolutionShape], reason: str) -> list[str]:
    lines = []
    for way in dict.fromkeys(kernels.values()):
        names = [name for name, kernel in kernels.items() if kernel == way]
        places = ", ".join(dict.fromkeys(shapes[name].words for name in names))
        what = "forward and backward" if way == TILES else "weight gradient"
        lines.append(f"{what} by {way} of {len(names)} of {len(shapes)} convolutions ({places}): {reason}")
    return lines


def _by_rules(shape: ConvolutionShape, rules: Sequence[Mapping[str, Any]]) -> str:
    if shape.kernel != (3, 3):
        return TORCH
    for rule in rules:
        if rule["way"] == STRIPS and not strips_fit(shape.kernel, shape.stride, shape.padding):
            continue
        small = shape.height * shape.width <= rule["largest_map"] ** 2
        if small and min(shape.in_channels, shape.out_channels) >= rule["fewest_channels"]:
            return str(rule["way"])
    return TORCH


def time_kernels(shape: ConvolutionShape, precision: str, repeats: int = 7) -> dict[str, float]:
    """Algorithm -> median seconds of one weight gradient of that shape."""
    from fovea.training.weight_gradients import WEIGHT_GRADIENTS

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = (shape.height - 1) * shape.stride[0] + shape.kernel[0] - 2 * shape.padding[0]
    columns = (shape.width - 1) * shape.stride[1] + shape.kernel[1] - 2 * shape.padding[1]

    def tensor(*size: int) -> torch.Tensor:
        return torch.randn(*size).to(dtype).contiguous(memory_format=torch.channels_last)

    x = tensor(shape.batch, shape.in_channels, rows, columns)
    gradient = tensor(shape.batch, shape.out_channels, shape.height, shape.width)
    weight = tensor(shape.out_channels, shape.in_channels, *shape.kernel)
    ways: dict[str, Callable[[], Any]] = {
        TORCH: lambda: torch.ops.aten.convolution_backward(
            gradient, x, weight, None, shape.stride, shape.padding, [1, 1], False, [0, 0], 1, [False, True, False]
        ),
    }
    for name, own in WEIGHT_GRADIENTS.items():
        if name != STRIPS or strips_fit(shape.kernel, shape.stride, shape.padding):
            ways[name] = partial(own, gradient, x, weight.shape, shape.stride, shape.padding)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat >= 2:  # first calls make the primitives of a shape
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}
