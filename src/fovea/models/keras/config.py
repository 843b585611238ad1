"""A Keras config (the JSON of a model) as a graph of plain layers. Nothing in it is ever run."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.errors import FoveaError, ModelError

MAX_CONFIG_BYTES = 2**24  # of the JSON: the largest nets of Keras' own have a megabyte
MAX_LAYERS = 2000
_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
# Keras 1's names of what a layer is told -> those of today.
_OLD_NAMES = {
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "output_dim": "units",
    "p": "rate",
    "init": "kernel_initializer",
    "batch_input_shape": "batch_shape",
}
_OLD_CLASSES = {
    "Convolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "DepthwiseConvolution2D": "DepthwiseConv2D",
    "Model": "Functional",
}
_ORDERINGS = {"tf": "channels_last", "th": "channels_first"}


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a config.

    Attributes:
        config: what it is told, by Keras 2's and 3's names.
        inputs: the names of the layers before it.
        era: 1, 2 or 3: Keras' version.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    era: int

    def refused(self, reason: str) -> ModelError:
        """The error that names this layer."""
        return ModelError(f"the layer {_shown(self.name)} ({_cut(self.class_name, 60)}): {_cut(reason, 800)}.")

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value or not 1 <= value < 2**31:
            raise self.refused(f"its {key} is {_shown(value)}, expected a whole number of at least 1")
        if value != int(value):
            raise self.refused(f"its {key} is {_shown(value)}, expected a whole number")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.config.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.refused(f"its {key} is {_shown(value)}, expected a number")
        return float(value)

    def pair(self, key: str, default: int | None = None) -> tuple[int, int]:
        """Two whole numbers, given as a list or as one for both."""
        value = self.config.get(key, default)
        sides = value if isinstance(value, list | tuple) else [value, value]
        if len(sides) != 2:
            raise self.refused(f"its {key} is {_shown(value)}, expected two whole numbers")
        first, second = (KerasLayer(self.name, self.class_name, {key: side}, (), 3).whole(key) for side in sides)
        return first, second

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise self.refused(f"its {key} is {_shown(value)}, expected true or false")
        return value


@dataclass(frozen=True)
class Graph:
    """A net as Keras describes it.

    Attributes:
        layers: in Keras' order, in which its weights are stored too.
        output: the name of the last layer.
        input_shape: the values of an image without the batch axis; None where the config does not say.
    """

    name: str
    layers: tuple[KerasLayer, ...]
    output: str
    input_shape: tuple[Any, ...] | None
    era: int


def _shown(value: Any) -> str:
    return _cut(repr(value), 60)


def _cut(text: str, most: int) -> str:
    """A text of a file for a message: cut where it is long, what is not printable escaped."""
    if len(text) > most:
        text = text[: most - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def short_note(text: str) -> str:
    """A line for the user that quotes a file."""
    return _cut(text, 400)


@contextlib.contextmanager
def as_keras_writes() -> Iterator[None]:
    """Whatever else a config holds than what Keras writes ends in one message."""
    try:
        yield
    except FoveaError:
        raise
    except (AttributeError, ArithmeticError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"its config is not what Keras writes ({type(error).__name__}: {_shown(error)}).") from None


@as_keras_writes()
def parse_config(text: str | bytes, version: str | None = None) -> Graph:
    """The graph of `model.to_json()`, of a whole-model file's config or of a .keras' config.json.

    Args:
        version: the Keras that wrote it, where the file says so; else the config's own form tells.

    Raises:
        ModelError: when it is no such config, or holds what is not supported; names the layer.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelError(f"its config has {len(text):,} bytes, more than any net that fits here has.")
    try:
        model = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its config is no valid JSON ({type(error).__name__}).") from None
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str) or "config" not in model:
        raise ModelError("it holds no Keras model: expected what model.to_json() gives.")
    era = _era(model, version)
    kind = _OLD_CLASSES.get(model["class_name"], model["class_name"])
    _check_origin(model, str(model["class_name"]), "the model itself")
    config = model["config"]
    if kind == "Sequential":
        return _sequential(config if isinstance(config, dict) else {"layers": config}, era)
    if kind == "Functional" and isinstance(config, dict):
        return _functional(config, era)
    raise ModelError(
        f"it is a {_cut(model['class_name'], 60)}, whose layers its config does not tell; Sequential and "
        "functional models are read."
    )


def _era(model: Mapping[str, Any], version: str | None) -> int:
    version = version or model.get("keras_version")
    if isinstance(version, str) and version[:1] in ("1", "2", "3"):
        return int(version[0])
    if "module" in model:
        return 3
    text = json.dumps(model["config"])
    return 1 if '"nb_filter"' in text or '"output_dim"' in text or '"border_mode"' in text else 2


def _check_origin(entry: Mapping[str, Any], class_name: str, name: str) -> None:
    """Refuse classes that are not Keras' own."""
    origin = foreign_origin(entry, class_name)
    if origin is not None:
        raise ModelError(
            f"the layer {_shown(name)} ({_cut(class_name, 60)}) is a class of someone's own ({_shown(origin)}), and "
            "code is never run: only layers of Keras' own are read."
        )


def foreign_origin(entry: Mapping[str, Any], name: str) -> Any | None:
    """Where a class or function of a config comes from that is not Keras' own; None for Keras' own.

    Args:
        name: of the class; of the function, whose class is "function".
    """
    module, registered = entry.get("module"), entry.get("registered_name")
    if entry.get("class_name") == "function":  # of Python's
        module = None if module == "builtins" else module
        registered = None if registered == "function" else registered
    if isinstance(registered, str) and registered not in (name, f"keras>{name}"):
        return registered
    if ">" in name:
        return name
    own = module is None or (isinstance(module, str) and any(f"{module}.".startswith(f"{m}.") for m in _MODULES))
    return None if own else module


def _entries(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = config.get("layers")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("class_name"), str) and isinstance(entry.get("config"), dict)
        for entry in entries
    ):
        raise ModelError("its config has no list of layers with class_name and config.")
    if not 0 < len(entries) <= MAX_LAYERS:
        raise ModelError(f"its config has {len(entries):,} layers, expected 1 to {MAX_LAYERS:,}.")
    return entries


def _layer(entry: Mapping[str, Any], number: int, inputs: tuple[str, ...], era: int) -> KerasLayer:
    class_name = str(entry["class_name"])
    config = {_OLD_NAMES.get(key, key): value for key, value in entry["config"].items()}
    name = str(entry.get("name") or config.get("name") or f"{class_name.lower()}_{number}")
    _check_origin(entry, class_name, name)
    if "nb_row" in config:
        config["kernel_size"] = [config["nb_row"], config.get("nb_col")]
    if isinstance(config.get("data_format"), str):
        config["data_format"] = _ORDERINGS.get(config["data_format"], config["data_format"])
    return KerasLayer(name, _OLD_CLASSES.get(class_name, class_name), config, inputs, era)


def _sequential(config: Mapping[str, Any], era: int) -> Graph:
    layers: list[KerasLayer] = []
    shape = config.get("build_input_shape")
    for number, entry in enumerate(_entries(config), 1):
        layer = _layer(entry, number, (layers[-1].name,) if layers else (), era)
        if any(layer.name == before.name for before in layers):
            raise layer.refused("another layer has the same name")
        if not layers:
            shape = layer.config.get("batch_shape") or shape
        layers.append(layer)
    if layers[0].class_name != "InputLayer":  # an older form: the first layer says what comes in
        first = KerasLayer(f"{layers[0].name}_input", "InputLayer", {}, (), era)
        second = layers[0]
        layers[0] = KerasLayer(second.name, second.class_name, second.config, (first.name,), era)
        layers.insert(0, first)
    return Graph(str(config.get("name") or "sequential"), tuple(layers), layers[-1].name, _without_batch(shape), era)


def _without_batch(shape: Any) -> tuple[Any, ...] | None:
    return tuple(shape[1:]) if isinstance(shape, list | tuple) and len(shape) > 1 else None


def _functional(config: Mapping[str, Any], era: int) -> Graph:
    layers: dict[str, KerasLayer] = {}
    for number, entry in enumerate(_entries(config), 1):
        plain = _layer(entry, number, (), era)
        layer = KerasLayer(plain.name, plain.class_name, plain.config, _inputs(entry, plain), era)
        if layer.name in layers:
            raise layer.refused("another layer has the same name")
        layers[layer.name] = layer
    first, output = _one_end(config, "input_layers"), _one_end(config, "output_layers")
    for name in (first, output, *(name for layer in layers.values() for name in layer.inputs)):
        if name not in layers:
            raise ModelError(f"its config names a layer {_shown(name)} that it does not hold.")
    others = [layer for layer in layers.values() if layer.class_name == "InputLayer" and layer.name != first]
    if others or layers[first].class_name != "InputLayer":
        raise (others or [layers[first]])[0].refused("one input is read, which takes the images")
    shape = layers[first].config.get("batch_shape")
    return Graph(str(config.get("name") or "model"), tuple(layers.values()), output, _without_batch(shape), era)


def _one_end(config: Mapping[str, Any], key: str) -> str:
    """The one layer of input_layers or output_layers, which is [name, 0, 0] or [[name, 0, 0]]."""
    ends = config.get(key)
    if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
        ends = ends[0]
    if not isinstance(ends, list) or len(ends) != 3 or not isinstance(ends[0], str) or ends[1:] != [0, 0]:
        raise ModelError(f"its {key} are {_shown(ends)}: one input and one output are read.")
    return ends[0]


def _inputs(entry: Mapping[str, Any], layer: KerasLayer) -> tuple[str, ...]:
    """The layers before one, from either form of inbound_nodes."""
    nodes = entry.get("inbound_nodes") or []
    if not isinstance(nodes, list) or len(nodes) > 1:
        raise layer.refused("it is used several times (shared weights), which is not supported")
    if not nodes:
        return ()
    node = nodes[0]
    if isinstance(node, dict):  # Keras 3: tensors that carry their history
        tensors = _tensors(node.get("args"), layer)
        extra = {key: value for key, value in (node.get("kwargs") or {}).items() if value is not None}
        extra.pop("training", None)
    else:
        tensors = [list(part) for part in node] if isinstance(node, list) else []
        extra = {}
        for tensor in tensors:
            if len(tensor) == 4 and isinstance(tensor[3], dict):
                extra |= {key: value for key, value in tensor[3].items() if value is not None and key != "training"}
    if extra:
        raise layer.refused(f"it is called with {', '.join(map(str, extra))}, which is not supported")
    if any(len(tensor) < 3 or not isinstance(tensor[0], str) or list(tensor[1:3]) != [0, 0] for tensor in tensors):
        raise layer.refused("its inputs are not the plain outputs of layers")
    return tuple(str(tensor[0]) for tensor in tensors)


def _tensors(args: Any, layer: KerasLayer) -> list[Sequence[Any]]:
    """The keras_history of each tensor of a call's arguments."""
    found: list[Sequence[Any]] = []
    for arg in args if isinstance(args, list) else [args]:
        if isinstance(arg, list) and all(isinstance(inner, dict) for inner in arg):
            found += _tensors(arg, layer)
        elif isinstance(arg, dict) and arg.get("class_name") == "__keras_tensor__" and isinstance(arg["config"], dict):
            found.append(list(arg["config"].get("keras_history") or ()))
        else:
            raise layer.refused(f"it is called with {_shown(arg)}, expected the outputs of layers")
    return found
