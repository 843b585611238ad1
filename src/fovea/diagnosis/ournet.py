"""A net of ours as facts: its layer list read, and what single batches tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fovea.diagnosis.record import BatchFacts, LayerFacts, LayerSignals, NetFacts
from fovea.models.build import build_net
from fovea.models.whitening import whitening_of
from fovea.models.words import ACTIVATIONS
from fovea.settings import Recipe
from fovea.training.loss import training_loss
from fovea.training.optimizers import make_optimizers

_KINDS = {
    "conv": "conv2d",
    "depthwise": "depthwiseconv2d",
    "sepconv": "separableconv2d",
    "maxpool": "maxpooling2d",
    "avgpool": "averagepooling2d",
    "globalavgpool": "globalaveragepooling2d",
    "globalmaxpool": "globalmaxpooling2d",
    "batchnorm": "batchnormalization",
    "normalize": "normalization",
    "zeropad": "zeropadding2d",
    "crop": "cropping2d",
    "whiten": "whitening",
}
_CONSTANT_SPREAD = 1e-12
_STEPS = 20  # of a fresh net, that its steps are measured on


def net_facts(layers: Sequence[Any] | None, initializer: str | None, num_classes: int) -> NetFacts:
    """What a layer list says.

    Args:
        layers: as in a recipe; None: a module of the user's own, of which nothing is known.
        initializer: of every layer that names none.
    """
    if layers is None:
        return NetFacts()
    lines = list(_flat(layers))
    facts = [_layer(place, line, initializer, num_classes) for place, (line, _) in enumerate(lines, 1)]
    branches = any(inside for _, inside in lines)
    return NetFacts(
        layers=tuple(facts),
        is_complete=None if branches else True,
        output_units=num_classes,
        last_activation="linear",  # the softmax is left to the loss
    )


def _flat(layers: Sequence[Any], inside: bool = False) -> Iterator[tuple[str, bool]]:
    for layer in layers:
        if isinstance(layer, str):
            yield layer, inside
        elif isinstance(layer, dict):
            for branch in layer.values():
                lists = branch if branch and isinstance(branch[0], list) else [branch]
                for each in lists:
                    yield from _flat(each, True)


def _layer(place: int, line: str, initializer: str | None, num_classes: int) -> LayerFacts:
    words = line.split()
    kind = words[0]
    weighted = kind in ("conv", "depthwise", "sepconv", "dense")
    own = words[words.index("init") + 1] if "init" in words[:-1] else initializer
    activation = words[-1] if words[-1] in (*ACTIVATIONS, "softmax") else "linear" if weighted else None
    counted = weighted and words[1:2] != [] and words[1].isdigit()  # of a depthwise convolution a window stands there
    units = num_classes if words[1:2] == ["classes"] else int(words[1]) if counted else None
    return LayerFacts(
        name=f"layer {place} ({kind})",
        kind="activation" if kind in (*ACTIVATIONS, "softmax", "prelu") else _KINDS.get(kind, kind),
        activation=None if activation is None else activation.replace("_", ""),
        units=units,
        rate=float(words[1]) if kind == "dropout" else None,
        initializer=own.replace("_", "") if weighted and own else None,
        is_trainable=False if kind == "whiten" else True if weighted else None,
        is_connected=True,
    )


def fresh_net(recipe: Recipe, inputs: torch.Tensor, num_classes: int) -> nn.Module:
    """The net of a complete recipe with its first weights.

    Args:
        inputs: float32 [B, C, H, W], as the net is given them; a whitening layer is fitted on them.
    """
    channels, height, width = inputs.shape[1:]
    net = build_net(recipe.model, (height, width, channels), num_classes, recipe.training.seed)
    whitening = whitening_of(net)
    if whitening is not None:
        whitening.fit(inputs)
    return net


def batch_facts(
    fresh: nn.Module | None, trained: nn.Module | None, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe
) -> BatchFacts:
    """What single batches tell of a net before training and after it.

    Args:
        fresh: with its first weights; it is trained for a few steps and is spoilt then.
        trained: with the weights that are kept.
        inputs: float32 [B, C, H, W], as the net is given them; labels: int64 [B].
    """
    found = BatchFacts()
    size = min(len(labels), recipe.training.batch_size or 64, 128)
    if fresh is not None:
        loss, accuracy, _, _ = _judge(fresh, inputs, labels)
        first = _signals(fresh, inputs[:size], labels[:size], recipe)
        moved = {signals.name: signals.update_ratio for signals in _steps(fresh, inputs, labels, recipe, size)}
        first = tuple(replace(signals, update_ratio=moved.get(signals.name)) for signals in first)
        found = replace(found, initial_loss=loss, initial_accuracy=accuracy, first=first)
    if trained is not None:
        loss, _, logits, again = _judge(trained, inputs, labels)
        blank, _, _, _ = _judge(trained, torch.zeros_like(inputs), labels)
        found = replace(
            found,
            output_minimum=float(logits.min()),
            output_maximum=float(logits.max()),
            last=_signals(trained, inputs, labels, recipe),
            evaluation_repeats=bool(torch.allclose(logits, again, rtol=1e-3, atol=1e-3)),
            zeroed_loss=blank,
            real_loss=loss,
        )
    return found


@torch.no_grad()
def _judge(
    net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[float, float, torch.Tensor, torch.Tensor]:
    """Loss and accuracy in evaluation mode, and the logits of two passes."""
    net.eval()
    logits, again = net(inputs).float(), net(inputs).float()
    loss = float(nn.functional.cross_entropy(logits, labels))
    return loss, float((logits.argmax(dim=1) == labels).float().mean()), logits, again


def _kernels(net: nn.Module) -> dict[str, nn.Parameter]:
    found = {}
    for name, module in net.named_modules():
        weight = module.weight if isinstance(module, nn.Conv2d | nn.Linear) else None
        if isinstance(weight, nn.Parameter) and weight.requires_grad:
            found[name] = weight
    return found


def _signals(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> tuple[LayerSignals, ...]:
    """Gradients, and units that are zero for every image, of each layer with weights; evaluation mode."""
    outputs: dict[str, torch.Tensor] = {}
    modules = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(_keep(outputs, name)) for name, module in modules]
    net.eval()
    net.zero_grad(set_to_none=True)
    try:
        with torch.enable_grad():
            training_loss(net(inputs).float(), labels, recipe.training).backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    found, kernels, name = [], _kernels(net), ""
    for name, module in modules:
        if name in kernels:
            found.append(_of_kernel(name, kernels[name]))
        elif found and isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardtanh) and name in outputs:
            units = outputs[name].transpose(0, 1).flatten(1) == 0
            dead, zero = float(units.all(dim=1).float().mean()), float(units.float().mean())
            found[-1] = replace(found[-1], dead_fraction=dead, zero_fraction=zero)
    net.zero_grad(set_to_none=True)
    return tuple(found)


def _keep(outputs: dict[str, torch.Tensor], name: str) -> Any:
    def hook(_: nn.Module, __: Any, out: torch.Tensor) -> None:
        outputs[name] = out.detach()

    return hook


def _of_kernel(name: str, weight: nn.Parameter) -> LayerSignals:
    values = weight.detach().float()
    spread = float(values.std()) if values.numel() > 1 else 0.0
    gradient = weight.grad
    norm = None if gradient is None else float(gradient.float().norm())
    finite = bool(torch.isfinite(values).all()) and (gradient is None or bool(torch.isfinite(gradient).all()))
    constant = values.numel() > 1 and spread <= _CONSTANT_SPREAD
    return LayerSignals(name, norm, float(values.norm()), weight_std=spread, is_constant=constant, is_finite=finite)


def _steps(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe, size: int) -> list[LayerSignals]:
    """The median size of a step over the size of the weights, of each layer, at the full learning rate."""
    optimizers, ratios = make_optimizers(net, recipe.optimizer), dict[str, list[float]]()
    net.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in range(_STEPS):
            start = step * size % max(len(labels) - size + 1, 1)
            net.zero_grad(set_to_none=True)
            loss = training_loss(
                net(inputs[start : start + size]).float(), labels[start : start + size], recipe.training
            )
            if not torch.isfinite(loss):
                break
            loss.backward()  # type: ignore[no-untyped-call]
            before = {name: weight.detach().clone() for name, weight in _kernels(net).items()}
            for optimizer in optimizers:
                optimizer.step()
            for name, weight in _kernels(net).items():
                norm = float(before[name].norm())
                if norm > 0:
                    ratios.setdefault(name, []).append(float((weight.detach() - before[name]).norm()) / norm)
    return [
        LayerSignals(name, update_ratio=sorted(values)[len(values) // 2]) for name, values in ratios.items() if values
    ]
