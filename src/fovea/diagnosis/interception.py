"""What a training calls on its way, its losses and its loaders, is shown to the doctor while a block is open."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from fovea.diagnosis.watched import Loss

# What torch.nn.functional looks up at each call, so that a loss is seen however it was imported: (where, name) -> the
# loss, whether it applies the softmax or sigmoid itself, and at which argument it is told to sum or to average.
_LOSSES = {
    (torch._C._nn, "cross_entropy_loss"): ("crossentropy", True, 3),
    (torch._C._nn, "nll_loss_nd"): ("nll", False, 3),
    (torch._C._nn, "mse_loss"): ("meansquarederror", False, 2),
    (torch._C._nn, "l1_loss"): ("meanabsoluteerror", False, 2),
    (torch._C._nn, "binary_cross_entropy"): ("binarycrossentropy", False, 3),
    (torch, "binary_cross_entropy_with_logits"): ("binarycrossentropy", True, 4),
}
_SMOOTHING = 5  # the argument of cross_entropy_loss
_REDUCTIONS = ("none", "mean", "sum")
Undo = Callable[[], Any]


def show_losses(computed: Callable[[Loss, Any, Any, Any], Any]) -> list[Undo]:
    """Show each loss of torch's: `computed` takes the loss, its value, what it was given as answers and as labels.

    Returns:
        What puts torch back as it was, to be called in reverse order.
    """

    def made(known: str, from_logits: bool, place: int) -> Callable[[Any], Any]:
        def wrapped(original: Any) -> Any:
            @functools.wraps(original)
            def loss(*arguments: Any, **named: Any) -> Any:
                value = original(*arguments, **named)
                if not torch.compiler.is_compiling():  # what is compiled holds nothing of the doctor
                    given = (*arguments[:2], None, None)[:2]
                    computed(Loss(known, from_logits, *_options(arguments, place)), value, *given)
                return value

            return loss

        return wrapped

    there = [(where, made(*facts)) for where, facts in _LOSSES.items() if hasattr(*where)]
    return [_wrap(*where, wrapped) for where, wrapped in there]


def show_loaders(begins: Callable[[Any], Any], given: Callable[[Any], Any]) -> list[Undo]:
    """Show each pass through a DataLoader: `begins` takes the loader, `given` each batch before it is handed on."""

    def wrapped(original: Any) -> Any:
        @functools.wraps(original)
        def batches(loader: Any) -> Iterator[Any]:
            inner = original(loader)
            begins(loader)
            return _Batches(inner, given)

        return batches

    return [_wrap(DataLoader, "__iter__", wrapped)]


def show_compilations(begins: Callable[[Any], Any]) -> list[Undo]:
    """Show each module before it compiles itself (`module.compile()`)."""

    def wrapped(original: Any) -> Any:
        @functools.wraps(original)
        def compile_itself(module: Any, *arguments: Any, **named: Any) -> Any:
            begins(module)
            return original(module, *arguments, **named)

        return compile_itself

    return [_wrap(torch.nn.Module, "compile", wrapped)]


def _wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> Undo:
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    return lambda: setattr(owner, name, original)


def _options(arguments: tuple[Any, ...], place: int) -> tuple[str | None, float | None, bool]:
    """Of a loss's arguments: how it reduces, its label smoothing, whether classes are weighted."""
    reduction = arguments[place] if len(arguments) > place else None
    known = _REDUCTIONS[reduction] if isinstance(reduction, int) and 0 <= reduction < 3 else None
    smoothing = arguments[_SMOOTHING] if len(arguments) > _SMOOTHING else None
    weight = arguments[2] if place > 2 and len(arguments) > 2 else None
    return known, smoothing if isinstance(smoothing, float) else None, weight is not None


class _Batches:
    """An iterator over batches that shows each one before it is handed on."""

    def __init__(self, inner: Any, show: Callable[[Any], Any]) -> None:
        self._inner, self._show = inner, show

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        batch = next(self._inner)
        self._show(batch)
        return batch

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._inner, name)
