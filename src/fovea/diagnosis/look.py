"""Look: passes of the doctor's own through a live PyTorch net, what its leaves and its functional activations did.

Activations that are functions (F.relu, torch.tanh) are seen as well, here and nowhere in the training, where seeing
them would cost time at each call. Not seen are those inside of TorchScript and of autograd functions of the user's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

# What a forward pass may call -> the activation as records spell it.
_FUNCTIONS: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_), "relu"),
    **dict.fromkeys((torch.tanh, torch.Tensor.tanh, F.tanh), "tanh"),
    **dict.fromkeys((torch.sigmoid, torch.Tensor.sigmoid, F.sigmoid), "sigmoid"),
    F.relu6: "relu6",
    F.gelu: "gelu",
    F.silu: "silu",
    F.mish: "mish",
    F.elu: "elu",
    F.selu: "selu",
    F.leaky_relu: "leakyrelu",
    F.hardswish: "hardswish",
    F.softplus: "softplus",
}


@dataclass(frozen=True, eq=False)
class Seen:
    """What the passes have shown of one call: of a leaf of the net, or of an activation that is a function.

    Attributes:
        leaf: the module's name; of a function None.
        function: the activation; of a module None.
        place: when it was called in a pass, from 0.
        pointer: of the memory of its output, which tells whether anything stood between it and the next leaf.
        behind: of a function the call whose outputs it was given as they were; None: a sum of branches, for instance.
        outputs: detached, of at most 512 images.
    """

    leaf: str | None
    function: str | None
    place: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    pointer: int
    has_negative: bool
    input_pointer: int
    input_minimum: float
    outputs: torch.Tensor
    behind: str | None = None


class Look(TorchFunctionMode):
    """Passes through a net that are noted call by call; a leaf called twice in one pass is two calls.

    Attributes:
        seen: by the name of the call, in the order of a pass: the leaf's name, "name (2)" for its second call,
            "relu behind name" for a function.
    """

    def __init__(self, leaves: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.seen: dict[str, Seen] = {}
        self._leaves = leaves
        self._calls: dict[str, int] = {}  # in this pass
        self._last: tuple[str, torch.Tensor] | None = None  # the call before, and its outputs in this pass
        self._inside = False  # nn.ReLU calls F.relu: what a leaf does inside is its own

    @contextlib.contextmanager
    def noting(self) -> Iterator[Look]:
        """While it is entered, all calls are noted."""
        handles: list[Any] = []
        try:
            for name, module in self._leaves.items():
                handles.append(module.register_forward_pre_hook(self._begins))
                handles.append(module.register_forward_hook(self._ends(name), always_call=True))
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def next_pass(self) -> None:
        """The next images come: their outputs are added to those of the pass before."""
        self._calls, self._last = {}, None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = None if self._inside else _FUNCTIONS.get(func)
        if name is None or not args or not isinstance(args[0], torch.Tensor):
            return func(*args, **(kwargs or {}))
        given, before = args[0], self._last
        is_of_last = before is not None and before[1].shape == given.shape and torch.equal(before[1], given)
        least, pointer, shape = float(given.min()) if given.numel() else 0.0, given.data_ptr(), _shape(given)
        outputs = func(*args, **(kwargs or {}))
        behind = "the input" if before is None else before[0]
        call = self._name(f"{name} behind {behind}")
        found = self._seen_of(outputs, shape, pointer, least)
        self._note(call, replace(found, function=name, behind=behind if is_of_last else None))
        return outputs

    def _begins(self, module: nn.Module, inputs: Any) -> None:
        self._inside = True

    def _ends(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
            self._inside = False
            given = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else None
            if given is None or not isinstance(outputs, torch.Tensor) or not outputs.numel():
                return
            least = float(given.min()) if given.numel() else 0.0
            found = self._seen_of(outputs, _shape(given), given.data_ptr(), least)
            self._note(self._name(name), replace(found, leaf=name))

        return hook

    def _name(self, name: str) -> str:
        self._calls[name] = self._calls.get(name, 0) + 1
        return name if self._calls[name] == 1 else f"{name} ({self._calls[name]})"

    def _seen_of(self, outputs: torch.Tensor, shape: tuple[int, ...], pointer: int, least: float) -> Seen:
        made = outputs.detach().clone()
        negative = bool((made < 0).any()) if made.dtype != torch.bool else False
        place = len(self.seen)
        return Seen(None, None, place, shape, _shape(outputs), outputs.data_ptr(), negative, pointer, least, made)

    def _note(self, name: str, found: Seen) -> None:
        self._last = (name, found.outputs)
        before = self.seen.get(name)
        if before is not None:
            found = replace(
                before,
                has_negative=before.has_negative or found.has_negative,
                input_minimum=min(before.input_minimum, found.input_minimum),
                pointer=found.pointer,
                input_pointer=found.input_pointer,
                outputs=torch.cat([before.outputs, found.outputs]),
            )
        self.seen[name] = found


def _shape(values: torch.Tensor) -> tuple[int, ...]:
    """Height, width, channels; or the number of units."""
    sizes = tuple(values.shape[1:])
    return (*sizes[1:], sizes[0]) if len(sizes) == 3 else sizes
