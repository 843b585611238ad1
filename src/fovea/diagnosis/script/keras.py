"""What Keras 1 to 3 and tf.keras make: layers, nets, optimizers, losses, callbacks."""

from __future__ import annotations

import ast
import re
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
from fovea.diagnosis.script.nets import escape, layers_in, tensor_in
from fovea.diagnosis.script.values import (
    NOT_MINE,
    UNKNOWN,
    Data,
    Function,
    Ref,
    Tensor,
    Thing,
    number,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

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
        net.items = [item for item in layers if not is_input(item)] if isinstance(layers, list | tuple) else []
        net.is_complete = layers is not UNKNOWN
        for layer in net.items:
            connect(layer)
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


def is_input(item: Any) -> bool:
    """`keras.Input(...)` in a list of layers."""
    return isinstance(item, Tensor) and not item.layers


def connect(layer: Any) -> None:
    """A net holds a layer, and with it the layers inside."""
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
