"""A live PyTorch net and its optimizer as facts: what hooks have seen of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fovea.diagnosis.keras_facts import ACTIVATIONS, with_following_activations
from fovea.diagnosis.observe import SAMPLE, is_fresh_uniform, output_signals, spelled
from fovea.diagnosis.record import LayerFacts, LayerSignals, NetFacts, TrainingFacts

_KINDS = {"linear": "dense", "conv2d": "conv2d", "flatten": "flatten", "dropout2d": "dropout"}
_KINDS |= {f"batchnorm{n}d": "batchnormalization" for n in (1, 2, 3)} | {"maxpool2d": "maxpooling2d"}
_KINDS |= {"avgpool2d": "averagepooling2d", "adaptiveavgpool2d": "globalaveragepooling2d"}
_WITH_SUMS = ("conv2d", "dense", "batchnormalization")
_ACTIVATIONS = (*ACTIVATIONS, "logsoftmax", "silu", "hardswish", "mish", "softplus", "relu6", "softmin", "logsigmoid")


@dataclass(eq=False)
class Seen:
    """What one forward pass has shown of a leaf of the net.

    Attributes:
        place: when it was called, from 0.
        pointer: of the memory of its output, which tells whether anything stood between it and the next leaf.
        outputs: detached, of at most 512 images.
    """

    place: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    pointer: int
    has_negative: bool
    input_pointer: int
    input_minimum: float
    outputs: torch.Tensor


def kind_of(module: nn.Module) -> str:
    """The kind of a layer, as records spell it."""
    name = spelled(type(module))
    return "activation" if name in _ACTIVATIONS else _KINDS.get(name, name)


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Modules without modules of their own, by name."""
    return {name or "net": module for name, module in model.named_modules() if not any(module.children())}


def net_facts(
    model: nn.Module, seen: Mapping[str, Seen], optimized: set[int] | None, fresh: Mapping[str, bool]
) -> NetFacts:
    """Layers in the order in which they were called; those that were not, last.

    Args:
        seen: by the name of the leaf.
        optimized: ids of the parameters that the optimizer holds; None: not known.
        fresh: as `fresh_layers` found them before the first step.
    """
    modules = leaves(model)
    called = sorted(seen, key=lambda name: seen[name].place)
    names = [*called, *(name for name in modules if name not in seen)]
    layers = [_layer_facts(name, modules[name], seen.get(name), optimized) for name in names]
    layers = [replace(layer, is_fresh=fresh.get(layer.name)) for layer in layers]
    layers = _with_functional_activations(layers, seen)
    own = list(model.parameters())
    ends = [layer for layer in layers if layer.is_connected]
    width = ends[-1].output_shape if ends else None
    return NetFacts(
        layers=with_following_activations(layers),
        is_complete=bool(called),
        output_units=width[-1] if width else None,
        last_activation=None,  # what follows the last layer only its answers tell
        parameters=sum(parameter.numel() for parameter in own),
        trainable_parameters=sum(parameter.numel() for parameter in own if parameter.requires_grad),
    )


def _layer_facts(name: str, module: nn.Module, seen: Seen | None, optimized: set[int] | None) -> LayerFacts:
    kind = kind_of(module)
    own = list(module.parameters(recurse=False))
    units = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    kernel, rate = getattr(module, "kernel_size", None), getattr(module, "p", None)
    in_optimizer = None if optimized is None or not own else any(id(parameter) in optimized for parameter in own)
    return LayerFacts(
        name=name,
        kind=kind,
        activation=spelled(type(module)) if kind == "activation" else None,
        units=units if isinstance(units, int) else None,
        kernel=tuple(kernel) if isinstance(kernel, tuple) else (kernel, kernel) if isinstance(kernel, int) else None,
        rate=float(rate) if isinstance(rate, int | float) and kind == "dropout" else None,
        input_shape=None if seen is None else seen.input_shape,
        output_shape=None if seen is None else seen.output_shape,
        parameters=sum(parameter.numel() for parameter in own),
        is_trainable=any(parameter.requires_grad for parameter in own) if own else True,
        is_connected=seen is not None,
        in_optimizer=in_optimizer,
    )


def _with_functional_activations(layers: Sequence[LayerFacts], seen: Mapping[str, Seen]) -> list[LayerFacts]:
    """Activations that are functions (F.relu), told from what reaches the next leaf."""
    made = list(layers)
    for place, (layer, following) in enumerate(itertools.pairwise(layers)):
        if layer.kind not in _WITH_SUMS or not following.is_connected or following.kind == "activation":
            continue
        here, there = seen[layer.name], seen[following.name]
        if _is_cut(here, there):
            made[place] = replace(layer, activation="relu")
            if layer.kind == "batchnormalization" and place and made[place - 1].kind in ("conv2d", "dense"):
                made[place - 1] = replace(made[place - 1], activation="relu")
        elif here.pointer == there.input_pointer and layer.kind != "batchnormalization":
            made[place] = replace(layer, activation="linear")
    return made


def _is_cut(here: Seen, there: Seen) -> bool:
    """Whether the negative outputs of one leaf do not reach the next."""
    return here.has_negative and there.input_minimum >= 0


def leaf_signals(seen: Mapping[str, Seen], modules: Mapping[str, nn.Module]) -> tuple[LayerSignals, ...]:
    """Signals of layers with sums and of activations; behind a relu that is a function, of what it leaves."""
    names = sorted(seen, key=lambda name: seen[name].place)
    found = []
    for name, following in zip(names, [*names[1:], None], strict=True):
        kind, outputs = kind_of(modules[name]), seen[name].outputs[:SAMPLE].float().cpu()
        if kind not in (*_WITH_SUMS, "activation") or outputs.dim() < 2:
            continue
        if following is not None and kind_of(modules[following]) != "activation" and kind != "activation":
            outputs = outputs.clamp(min=0) if _is_cut(seen[name], seen[following]) else outputs
        activation = spelled(type(modules[name])) if kind == "activation" else None
        found.append(output_signals(name, outputs.numpy(), activation, channel_axis=1))
    return tuple(found)


def noting(name: str, seen: dict[str, Seen]) -> Callable[..., None]:
    """A forward hook that notes what a leaf was given and gave; more outputs of a later pass are added."""

    def hook(module: nn.Module, inputs: Any, outputs: Any) -> None:
        given = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else None
        if given is None or not isinstance(outputs, torch.Tensor):
            return
        made, place = outputs.detach(), len(seen)
        if name in seen:
            made, place = torch.cat([seen[name].outputs, made]), seen[name].place
        seen[name] = Seen(
            place=place,
            input_shape=_shape(given),
            output_shape=_shape(outputs),
            pointer=outputs.data_ptr(),
            has_negative=bool((made < 0).any()),
            input_pointer=given.data_ptr(),
            input_minimum=float(given.min()),
            outputs=made.clone(),
        )

    return hook


def _shape(values: torch.Tensor) -> tuple[int, ...]:
    """Height, width, channels; or the number of units."""
    sizes = tuple(values.shape[1:])
    return (*sizes[1:], sizes[0]) if len(sizes) == 3 else sizes


def training_facts(optimizer: torch.optim.Optimizer | None, batch_size: int | None) -> TrainingFacts:
    """What the optimizer says of itself."""
    group: Mapping[str, Any] = {} if optimizer is None else optimizer.param_groups[0]
    rate, decay = group.get("lr"), group.get("weight_decay")
    return TrainingFacts(
        framework="torch",
        optimizer=None if optimizer is None else spelled(type(optimizer)),
        learning_rate=None if rate is None else float(rate),
        momentum=float(group["momentum"]) if isinstance(group.get("momentum"), int | float) else None,
        weight_decay=float(decay) if isinstance(decay, int | float) else None,
        batch_size=batch_size,
    )


def kernels_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Leaf name -> its weight, where it is a kernel or a matrix."""
    found = {}
    for name, module in leaves(model).items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            found[name] = weight
    return found


def fresh_layers(model: nn.Module) -> dict[str, bool]:
    """Leaf name -> whether its kernel is as torch draws it: uniform, with the bound 1 / sqrt(inputs of a unit)."""
    found = {}
    for name, weight in kernels_of(model).items():
        fresh = is_fresh_uniform(weight.detach().float().cpu().numpy(), float(weight[0].numel() ** -0.5))
        if fresh is not None:
            found[name] = fresh
    return found


@torch.no_grad()
def kernel_signals(name: str, before: torch.Tensor, after: torch.Tensor, gradient: torch.Tensor | None) -> LayerSignals:
    """What one step did to a kernel."""
    norm = float(before.norm())
    whole = bool(torch.isfinite(after).all()) and (gradient is None or bool(torch.isfinite(gradient).all()))
    return LayerSignals(
        name,
        gradient_norm=None if gradient is None else float(gradient.norm()),
        weight_norm=norm,
        update_ratio=float((after - before).norm()) / norm if norm else None,
        weight_std=float(before.std(correction=0)),
        is_constant=bool(before.numel() > 1 and before.max() == before.min()),
        is_finite=whole,
    )
