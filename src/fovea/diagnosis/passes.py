"""Passes of the doctor's own through a watched net: nothing of the training is changed by them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from fovea.diagnosis import torch_facts
from fovea.diagnosis.look import Look, Seen
from fovea.diagnosis.observe import SAMPLE

_AT_ONCE = 128  # images
_SIGNAL_VALUES = 20_000_000  # of outputs that are held at once
_under_way = 0  # of any patient


def are_under_way() -> bool:
    """Whether a forward pass that is seen now is one of these, and no part of a training."""
    return _under_way > 0


def look_at(model: nn.Module, images: torch.Tensor) -> tuple[Mapping[str, Seen], Mapping[str, nn.Module]]:
    """What the calls in a net have shown on some images [B, ...], and the net's leaves by their names."""
    net, images = torch_facts.uncompiled(model), images.detach()
    leaves = torch_facts.leaves(net)
    look = Look(leaves)
    with _apart(model), look.noting():
        net(images[:_AT_ONCE])
        size = sum(each.outputs[0].numel() for each in look.seen.values() if len(each.outputs))
        most = min(SAMPLE, len(images), _SIGNAL_VALUES // max(size, 1))
        for start in range(_AT_ONCE, most, _AT_ONCE):
            look.next_pass()
            net(images[start : start + _AT_ONCE])
    return look.seen, leaves


def answers_for(model: nn.Module, images: torch.Tensor) -> torch.Tensor | None:
    """A net's answers for images [B, ...]; None where what it returns holds none."""
    net = torch_facts.uncompiled(model)
    with _apart(model):
        starts = range(0, len(images), _AT_ONCE)
        found = [torch_facts.answers_of(net(images[start : start + _AT_ONCE])) for start in starts]
        known = [each for each in found if each is not None]
        return torch.cat(known) if known and len(known) == len(found) else None


@contextlib.contextmanager
def _apart(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and without a trace; each module is in its own mode again afterwards."""
    global _under_way
    modes = {name: module.training for name, module in model.named_modules()}
    _under_way += 1
    try:
        with contextlib.ExitStack() as stack:
            for each in _nothing_kept(model):
                stack.enter_context(each)
            model.eval()
            yield
    finally:
        _under_way -= 1
        for name, module in model.named_modules():
            module.training = modes[name]


def _nothing_kept(model: nn.Module) -> Iterator[Any]:
    """Contexts in which a pass leaves no trace: random numbers, gradients, autocast's copies, compilations."""
    place = next(model.parameters(), torch.empty(0)).device
    devices = [place] if place.type == "cuda" else []
    yield torch.random.fork_rng(devices=devices)
    yield torch.no_grad()
    if torch.is_autocast_enabled(place.type):
        yield torch.autocast(place.type, torch.get_autocast_dtype(place.type), cache_enabled=False)
    if "torch._dynamo" in sys.modules:  # a batch of another size would be compiled anew, for the training too
        yield torch.compiler.set_stance("force_eager")
