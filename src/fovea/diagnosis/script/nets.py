"""Nets as the reader follows them: what flows through layers, and which layers a net holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script.values import Class, Function, Tensor, Thing

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter


def escape(value: Any, deep: bool = True) -> None:
    """A value reaches something that is not followed: from now on it may be used anywhere."""
    if isinstance(value, Thing):
        value.is_used = True
        if deep:
            value.is_connected = value.is_connected or value.kind == "callback"
    elif deep and isinstance(value, list | tuple):
        for item in value:
            escape(item)
    elif deep and isinstance(value, dict):
        for item in value.values():
            escape(item)


def joined(values: Sequence[Any]) -> Tensor:
    """Several branches of a net put together, each layer once; a "merge" stands where a branch ends."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    layers: dict[int, Thing] = {}
    for tensor in tensors:
        own = [layer for layer in tensor.layers if id(layer) not in layers]
        layers |= {id(layer): layer for layer in ([_merge()] if layers and own else [])}
        layers |= {id(layer): layer for layer in own}
    if len(tensors) > 1 and layers:
        last = _merge()
        layers[id(last)] = last
    return Tensor(tuple(layers.values()), all(tensor.is_complete for tensor in tensors))


def _merge() -> Thing:
    return Thing("layer", "merge", 0, {"layer_kind": "merge"}, is_used=True, is_connected=True)


def tensor_in(value: Any) -> Tensor | None:
    """The tensor in a value or a list of values."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
        return joined(value)
    return None


def layers_in(thing: Thing) -> list[Thing]:
    """All layers that a net holds, whether its forward pass uses them or not."""
    if thing.kind == "layer":
        return [thing, *[part for item in thing.items if isinstance(item, Thing) for part in layers_in(item)]]
    found: list[Thing] = []
    if thing.kind == "parameters":
        return layers_in(thing.values["owner"])
    if thing.kind == "net":
        for value in (*thing.items, *thing.attributes.values()):
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, Thing) and item.kind in ("layer", "net") and item is not thing:
                    found += layers_in(item)
    return list({id(layer): layer for layer in found}.values())


def output_of(interpreter: Interpreter, net: Thing) -> Tensor:
    """What a net gives for its input; the forward pass of a class of the program is followed once."""
    if "output" in net.values:
        tensor: Tensor = net.values["output"]
        return tensor
    own = net.values.get("class")
    forward = (own.method("forward") or own.method("call")) if isinstance(own, Class) else None
    net.values["output"] = Tensor((), False)  # a net that calls itself
    if forward is not None:
        value = interpreter.follow(Function(forward.node, forward.scope, net), [Tensor()], {})
        found = tensor_in(value)
        output = found if found is not None else Tensor((), False)
        net.values["output"] = output
        return output
    tensor = Tensor((), net.is_complete)
    replaced = [
        value for value in net.attributes.values() if isinstance(value, Thing) and value.kind in ("layer", "net")
    ]
    for item in (*net.items, *(replaced if "application" in net.values else ())):
        tensor = through(interpreter, item, tensor)
    net.values["output"] = tensor
    if net.root == "keras":
        del net.values["output"]  # more may be added
    return tensor


def forget_outputs(interpreter: Interpreter) -> None:
    """A net was changed: what it gives is to be followed again."""
    for thing in interpreter.things if not interpreter.running_forward() else ():
        if thing.kind == "net":
            thing.values.pop("output", None)


def through(interpreter: Interpreter, item: Any, tensor: Tensor) -> Tensor:
    """A tensor after one more layer or net."""
    if not isinstance(item, Thing) or item.kind not in ("layer", "net"):
        return Tensor(tensor.layers, False)
    item.is_connected = item.is_used = True
    if item.kind == "layer":
        for inner in item.items:
            if isinstance(inner, Thing):
                inner.is_connected = True
        return Tensor((*tensor.layers, item), tensor.is_complete and item.is_complete)
    output = output_of(interpreter, item)
    for layer in output.layers:
        layer.is_connected = True
    is_complete = tensor.is_complete and output.is_complete and item.is_complete
    return Tensor((*tensor.layers, *output.layers), is_complete)
