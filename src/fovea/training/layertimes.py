"""The time of each layer, forward and backward, while a stopwatch runs.

Forward: hooks around the leaf modules. Backward: autograd goes through its nodes in the reverse order of their making,
so a layer's backward lasts from the node that made its output to the node that made its input. Hooks on these two nodes
see that without a change to the graph: module backward hooks would put nodes of their own into it, and miss the weight
gradient of the first layer, whose input has no gradient.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from fovea.evaluation.timeprofile import BACKWARD, BETWEEN, FORWARD, LOSS
from fovea.models.shapes import show_shape
from fovea.models.summary import layer_name
from fovea.training.fast_ops import TakenOver
from fovea.training.stopwatch import MEASURING, Key, Stopwatch, current

Tensors = tuple[Any, ...]


@contextlib.contextmanager
def timed_forward(net: nn.Module) -> Iterator[None]:
    """Count the time inside for the layers of `net`, which runs there, and mark its graph for `timed_backward`."""
    stopwatch = current()
    if stopwatch is None:
        yield
        return
    stopwatch.calls[FORWARD, ""] += 1
    before = stopwatch.switch(MEASURING)
    times = stopwatch.layer_times
    if times is None or times.net is not net:
        times = stopwatch.layer_times = LayerTimes(stopwatch, net)
    # Hooks for all modules, and only for the time of the pass: none can be copied or saved with the net.
    hooks = []
    if not times.is_compiled:
        hooks = [register_module_forward_pre_hook(times.begin), register_module_forward_hook(times.end)]
    stopwatch.switch((FORWARD, BETWEEN))
    try:
        yield
    finally:
        stopwatch.switch(MEASURING)
        for hook in hooks:
            hook.remove()
        stopwatch.switch(before)


@contextlib.contextmanager
def timed_backward() -> Iterator[None]:
    """Count the time inside for the loss until its gradient reaches the net, then for the net's layers."""
    stopwatch = current()
    if stopwatch is None:
        yield
        return
    stopwatch.calls[BACKWARD, ""] += 1
    before = stopwatch.switch((LOSS, ""))
    try:
        yield
    finally:
        stopwatch.switch(before)
        if stopwatch.layer_times is not None:
            stopwatch.layer_times.forget()


class LayerTimes:
    """Tells a stopwatch which layer of a net runs."""

    def __init__(self, stopwatch: Stopwatch, net: nn.Module) -> None:
        self.stopwatch, self.net = stopwatch, net
        modules = list(net.modules())
        own = [module for module in modules if not isinstance(module, TakenOver)]
        self.leaves = {module for module in own if not list(module.children())}
        # Hooks would break the graph that torch.compile made, and change the last bits of its sums.
        self.is_compiled = any(
            type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
            for module in modules
        )
        self._numbers: dict[nn.Module, int] = {}
        self._marked: set[Any] = set()  # the nodes of this step's graph that have a hook
        self._around: list[Key] = []

    def forget(self) -> None:
        """Let go of the graph of a step that is done."""
        self._marked.clear()
        self._around.clear()

    def begin(self, module: nn.Module, inputs: Tensors) -> None:
        """Before a module runs."""
        if module not in self.leaves:
            return
        self._around.append(self.stopwatch.switch(MEASURING))
        self._mark(inputs, (BACKWARD, BETWEEN))  # where the layer's backward ends, if no layer made this input
        number = self._numbers.get(module)
        if number is None:
            number = self._numbers[module] = len(self.stopwatch.layers)
            self.stopwatch.layers.append((layer_name(module), ""))
        key = (FORWARD, number)
        self.stopwatch.calls[key] += 1
        self.stopwatch.switch(key)

    def end(self, module: nn.Module, _: Tensors, output: Any) -> None:
        """After a module has run."""
        if module in self.leaves:
            self.stopwatch.switch(MEASURING)
            number = self._numbers[module]
            name, shape = self.stopwatch.layers[number]
            if not shape and isinstance(output, torch.Tensor):
                self.stopwatch.layers[number] = (name, show_shape(tuple(output.shape[1:])))
            self._mark(output, (BACKWARD, number))
            self.stopwatch.switch(self._around.pop())
        elif module is self.net:
            self._mark(output, (BACKWARD, BETWEEN))

    def _mark(self, found: Any, key: Key) -> None:
        """Count for `key` once backward reaches the nodes that made these tensors."""
        if isinstance(found, torch.Tensor):
            node = found.grad_fn
            if node is not None and node not in self._marked:
                self._marked.add(node)
                node.register_prehook(functools.partial(self._reached, key))
        elif isinstance(found, tuple | list):
            for one in found:
                self._mark(one, key)
        elif isinstance(found, dict):
            self._mark(list(found.values()), key)

    def _reached(self, key: Key, _: Tensors) -> None:
        self.stopwatch.calls[key] += 1
        self.stopwatch.switch(key)
