"""The facts of a net: its layers in the order of the forward pass, what its end says, what it leaves out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from fovea.diagnosis.record import LayerFacts, NetFacts
from fovea.diagnosis.script.facts import Training, word
from fovea.diagnosis.script.names import ACTIVATIONS, WEIGHTED
from fovea.diagnosis.script.nets import layers_in
from fovea.diagnosis.script.values import Class, Tensor, Thing, number, whole

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

_PASSING = {
    *("batchnormalization", "dropout", "maxpooling2d", "averagepooling2d", "layernormalization", "groupnormalization"),
    "spatialdropout2d",
}
_AFTER_THE_END = {"dropout", "flatten", "reshape", "identity", "globalaveragepooling2d", "spatialdropout2d"}


def rescaling_of(layers: tuple[Thing, ...]) -> tuple[float, float, int]:
    """Factor and offset of the Rescaling layers that a net begins with, and how many layers they are."""
    factor, offset, count = 1.0, 0.0, 0
    for layer in layers:
        kind = layer.values.get("layer_kind")
        if kind == "rescaling":
            scale, shift = number(layer.values.get("scale")), number(layer.values.get("offset", 0))
            if scale is None or shift is None:
                break
            factor, offset = factor * scale, offset * scale + shift
        elif kind != "input" and not str(kind).startswith("random") and kind not in ("resizing", "centercrop"):
            break
        count += 1
    return (factor, offset, count) if (factor, offset) != (1.0, 0.0) else (1.0, 0.0, 0)


def net_facts(interpreter: Interpreter, training: Training, tensor: Tensor) -> NetFacts:
    """What can be told of the net that a training trains."""
    used = [layer for layer in tensor.layers if layer.values.get("layer_kind") != "rescaling"]
    names: Counter[str] = Counter()
    layers = [_layer_facts(training, layer, names, True) for layer in used]
    layers = _with_activations(layers)
    layers += [_layer_facts(training, layer, names, False) for layer in unconnected(interpreter, training, tensor)]
    last_activation, last_line = _end(layers, tensor)
    if last_line is not None:
        training.lines.setdefault("net.last_activation", last_line)
    units, units_line = _output_units(layers)
    if units_line is not None:
        training.lines.setdefault("net.output_units", units_line)
    if layers and layers[0].line is not None:
        training.lines.setdefault("net.layers", layers[0].line)
    return NetFacts(tuple(layers), tensor.is_complete and bool(used), units, last_activation)


def _layer_facts(training: Training, layer: Thing, names: Counter[str], is_connected: bool) -> LayerFacts:
    values, kind = layer.values, str(layer.values.get("layer_kind", "layer"))
    base = layer.label or kind
    count = names[base]
    names[base] += 1
    units = whole(values.get("units", values.get("filters")))
    size = values.get("kernel_size")
    sizes = [size, size] if whole(size) is not None else list(size) if isinstance(size, tuple | list) else []
    kernel = tuple(side for item in sizes if (side := whole(item)) is not None)
    activation: str | None = None
    if kind in WEIGHTED:
        activation = word(values.get("activation"))
    elif kind == "activation":
        activation = word(values.get("activation", "?"))
    elif kind in ACTIVATIONS:
        kind, activation = "activation", kind
    initializer = values.get("kernel_initializer")
    return LayerFacts(
        name=base if not count else f"{base}_{count}",
        kind=kind,
        activation=activation,
        units=units,
        kernel=kernel or None,
        rate=number(values.get("rate")),
        initializer=word(initializer) if initializer is not None else None,
        is_trainable=None if training.is_one_batch else training.trainable.get(id(layer), layer.is_trainable),
        is_connected=is_connected,
        line=layer.line or None,
    )


def _with_activations(layers: list[LayerFacts]) -> list[LayerFacts]:
    """A layer with weights knows the activation that follows its sums."""
    found = list(layers)
    last: int | None = None
    for place, layer in enumerate(layers):
        if layer.kind in WEIGHTED:
            last = place
        elif layer.kind == "activation" and last is not None:
            if found[last].activation == "linear":
                found[last] = replace(found[last], activation=layer.activation)
            last = None
        elif layer.kind not in _PASSING:
            last = None
    return found


def _end(layers: list[LayerFacts], tensor: Tensor) -> tuple[str | None, int | None]:
    for layer in reversed([layer for layer in layers if layer.is_connected]):
        if layer.kind in _AFTER_THE_END:
            continue
        if layer.kind == "activation" or layer.kind in WEIGHTED:
            return (layer.activation if tensor.is_tail_known else None), layer.line
        break
    return None, None


def _output_units(layers: list[LayerFacts]) -> tuple[int | None, int | None]:
    for layer in reversed([layer for layer in layers if layer.is_connected]):
        if layer.kind in ("dense", "conv2d"):
            return layer.units, layer.line
        if layer.kind not in ("activation", *_AFTER_THE_END, *_PASSING):
            break
    return None, None


def unconnected(interpreter: Interpreter, training: Training, tensor: Tensor) -> list[Thing]:
    """Layers that are made and that nothing uses: loose ones, and members that the forward pass does not reach."""
    loose = [
        thing
        for thing in interpreter.things
        if thing.kind == "layer" and not thing.is_connected and not thing.is_used and not thing.values.get("in_class")
    ]
    net = training.net
    if net is not None and isinstance(net.values.get("class"), Class) and tensor.is_complete and tensor.layers:
        reached = {id(layer) for layer in tensor.layers}
        mine = layers_in(net)
        loose += [layer for layer in mine if id(layer) not in reached and not layer.is_connected and layer not in loose]
    seen: dict[tuple[int, str], Thing] = {(layer.line, layer.path): layer for layer in loose}
    return [layer for layer in seen.values() if layer.values.get("layer_kind") not in ACTIVATIONS]
