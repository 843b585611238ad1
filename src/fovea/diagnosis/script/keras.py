"""What Keras 1 to 3 and tf.keras make and do: layers, nets, compile and fit, generators, callbacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import keras_data, removed
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.names import (
    CALLBACKS,
    KERAS_LAYERS,
    LOSSES,
    MERGE_FUNCTIONS,
    OLD_ARGUMENTS,
    OPTIMIZERS,
    loss_word,
    plain,
)
from fovea.diagnosis.script.nets import escape, layers_in, output_of, tensor_in
from fovea.diagnosis.script.values import (
    NOT_MINE,
    UNKNOWN,
    Class,
    Data,
    Function,
    Ref,
    Tensor,
    Thing,
    number,
    whole,
)

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
_PREPROCESSING_NETS = ("EfficientNet", "ConvNeXt", "MobileNetV3", "RegNet")


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A call of something of Keras (or of TensorFlow's older layers of the same names)."""
    removed.check_call(interpreter, ref, call)
    if ref.root == "tensorflow":
        return _tensorflow(interpreter, ref, call)
    if ref.root != "keras":
        return NOT_MINE
    name = ref.name
    for known in (_layer, _net, _setting, keras_data.call):
        value = known(interpreter, ref, call)
        if value is not NOT_MINE:
            return value
    if ".backend" in ref.path or name in ("clear_session", "set_session"):
        return _tensorflow(interpreter, ref, call)
    return NOT_MINE


def _layer(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    name = ref.name
    if name in MERGE_FUNCTIONS and (tensor := tensor_in(call.get("inputs", 0))) is not None:
        return tensor
    if ".applications" in ref.path and name[:1].isupper():
        return _application(interpreter, ref, call)
    if name == "Input":
        return Tensor()
    if name not in KERAS_LAYERS or ".losses" in ref.path or ".metrics" in ref.path or ".backend" in ref.path:
        return _activation_function(interpreter, ref, call)
    kind, arguments = KERAS_LAYERS[name]
    values = _given(call, arguments)
    layer = interpreter.make("layer", ref.path, call.line, layer_kind=kind, **values)
    inner = [value for value in call.values() if isinstance(value, Thing) and value.kind in ("layer", "net")]
    layer.items = inner
    if kind in ("lambda", "input") or inner:
        layer.is_complete = kind == "input"
    if call.get("trainable") is False:
        layer.is_trainable = False
    for value in call.values():
        escape(value, deep=False)
    return layer


def _activation_function(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """`keras.activations.relu(x)`."""
    tensor = tensor_in(call.args[0]) if call.args else None
    if tensor is not None and plain(ref.name) in ("relu", "softmax", "sigmoid", "tanh", "elu", "selu", "gelu"):
        return after(interpreter, tensor, plain(ref.name), call.line)
    return tensor if tensor is not None and ref.name in ("reshape", "cast") else NOT_MINE


def after(interpreter: Interpreter, tensor: Tensor, activation: str, line: int) -> Tensor:
    """A tensor after an activation that is a function."""
    layer = interpreter.make("layer", activation, line, layer_kind="activation", activation=activation)
    layer.is_connected = True
    return Tensor((*tensor.layers, layer), tensor.is_complete, tensor.source)


def _given(call: Call, arguments: tuple[str, ...]) -> dict[str, Any]:
    values = dict(zip(arguments, call.args, strict=False))
    values |= {OLD_ARGUMENTS.get(name, name): value for name, value in call.keywords.items()}
    return {
        name: value for name, value in values.items() if name not in ("class", "layer_kind", "kind", "path", "line")
    }


def _application(interpreter: Interpreter, ref: Ref, call: Call) -> Thing:
    net = interpreter.make("net", "keras.application", call.line, framework="keras", application=ref.name)
    body = interpreter.make("layer", ref.path, call.line, layer_kind="application", name=ref.name)
    body.values["has_weights"] = call.get("weights", None, "imagenet") is not None
    body.is_used = True
    body.values["scales_inputs"] = ref.name.startswith(_PREPROCESSING_NETS)
    net.items, net.is_complete = [body], False
    return net


def _net(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    if ref.name == "Sequential":
        net = interpreter.make("net", "keras.Sequential", call.line, framework="keras")
        layers = call.get("layers", 0, [])
        net.items = [item for item in layers if not _is_input(item)] if isinstance(layers, list | tuple) else []
        net.is_complete = layers is not UNKNOWN
        for layer in net.items:
            _connect(layer)
        return net
    if ref.name in ("Model", "Functional") and ref.path.count(".") <= 3:
        outputs = call.first(("outputs", "output"), 1)
        tensor = tensor_in(outputs)
        net = interpreter.make("net", "keras.Model", call.line, framework="keras")
        net.items = list(tensor.layers) if tensor is not None else []
        has_one_end = not isinstance(outputs, list | tuple) or len(outputs) == 1
        net.is_complete = tensor is not None and tensor.is_complete and has_one_end
        return net
    if ref.name in ("load_model", "model_from_json", "model_from_yaml", "clone_model", "model_from_config"):
        net = interpreter.make("net", "keras.Model", call.line, framework="keras", is_loaded=ref.name == "load_model")
        net.is_complete = False
        return net
    if ref.name in ("KerasClassifier", "KerasRegressor"):
        builder = call.first(("build_fn", "model"), 0)
        built = interpreter.follow(builder, [], {}) if isinstance(builder, Function) else UNKNOWN
        net = built if isinstance(built, Thing) and built.kind == "net" else UNKNOWN
        if net is not UNKNOWN:
            net.values["wrapped"] = dict(call.keywords)
        return net
    return NOT_MINE


def _is_input(item: Any) -> bool:
    """`keras.Input(...)` in a list of layers."""
    return isinstance(item, Tensor) and not item.layers


def _connect(layer: Any) -> None:
    if isinstance(layer, Thing):
        layer.is_connected = layer.is_used = True
        for item in layers_in(layer) if layer.kind == "layer" else layer.items:
            if isinstance(item, Thing):
                item.is_connected = True


def _setting(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """Optimizers, callbacks, losses, schedules."""
    name, word = ref.name, plain(ref.name)
    if word in OPTIMIZERS or (".optimizers" in ref.path and name in ("Optimizer", "TFOptimizer")):
        return interpreter.make("optimizer", ref.path, call.line, call=call, **optimizer_facts(word, call))
    if ".schedules" in ref.path or name in ("ExponentialDecay", "PiecewiseConstantDecay", "CosineDecay"):
        first = number(call.first(("initial_learning_rate",), 0))
        return interpreter.make("schedule", ref.path, call.line, first=first)
    if name in CALLBACKS:
        return interpreter.make("callback", ref.path, call.line, call=call, monitor=_monitor(name, call))
    if ".metrics" in ref.path and name[:1].isupper():
        reported = call.get("name", None, _snake(name))
        return interpreter.make("metric", ref.path, call.line, reported=reported if isinstance(reported, str) else name)
    if ".initializers" in ref.path and name != "get":
        return interpreter.make("initializer", ref.path, call.line)
    if loss_word(name) in LOSSES and ".metrics" not in ref.path:
        return _loss(interpreter, ref, call)
    return NOT_MINE


def _loss(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A loss, or the value of one: `keras.losses.binary_crossentropy(labels, answers)`."""
    is_value = len(call.args) >= 2 or "y_pred" in call.keywords or "logits" in call.keywords
    facts = {
        "loss": loss_word(ref.name),
        "from_logits": True if "logits" in ref.name else call.get("from_logits", None if is_value else 0, False),
        "label_smoothing": call.get("label_smoothing"),
    }
    if not is_value:
        return interpreter.make("loss", ref.path, call.line, **facts)
    answers = next((found for value in call.values() if (found := tensor_in(value)) is not None), None)
    loss = Thing("loss", ref.path, call.line, facts)
    interpreter.note("loss", call.line, loss=loss, output=answers, args=call.args)
    return UNKNOWN


def _snake(name: str) -> str:
    """As Keras names a metric by its class: "BinaryAccuracy" -> "binary_accuracy"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def optimizer_facts(word: str, call: Call) -> dict[str, Any]:
    """Settings of a Keras optimizer in any spelling."""
    rate = call.first(("learning_rate", "lr"), 0)
    if isinstance(rate, Thing) and rate.kind == "schedule":
        rate = rate.values.get("first")
    given = "learning_rate" in call.keywords or "lr" in call.keywords or bool(call.args)
    facts = {"optimizer": word, "learning_rate": number(rate), "is_default_rate": not given}
    facts |= {"momentum": number(call.get("momentum")), "weight_decay": number(call.get("weight_decay"))}
    return facts


def _monitor(name: str, call: Call) -> str | None:
    if name not in ("EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau"):
        return None
    monitor = call.get("monitor", 1 if name == "ModelCheckpoint" else 0, "val_loss")
    return monitor if isinstance(monitor, str) else None


def _tensorflow(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    tensor = tensor_in(call.args[0]) if call.args else None
    word = plain(ref.name)
    if loss_word(ref.name) in LOSSES and ".nn." in ref.path:
        return _loss(interpreter, ref, call)
    if tensor is not None:
        if word in ("relu", "softmax", "sigmoid", "tanh", "elu", "selu", "gelu", "leakyrelu", "logsoftmax"):
            return after(interpreter, tensor, word, call.line)
        if word in ("reshape", "cast", "identity", "expanddims", "concat"):
            return tensor
        return Tensor(tensor.layers, False, tensor.source, is_tail_known=False)
    if word in OPTIMIZERS | {name + "optimizer" for name in OPTIMIZERS}:
        word = word.removesuffix("optimizer")
        return interpreter.make("optimizer", ref.path, call.line, call=call, **optimizer_facts(word, call))
    return keras_data.tensorflow(interpreter, ref, call)


_PREPARING = {"rescaling", "normalization", "resizing", "centercrop", "reshape"}


def net_on_data(net: Thing, data: Data, line: int) -> Data | None:
    """A net of preprocessing layers that is called on images; None: it is another net."""
    kinds = [str(layer.values.get("layer_kind")) for layer in net.items if isinstance(layer, Thing)]
    is_preparing = all(kind in _PREPARING or kind.startswith("random") for kind in kinds)
    if net.root != "keras" or not kinds or not is_preparing or not net.is_complete or len(kinds) < len(net.items):
        return None
    for layer in net.items:
        data = layer_on_data(layer, data, line)
    return data


def layer_on_data(layer: Thing, data: Data, line: int) -> Data:
    """A preprocessing layer that is called on images."""
    kind = layer.values.get("layer_kind")
    layer.is_connected = True
    if kind == "rescaling":
        scale, offset = number(layer.values.get("scale")), number(layer.values.get("offset", 0))
        if scale is None or offset is None:
            return data.opaque("Rescaling")
        return data.arithmetic(ast.Mult(), scale, line).arithmetic(ast.Add(), offset, line)
    if kind == "normalization":
        return replace(data.with_step("Normalization"), is_standardised=True)
    if str(kind).startswith("random"):
        return data.with_step("augmented")
    return data if kind in ("resizing", "centercrop", "reshape") else data.opaque(str(kind))


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
    if _is_input(layer):
        return None
    net.items.append(layer)
    _connect(layer)
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
    mark_passed(values.get("callbacks"))
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


def mark_passed(callbacks: Any) -> None:
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
