"""What happens at the border of the program: attributes, places, methods and calls of what libraries made."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import arrays, keras, keras_methods, removed, torch, torch_data
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.loops import elements
from fovea.diagnosis.script.names import CALLBACKS, KERAS_LAYERS, OPTIMIZERS, WELL_KNOWN, canonical, plain
from fovea.diagnosis.script.nets import escape, forget_outputs, layers_in, output_of, tensor_in, through
from fovea.diagnosis.script.values import (
    NEVER,
    NOT_MINE,
    UNKNOWN,
    Class,
    Data,
    Function,
    Method,
    Ref,
    Statistic,
    Tensor,
    Thing,
    is_plain,
    number,
    split_of_name,
    words_of,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

_BUILTINS = {
    *("int", "float", "str", "len", "range", "xrange", "enumerate", "zip", "list", "tuple", "dict", "set", "print"),
    *("max", "min", "abs", "sorted", "reversed", "iter", "next", "super", "open", "exit", "quit", "sum", "type", "map"),
    *("isinstance", "round", "input", "raw_input", "any", "all", "getattr", "setattr", "hasattr", "display"),
}
_DATA_ATTRIBUTES = {"T", "values", "data", "iloc", "loc", "ix"}
_LABEL_ATTRIBUTES = {"label", "labels", "target", "targets", "class_", "y"}


def undefined_name(interpreter: Interpreter, name: str) -> Any:
    """A name that nothing in the program defines: a builtin, or one that a star import brings."""
    if name in _BUILTINS:
        return Ref(f"builtins.{name}")
    for module in interpreter.star_imports:
        if module.split(".")[0] in ("keras", "torch", "torchvision", "sklearn", "numpy"):
            is_theirs = name in KERAS_LAYERS or name in CALLBACKS or plain(name) in OPTIMIZERS or name[:1].isupper()
            if is_theirs or name in ("np_utils", "to_categorical", "mnist", "cifar10", "load_img", "img_to_array"):
                return Ref(f"{module}.{name}")
    return _without_import(interpreter, name)


def _without_import(interpreter: Interpreter, name: str) -> Any:
    """Names that everybody imports from one place: what people show of a program often leaves the imports out."""
    roots = {module.split(".")[0] for module in interpreter.star_imports}
    if roots - {"keras", "tensorflow", "torch", "torchvision", "sklearn", "numpy", "matplotlib", "pylab"}:
        return UNKNOWN  # a star may bring anything
    if name in WELL_KNOWN:
        return Ref(WELL_KNOWN[name])
    is_torch = any(imported.split(".")[0] == "torch" for imported, _ in interpreter.imports)
    if not is_torch and (name in KERAS_LAYERS or name in CALLBACKS):
        return Ref(f"keras.{'layers' if name in KERAS_LAYERS else 'callbacks'}.{name}")
    return UNKNOWN


def unpack(interpreter: Interpreter, value: Any, target: ast.Tuple | ast.List, line: int) -> Sequence[Any]:
    """The parts of a value for the parts of a target."""
    count = len(target.elts)
    if isinstance(value, list | tuple) and len(value) == count:
        return value
    if isinstance(value, Thing) and value.kind in ("feed", "batch") and count == 2:
        return [value.values.get("images", UNKNOWN), value.values.get("labels", UNKNOWN)]
    if isinstance(value, Thing) and value.kind == "tfds" and count == 2:
        return [value.items[0] if value.items else UNKNOWN, UNKNOWN]
    return [UNKNOWN] * count


def store_attribute(interpreter: Interpreter, owner: Any, name: str, value: Any, line: int) -> None:
    """`owner.name = value`."""
    if isinstance(value, Thing) and not value.label:
        value.label = name
    if name in ("trainable", "requires_grad") and isinstance(owner, Thing):
        if value in (False, True):
            interpreter.note("freeze", line, owner=owner, is_trainable=value)
            for layer in layers_in(owner):
                layer.is_trainable = value
        return
    if name == "grad":
        interpreter.note("zero_grad", line, owner=owner)
    if name == "transform":
        interpreter.note("transform_set", line, owner=owner)
    if isinstance(owner, Thing) and owner.kind == "optimizer" and name in ("lr", "learning_rate"):
        owner.values |= {"learning_rate": number(value), "is_default_rate": False}
    if isinstance(owner, Thing):
        owner.attributes[name] = value
        if isinstance(value, Thing) and owner.kind == "net":
            value.values["in_class"] = True  # whether it is used, the forward pass tells
            forget_outputs(interpreter)
        if name in ("transform",) and owner.kind == "feed":
            torch_data.apply_transform(owner, value)
    elif isinstance(owner, Tensor | Data):
        return
    elif owner is UNKNOWN:
        escape(value)


def store_item(interpreter: Interpreter, owner: Any, index: Any, value: Any) -> Any:
    """`owner[index] = value`; what the name of the owner stands for afterwards, or None where it stays."""
    is_place = isinstance(owner, list) and isinstance(index, int) and -len(owner) <= index < len(owner)
    if is_place or (isinstance(owner, dict) and is_plain(index)):
        owner[index] = value
    elif isinstance(owner, Thing) and owner.kind == "net" and isinstance(index, int) and abs(index) <= len(owner.items):
        if owner.items and isinstance(value, Thing):
            owner.items[index if index < len(owner.items) else -1] = value
            value.values["in_class"] = True
            forget_outputs(interpreter)
    elif isinstance(owner, Data):
        if isinstance(value, Data) and value.part == owner.part:
            return replace(value, split=owner.split or value.split)
        return owner.opaque("places changed")
    else:
        escape(value)
    return None


def attribute(interpreter: Interpreter, value: Any, name: str, line: int) -> Any:
    """`value.name`."""
    if isinstance(value, Ref):
        if value.root == "builtins":
            return UNKNOWN
        removed.check_attribute(interpreter, canonical(f"{value.path}.{name}"), line)
        return 3.14159 if value.path == "numpy" and name == "pi" else Ref(canonical(f"{value.path}.{name}"))
    if isinstance(value, Data):
        if name == "shape":
            return UNKNOWN if value.shape is None or value.count is None else (value.count, *value.shape)
        if name in _LABEL_ATTRIBUTES and value.part == "table":
            return replace(value, part="labels", label_kind="integer")
        return (
            value if name in _DATA_ATTRIBUTES else UNKNOWN if name in ("dtype", "ndim", "size") else Method(value, name)
        )
    if isinstance(value, Thing):
        return _thing_attribute(interpreter, value, name, line)
    if isinstance(value, list | tuple | dict | str | Tensor | Class | Function | Method | Statistic):
        return Method(value, name)
    return UNKNOWN


def _thing_attribute(interpreter: Interpreter, thing: Thing, name: str, line: int) -> Any:
    if name in thing.attributes:
        return thing.attributes[name]
    own = thing.values.get("class")
    if thing.kind == "net" and name in ("forward", "call", "__call__") and not interpreter.running_forward():
        return thing  # called by its name, the net is called
    if isinstance(own, Class) and (method := own.method(name)) is not None:
        return Function(method.node, method.scope, thing)
    if thing.kind == "net":
        if name == "layers":
            return layers_in(thing) or UNKNOWN
        if name in ("output", "outputs"):
            return output_of(interpreter, thing)
        if name in ("input", "inputs"):
            return Tensor()
        if name in ("optimizer", "history", "trainable_weights"):
            return thing.values.get(name, UNKNOWN)
        if name in ("fc", "classifier", "head", "features"):
            return thing.attributes.setdefault(name, Thing("net", f"{thing.path}.{name}", line, is_complete=False))
    if thing.kind == "feed" and name in ("classes", "labels", "targets", "filenames"):
        interpreter.note("order_read", line, feed=thing, name=name)
        return thing.values.get("labels", UNKNOWN) if name != "filenames" else UNKNOWN
    if thing.kind == "arguments":
        return thing.values.get(name, UNKNOWN)
    if thing.kind == "layer" and name in ("output", "input"):
        return Tensor((thing,), False)
    if thing.kind == "history" and name in ("history", "epoch"):
        return thing
    return Method(thing, name)


def item(interpreter: Interpreter, value: Any, index: Any, node: ast.Subscript) -> Any:
    """`value[index]`."""
    if isinstance(value, dict):
        return value.get(index, UNKNOWN) if is_plain(index) else UNKNOWN
    if isinstance(value, list | tuple | str):
        whole = isinstance(index, slice) and all(end is None or isinstance(end, int) for end in _ends(index))
        try:
            return value[index] if whole or isinstance(index, int) else UNKNOWN
        except (IndexError, ValueError):
            return UNKNOWN
    if isinstance(value, Data):
        return _part_of_data(interpreter, value, index, node)
    if isinstance(value, Thing):
        if value.kind == "history" and isinstance(index, str):
            interpreter.note("history_key", node.lineno, key=index, history=value)
        if value.kind == "net" and isinstance(index, int) and value.items and abs(index) < len(value.items):
            return value.items[index]
        if value.kind == "feed":
            return Thing("batch", value.path, value.line, value.values)
        if value.kind == "batch" and isinstance(index, int):
            return value.values.get("images" if index == 0 else "labels", UNKNOWN)
        return UNKNOWN
    if isinstance(value, Tensor):
        return value
    return UNKNOWN


def _ends(index: slice) -> tuple[Any, Any, Any]:
    return index.start, index.stop, index.step


def _part_of_data(interpreter: Interpreter, data: Data, index: Any, node: ast.Subscript) -> Any:
    data = arrays.column_of(data, index)
    first = index[0] if isinstance(index, tuple) and index else index
    if isinstance(first, slice):
        start, stop, _ = _ends(first)
        if start is None and stop is None:
            return data
        if isinstance(stop, int) and stop > 0 and (start is None or isinstance(start, int)):
            return _renamed(interpreter, replace(data, count=stop - (start or 0), counted_line=node.lineno))
        return _renamed(interpreter, replace(data, count=None))
    names = words_of(node.slice.id) if isinstance(node.slice, ast.Name) else []
    split = split_of_name(node.slice.id) if names and isinstance(node.slice, ast.Name) else None
    if split is not None:  # x[train_index]: folds
        return replace(data, split="val" if split == "test" and data.split == "train" else split, count=None)
    return _renamed(interpreter, data) if isinstance(index, str) else replace(data, count=None)


def _renamed(interpreter: Interpreter, data: Data) -> Data:
    """A part that is cut from the training data for a name that speaks of another split belongs to that split."""
    hint = interpreter.hint
    split = split_of_name(hint[0]) if len(hint) == 1 else None
    if split in ("val", "test") and data.split in ("train", None):
        return replace(data, split=split)
    return data


def instantiate(interpreter: Interpreter, made: Class, call: Call) -> Any:
    """An object of a class of the program."""
    made.is_made = True
    bases = made.library_bases()
    kind = kind_of_bases(bases)
    thing = interpreter.make(kind, bases[0] if bases else made.node.name, call.line)
    thing.values |= {"class": made, "class_name": made.node.name}
    init = made.method("__init__")
    if init is not None:
        interpreter.follow(Function(init.node, init.scope, thing), call.args, call.keywords)
    else:
        for value in call.values():
            escape(value)
    if kind == "feed":
        torch_data.describe_own_dataset(interpreter, thing, call)
    if kind == "callback":
        thing.values["monitor"] = None
    return thing


def kind_of_bases(bases: Sequence[str]) -> str:
    """What an object of a class with these bases is."""
    for base in bases:
        name = base.rsplit(".", 1)[-1]
        if name in ("Module", "Model", "LightningModule", "Sequential"):
            return "net"
        if name == "Layer" and base.startswith("keras"):
            return "net"
        if name == "Callback" or name in CALLBACKS:
            return "callback"
        if name in ("Dataset", "Sequence", "PyDataset", "ImageFolder", "DatasetFolder", "VisionDataset"):
            return "feed"
    return "object"


def call_thing(interpreter: Interpreter, thing: Thing, call: Call) -> Any:
    """`layer(x)`, `model(x)`, `criterion(output, target)`."""
    tensor = tensor_in(call.args[0]) if call.args else None
    if thing.kind in ("layer", "net"):
        first = call.args[0] if call.args else UNKNOWN
        if thing.kind == "layer" and isinstance(first, Data):
            return keras.layer_on_data(thing, first, call.line)
        if isinstance(first, Data) and (prepared := keras.net_on_data(thing, first, call.line)) is not None:
            return prepared
        if thing.kind == "net" and not interpreter.running_forward():
            interpreter.note("forward", call.line, net=thing, data=first)
        return through(interpreter, thing, tensor if tensor is not None else Tensor(source=first))
    if thing.kind == "loss":
        answers = next((found for value in call.values() if (found := tensor_in(value)) is not None), None)
        interpreter.note("loss", call.line, loss=thing, output=answers, args=call.args)
        return UNKNOWN
    if thing.kind == "transform" and call.args:
        return torch_data.transformed(call.args[0], [thing])
    return call_unknown(interpreter, thing.label, call)


def call_unknown(interpreter: Interpreter, name: str, call: Call) -> Any:
    """A call of something that is not followed."""
    for value in call.values():
        escape(value)
    tensor = next((found for value in call.args if (found := tensor_in(value)) is not None), None)
    if tensor is not None:
        return Tensor(tensor.layers, False, tensor.source, is_tail_known=False)
    data = [value for value in call.args if isinstance(value, Data)]
    node = call.node.func if call.node is not None else None
    name = name or getattr(node, "id", "") or getattr(node, "attr", "") or "call"
    return data[0].opaque(name) if len(data) == 1 and data[0].split is not None else UNKNOWN


def call_reference(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A call of what a library gives."""
    if ref.path in ("builtins.exit", "builtins.quit", "sys.exit", "os._exit"):
        return NEVER
    if ref.path == "builtins.super":
        return _parent(interpreter)
    if ref.path == "builtins.setattr" and len(call.args) == 3 and isinstance(call.args[1], str):
        store_attribute(interpreter, call.args[0], call.args[1], call.args[2], call.line)
        return None
    if ref.path == "builtins.next" and call.args:
        return elements(call.args[0])[0]
    for known in (keras.call, torch.call):
        value = known(interpreter, ref, call)
        if value is not NOT_MINE:
            return value
    value = arrays.call(interpreter, ref, call)
    if value is UNKNOWN:
        value = call_unknown(interpreter, ref.name, call) if ref.root != "builtins" else UNKNOWN
        for passed in call.values() if ref.name not in ("print", "type", "isinstance") else ():
            escape(passed)
    return value


def _parent(interpreter: Interpreter) -> Any:
    """`super()`: the same object, seen as its base class."""
    owner = next(iter(interpreter.scope.names.values()), UNKNOWN)
    own = owner.values.get("class") if isinstance(owner, Thing) else None
    function = interpreter.scope.function
    for base in own.bases if isinstance(own, Class) else ():
        if isinstance(base, Class) and function is not None:
            parent = Thing("parent", owner.path, owner.line, {"class": base, "of": owner})
            parent.attributes = owner.attributes
            return parent
    return UNKNOWN


def call_method(interpreter: Interpreter, method: Method, call: Call) -> Any:
    """A call of a method of something that is followed."""
    owner, name = method.owner, method.name
    removed.check_data_method(interpreter, name, call.line)
    if isinstance(owner, Data):
        return arrays.method(interpreter, owner, name, call)
    if isinstance(owner, list | dict | str):
        return _container_method(owner, name, call)
    for known in (keras_methods.method, torch.method):
        value = known(interpreter, owner, name, call)
        if value is not NOT_MINE:
            return value
    return call_unknown(interpreter, name, call)


def _container_method(owner: Any, name: str, call: Call) -> Any:
    first = call.args[0] if call.args else UNKNOWN
    if isinstance(owner, list):
        if name in ("append", "insert"):
            owner.append(call.args[-1] if call.args else UNKNOWN)
            escape(owner[-1], deep=False)
        elif name == "extend":
            owner.extend(first if isinstance(first, list | tuple) else [UNKNOWN])
        elif name == "pop" and owner:
            return owner.pop()
        elif name == "copy":
            return list(owner)
        return UNKNOWN if name not in ("append", "insert", "extend") else None
    if isinstance(owner, dict):
        if name == "get":
            return owner.get(first, UNKNOWN) if is_plain(first) else UNKNOWN
        return {"items": list(owner.items()), "keys": list(owner), "values": list(owner.values())}.get(name, UNKNOWN)
    if name in ("lower", "upper", "strip") and isinstance(owner, str):
        return str(getattr(owner, name)())
    return UNKNOWN
