"""A live PyTorch net and its optimizer as facts: what hooks have seen of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fovea.diagnosis.keras_facts import ACTIVATIONS, with_following_activations
from fovea.diagnosis.look import Seen
from fovea.diagnosis.observe import SAMPLE, is_fresh_uniform, output_signals, spelled
from fovea.diagnosis.record import LayerFacts, LayerSignals, NetFacts, TrainingFacts

_KINDS = {"linear": "dense", "conv2d": "conv2d", "flatten": "flatten", "dropout2d": "dropout"}
_KINDS |= {f"batchnorm{n}d": "batchnormalization" for n in (1, 2, 3)} | {"maxpool2d": "maxpooling2d"}
_KINDS |= {"avgpool2d": "averagepooling2d", "adaptiveavgpool2d": "globalaveragepooling2d"}
_WITH_SUMS = ("conv2d", "dense", "batchnormalization")
_ACTIVATIONS = (*ACTIVATIONS, "logsoftmax", "silu", "hardswish", "mish", "softplus", "relu6", "softmin", "logsigmoid")


def kind_of(module: nn.Module) -> str:
    """The kind of a layer, as records spell it."""
    name = spelled(type(module))
    return "activation" if name in _ACTIVATIONS else _KINDS.get(name, name)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that torch.compile was given; the model itself where it is not compiled."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def answers_of(outputs: Any) -> torch.Tensor | None:
    """The answers among what a model returns: a tensor, the first rows of numbers of a tuple, "logits" of a dict."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        values = [outputs["logits"]] if "logits" in outputs else list(outputs.values())
    else:
        values = list(outputs) if isinstance(outputs, list | tuple) else [getattr(outputs, "logits", None)]
    return next((each for each in values if isinstance(each, torch.Tensor) and each.dim() == 2), None)


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Modules without modules of their own, by name."""
    return {name or "net": module for name, module in model.named_modules() if not any(module.children())}


def net_facts(
    model: nn.Module, seen: Mapping[str, Seen], optimized: set[int] | None, fresh: Mapping[str, bool]
) -> NetFacts:
    """Layers in the order in which they were called; those that were not, last.

    Args:
        seen: calls by name, as a look has noted them; empty: nothing is known of what is called.
        optimized: ids of the parameters that optimizers hold; None: not known.
        fresh: as `fresh_layers` found them before the first step.
    """
    modules = leaves(model)
    called = [name for name in sorted(seen, key=lambda name: seen[name].place) if _is_layer(name, seen, modules)]
    layers = [_called_layer(name, seen[name], modules, optimized) for name in called]
    layers = _with_functional_activations(layers, seen)
    rest = [_layer_facts(name, module, None, optimized) for name, module in modules.items() if name not in seen]
    if not seen:
        rest = [replace(layer, is_connected=None) for layer in rest]
    layers = [replace(layer, is_fresh=fresh.get(layer.name)) for layer in (*layers, *rest)]
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


def _is_layer(name: str, seen: Mapping[str, Seen], modules: Mapping[str, nn.Module]) -> bool:
    """Whether a call is a layer of its own: a function right behind a leaf is that leaf's activation, and weights that
    are used again are those of the first call."""
    call = seen[name]
    if call.leaf is None:
        return call.behind not in seen
    return name == call.leaf or not list(modules[call.leaf].parameters(recurse=False))


def _called_layer(name: str, call: Seen, modules: Mapping[str, nn.Module], optimized: set[int] | None) -> LayerFacts:
    if call.leaf is not None:
        return _layer_facts(name, modules[call.leaf], call, optimized)
    layer = LayerFacts(name, "activation", call.function, parameters=0, is_connected=True)
    return replace(layer, input_shape=call.input_shape, output_shape=call.output_shape)


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
    """Activations that are functions (F.relu): as a look has seen them, else told from what reaches the next leaf."""
    made = list(layers)
    functions = {call.behind: call.function for call in seen.values() if call.function and call.behind in seen}
    for place, layer in enumerate(layers):
        following = layers[place + 1] if place + 1 < len(layers) else None
        name = functions.get(layer.name)
        if name is None and layer.kind in _WITH_SUMS and following is not None and following.kind != "activation":
            here, there = seen[layer.name], seen[following.name]
            if _is_cut(here, there):
                name = "relu"
            elif here.pointer == there.input_pointer and layer.kind != "batchnormalization":
                name = "linear"
        if name is None:
            continue
        made[place] = replace(layer, activation=name)
        if layer.kind == "batchnormalization" and place and made[place - 1].kind in ("conv2d", "dense"):
            made[place - 1] = replace(made[place - 1], activation=name)
    return made


def _is_cut(here: Seen, there: Seen) -> bool:
    """Whether the negative outputs of one leaf do not reach the next."""
    return here.has_negative and there.input_minimum >= 0


def leaf_signals(seen: Mapping[str, Seen], modules: Mapping[str, nn.Module]) -> tuple[LayerSignals, ...]:
    """Signals of layers with sums and of activations; where a function stands behind a layer, of what it leaves."""
    names = sorted(seen, key=lambda name: seen[name].place)
    behind = {call.behind: call for call in seen.values() if call.function and call.behind in seen}
    found = []
    for name, following in zip(names, [*names[1:], None], strict=True):
        call = seen[name]
        kind = "activation" if call.leaf is None else kind_of(modules[call.leaf])
        if kind not in (*_WITH_SUMS, "activation") or call.outputs.dim() < 2 or call.behind in seen:
            continue
        activated = behind.get(name, call)
        outputs = activated.outputs[:SAMPLE].float().cpu()
        is_module = kind == "activation" and call.leaf is not None  # what it leaves is its outputs, whatever follows
        after = None if is_module or activated is not call or following is None else seen[following]
        if after is not None and not _is_activation(after, modules) and _is_cut(call, after):
            outputs = outputs.clamp(min=0)
        found.append(output_signals(name, outputs.numpy(), channel_axis=1))
    return tuple(found)


def _is_activation(call: Seen, modules: Mapping[str, nn.Module]) -> bool:
    return call.leaf is None or kind_of(modules[call.leaf]) == "activation"


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
