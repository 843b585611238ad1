"""What is done with a net of Keras: compile, fit, evaluate, and the methods that change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import keras_data, removed
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.keras import connect, is_input
from fovea.diagnosis.script.names import OLD_ARGUMENTS, plain
from fovea.diagnosis.script.nets import layers_in, output_of
from fovea.diagnosis.script.values import NOT_MINE, UNKNOWN, Class, Function, Ref, Thing, whole

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

_FIT_ARGUMENTS = ("x", "y", "batch_size", "epochs", "verbose", "callbacks", "validation_split", "validation_data")
_FIT_GENERATOR_ARGUMENTS = (
    "x",
    "steps_per_epoch",
    "epochs",
    "verbose",
    "callbacks",
    "validation_data",
    "validation_steps",
)


def method(interpreter: Interpreter, owner: Any, name: str, call: Call) -> Any:
    """A method of a net, a layer, a generator or a feed."""
    if isinstance(owner, Thing):
        if owner.kind == "net" and owner.root != "torch":
            handler = _NET_METHODS.get(name)
            removed.check_method(interpreter, name, call)
            return handler(interpreter, owner, name, call) if handler else NOT_MINE
        if owner.kind in ("layer", "loss") and name == "call" and call.args:
            return call.args[0]
        if owner.kind == "parent":
            base = owner.values["class"].method(name)
            real = owner.values["of"]
            return interpreter.follow(Function(base.node, base.scope, real), call.args, call.keywords) if base else None
        return keras_data.method(interpreter, owner, name, call)
    if owner is UNKNOWN and name in _NET_METHODS and _looks_like_keras(interpreter, name, call):
        net = interpreter.make("net", "keras.Model", call.line, framework="keras")
        net.is_complete = False
        removed.check_method(interpreter, name, call)
        return _NET_METHODS[name](interpreter, net, name, call)
    return NOT_MINE


def _looks_like_keras(interpreter: Interpreter, name: str, call: Call) -> bool:
    roots = {imported.split(".")[0] for imported, _ in interpreter.imports}
    if "torch" in roots and not {"keras", "tensorflow"} & roots:
        return False  # another library's fit of the same name
    if name == "fit_generator":
        return True
    words = {"epochs", "nb_epoch", "validation_data", "validation_split", "callbacks", "steps_per_epoch"}
    return name == "fit" and bool(words & call.keywords.keys())


def _add(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    layer = call.get("layer", 0)
    if is_input(layer):
        return None
    net.items.append(layer)
    connect(layer)
    if interpreter.branches or not isinstance(layer, Thing):
        net.is_complete = False
    return None


def _pop(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    return net.items.pop() if net.items else UNKNOWN


def _compile(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    optimizer = call.get("optimizer", 0, "rmsprop")
    loss = call.get("loss", 1)
    metrics = call.get("metrics", 2, [])
    if isinstance(optimizer, str):
        word = plain(optimizer)
        optimizer = Thing("optimizer", f"keras.{word}", call.line, {"optimizer": word, "is_default_rate": True})
    if isinstance(optimizer, Ref):
        facts = {"optimizer": plain(optimizer.name), "is_default_rate": True}
        optimizer = Thing("optimizer", optimizer.path, call.line, facts)
    settings = {"optimizer": optimizer, "loss": loss, "metrics": metrics, "line": call.line}
    settings["lines"] = {part: call.line_of(part) for part in ("optimizer", "loss", "metrics")}
    net.values["compiled"] = settings
    net.values["optimizer"] = optimizer
    interpreter.note(
        "compile", call.line, net=net, trainable={id(layer): layer.is_trainable for layer in layers_in(net)}
    )
    return None


def _fit(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    names = _FIT_GENERATOR_ARGUMENTS if name == "fit_generator" else _FIT_ARGUMENTS
    values = dict(zip(names, call.args, strict=False))
    given = {OLD_ARGUMENTS.get(key, key): value for key, value in call.keywords.items()}
    given = {"x" if key == "generator" else key: value for key, value in given.items()}
    values |= dict(net.values.get("wrapped", {}).items()) | given
    values["lines"] = {OLD_ARGUMENTS.get(key, key): call.line_of(key) for key in call.keywords}
    _mark_passed(values.get("callbacks"))
    trainable = {id(layer): layer.is_trainable for layer in layers_in(net)}
    output = output_of(interpreter, net)
    interpreter.note(
        "fit",
        call.line,
        net=net,
        compiled=net.values.get("compiled", {}),
        given=values,
        trainable=trainable,
        output=output,
    )
    return interpreter.make("history", "keras.History", call.line, net=net)


def _mark_passed(callbacks: Any) -> None:
    """Callbacks reach a training."""
    for callback in callbacks if isinstance(callbacks, list | tuple) else [callbacks]:
        if isinstance(callback, Thing):
            callback.is_connected = callback.is_used = True
        elif isinstance(callback, Class):
            callback.is_made = True


def _evaluate(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    kind = "predict" if name.startswith("predict") else "evaluate"
    data = call.first(("x", "generator", "x_test"), 0)
    interpreter.note(kind, call.line, net=net, data=data, labels=call.get("y", 1), call=name)
    return UNKNOWN


def _load_weights(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    interpreter.note("load_weights", call.line, net=net)
    return None


def _get_layer(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    index = whole(call.get("index", 1))
    layers = layers_in(net)
    named = [layer for layer in layers if layer.values.get("name") == call.get("name", 0)]
    return named[0] if named else layers[index] if index is not None and index < len(layers) else UNKNOWN


def _train_on_batch(interpreter: Interpreter, net: Thing, name: str, call: Call) -> Any:
    values = {"x": call.get("x", 0), "y": call.get("y", 1), "is_one_batch": True}
    compiled, output = net.values.get("compiled", {}), output_of(interpreter, net)
    interpreter.note("fit", call.line, net=net, compiled=compiled, given=values, trainable={}, output=output)
    return UNKNOWN


_NET_METHODS: dict[str, Callable[[Interpreter, Thing, str, Call], Any]] = {
    "add": _add,
    "pop": _pop,
    "compile": _compile,
    "fit": _fit,
    "fit_generator": _fit,
    "train_on_batch": _train_on_batch,
    "evaluate": _evaluate,
    "evaluate_generator": _evaluate,
    "predict": _evaluate,
    "predict_generator": _evaluate,
    "predict_classes": _evaluate,
    "predict_proba": _evaluate,
    "load_weights": _load_weights,
    "set_weights": _load_weights,
    "get_layer": _get_layer,
}
