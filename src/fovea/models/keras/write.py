"""Our layer list and its weights -> Keras files: a .keras, or the JSON and the .weights.h5 of Keras 3."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.models.keras.files import CONFIG, METADATA, WEIGHTS
from fovea.models.keras.slots import slots_of, weighted_modules
from fovea.models.keras.weights import h5py_module, snake_case
from fovea.models.layers import build_chain
from fovea.models.shapes import Context, Shape
from fovea.models.words import NUMBERED, Words

KERAS_VERSION = "3.0.0"  # whose form is written
_DATE = (1980, 1, 1, 0, 0, 0)  # the same net gives the same bytes
# Activations whose name in Keras is another, or that have a layer of their own there.
_LAYERS_OF_THEIR_OWN = {"leaky_relu", "elu", "hard_sigmoid"}


@dataclass(frozen=True)
class _Written:
    """One layer as Keras has it.

    Attributes:
        shape: of its output, without the batch axis, channels last.
    """

    class_name: str
    name: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    arrays: list[NDArray[np.float32]]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class KerasFiles:
    """A net as Keras reads it.

    Attributes:
        config: the text of `model.to_json()`.
        weights: the content of a .weights.h5.
    """

    config: str
    weights: bytes

    def as_keras(self) -> bytes:
        """The content of a .keras file."""
        metadata = json.dumps({"keras_version": KERAS_VERSION, "date_saved": "1980-01-01@00:00:00"})
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in ((METADATA, metadata), (CONFIG, self.config), (WEIGHTS, self.weights)):
                archive.writestr(zipfile.ZipInfo(name, _DATE), content)
        return buffer.getvalue()


def keras_files(
    layers: list[Any],
    image_shape: tuple[int, int, int],
    num_classes: int,
    net: nn.Module,
    name: str,
    initializer: str = "glorot_uniform",
) -> KerasFiles:
    """A net as Keras files; a softmax is added, so that Keras' predict gives probabilities.

    Args:
        layers: the net's layer list; lines without weights may stand before those that `net` was built from.
        net: what `build_layers` made, with its weights.
        name: of the model in Keras.
        initializer: of kernels whose line names none; it matters where Keras trains anew from the config.

    Raises:
        ModelError: when h5py is missing or a layer has no equal in Keras; names it.
    """
    state = net.state_dict()
    arrays = iter([[slot.to_keras(state[slot.key]) for slot in slots] for slots in weighted_modules(net)])
    writer = _Writer(arrays, Context(num_classes, initializer))
    height, width, channels = image_shape
    config = {"batch_shape": [None, height, width, channels], "dtype": "float32", "sparse": False}
    start = writer.add("InputLayer", config, (), (channels, height, width))
    lines = layers[:-1] if layers[-1] == "softmax" else layers
    end, shape = writer.chain(lines, start, (channels, height, width))
    last = writer.layers[-1]
    if last.class_name == "Dense" and last.config["activation"] == "linear":
        last.config["activation"] = "softmax"
    else:
        end = writer.add("Activation", {"activation": "softmax"}, (end,), shape)
    if not any(len(layer.inputs) > 1 for layer in writer.layers):
        return KerasFiles(json.dumps(_sequential(writer.layers, name)), _weights(writer.layers))
    ordered = _in_keras_order(writer.layers, end)
    return KerasFiles(json.dumps(_functional(ordered, name)), _weights(ordered))


@dataclass
class _Writer:
    """The layers written so far, and the arrays that are left."""

    arrays: Iterator[list[NDArray[np.float32]]]
    context: Context
    layers: list[_Written] = field(default_factory=list)

    def add(
        self,
        class_name: str,
        config: dict[str, Any],
        inputs: tuple[str, ...],
        shape: Shape,
        arrays: list[NDArray[np.float32]] | None = None,
    ) -> str:
        """Write a layer; its name."""
        name = _layer_name(class_name, sum(layer.class_name == class_name for layer in self.layers))
        plain = (*shape[1:], shape[0])
        self.layers.append(_Written(class_name, name, {"name": name, **config}, inputs, arrays or [], plain))
        return name

    def chain(self, layers: list[Any], end: str, shape: Shape) -> tuple[str, Shape]:
        """Write the layers of a list, which begin at the layer `end`; where they end, and the shape there."""
        for layer in layers:
            if isinstance(layer, dict):
                end, shape = self._branches(layer, end, shape)
            else:
                end, shape = self._line(str(layer).removesuffix(" softmax"), end, shape)
        return end, shape

    def _branches(self, layer: dict[str, Any], start: str, shape: Shape) -> tuple[str, Shape]:
        chains = layer["concat"] if "concat" in layer else [layer["residual"], layer.get("shortcut") or []]
        ends = [self.chain(chain, start, shape) for chain in chains]
        inputs = tuple(end for end, _ in ends)
        if "concat" not in layer:
            return self.add("Add", {}, inputs, ends[0][1]), ends[0][1]
        out = (sum(found[0] for _, found in ends), *ends[0][1][1:])
        return self.add("Concatenate", {"axis": -1}, inputs, out), out

    def _line(self, line: str, end: str, shape: Shape) -> tuple[str, Shape]:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            modules, out = build_chain([line], shape, replace(self.context, initializer="zeros"), "layer")
        arrays = [array for module in modules if slots_of(module, "") for array in next(self.arrays)]
        words = Words(line)
        kind = words.kind
        slope = words.number("slope") if kind in NUMBERED and words.left else None
        activation = kind if kind not in WRITERS else self._trailing(words, line)
        if kind in WRITERS:
            class_name, config = WRITERS[kind](words, shape, self.context)
            if "activation" in config and activation not in _LAYERS_OF_THEIR_OWN:
                config["activation"], activation = activation, "linear"
            end = self.add(class_name, config, (end,), out, arrays)
        for class_name, config in _activation_layers(activation, slope):
            end = self.add(class_name, config, (end,), out)
        return end, out

    def _trailing(self, words: Words, line: str) -> str:
        before = line.split()[-1]
        return "linear" if words.activation() is None else before


def _activation_layers(name: str, slope: float | None) -> list[tuple[str, dict[str, Any]]]:
    """The layers of an activation that stands alone."""
    if name == "linear":
        return []
    if name == "leaky_relu":
        return [("LeakyReLU", {"negative_slope": 0.3 if slope is None else slope})]
    if name == "elu":
        return [("ELU", {"alpha": 1.0 if slope is None else slope})]
    if name == "hard_sigmoid" and slope is not None:  # Keras 2's, which Keras 3 does not have
        return [("Rescaling", {"scale": slope, "offset": 0.5}), ("ReLU", {"max_value": 1.0})]
    if name == "relu" and slope is not None:
        return [("ReLU", {"max_value": slope})]
    return [("Activation", {"activation": name})]


Config = tuple[str, dict[str, Any]]


def _start(words: Words, context: Context, *keys: str) -> dict[str, Any]:
    """How a layer's kernels start; nothing where Keras starts them so by itself, or cannot."""
    name = words.valued("init") or context.initializer
    if name in ("glorot_uniform", "dirac"):
        return {}
    class_name = "".join(part.capitalize() for part in name.split("_"))
    entry: dict[str, Any] = {
        "module": "keras.initializers",
        "class_name": class_name,
        "config": {},
        "registered_name": None,
    }
    return dict.fromkeys(keys, entry)


def _window(words: Words, kernel: str) -> dict[str, Any]:
    stride, dilation = words.valued("stride"), words.valued("dilation")
    return {
        "kernel_size": list(Words(f"x {kernel}").pair("kernel")),
        "strides": list(Words(f"x {stride or 1}").pair("stride")),
        "dilation_rate": list(Words(f"x {dilation or 1}").pair("dilation")),
        "padding": "same" if words.option("same") else "valid",
        "data_format": "channels_last",
        "use_bias": not words.option("nobias"),
        "activation": "linear",
    }


def _conv(words: Words, _: Shape, context: Context) -> Config:
    filters, kernel = words.whole("filters"), words.left.pop(0)
    groups, start = int(words.valued("groups") or 1), _start(words, context, "kernel_initializer")
    return "Conv2D", {"filters": filters, "groups": groups, **_window(words, kernel), **start}


def _depthwise(words: Words, _: Shape, context: Context) -> Config:
    kernel, multiplier = words.left.pop(0), int(words.valued("multiplier") or 1)
    start = _start(words, context, "depthwise_initializer")
    return "DepthwiseConv2D", {"depth_multiplier": multiplier, **_window(words, kernel), **start}


def _separable(words: Words, _: Shape, context: Context) -> Config:
    filters, kernel = words.whole("filters"), words.left.pop(0)
    multiplier = int(words.valued("multiplier") or 1)
    start = _start(words, context, "depthwise_initializer", "pointwise_initializer")
    return "SeparableConv2D", {"filters": filters, "depth_multiplier": multiplier, **_window(words, kernel), **start}


def _whiten(words: Words, shape: Shape, _: Context) -> Config:
    kernel = words.left.pop(0)
    rows, columns = Words(f"x {kernel}").pair("patch")
    window = {**_window(words, kernel), "use_bias": False}
    return "Conv2D", {"filters": 2 * rows * columns * shape[0], "groups": 1, "trainable": False, **window}


def _dense(words: Words, _: Shape, context: Context) -> Config:
    units = context.num_classes if words.option("classes") else words.whole("units")
    start = _start(words, context, "kernel_initializer")
    return "Dense", {"units": units, "use_bias": not words.option("nobias"), "activation": "linear", **start}


def _pool(words: Words, _: Shape, __: Context) -> Config:
    size = words.pair("size")
    stride = words.valued("stride")
    return "MaxPooling2D" if words.kind == "maxpool" else "AveragePooling2D", {
        "pool_size": list(size),
        "strides": list(size if stride is None else Words(f"x {stride}").pair("stride")),
        "padding": "same" if words.option("same") else "valid",
        "data_format": "channels_last",
    }


def _padded(words: Words, _: Shape, __: Context) -> Config:
    sides = [int(side) for side in words.numbers("sides")]
    top, bottom, left, right = sides * 4 if len(sides) == 1 else sides
    key, name = ("padding", "ZeroPadding2D") if words.kind == "zeropad" else ("cropping", "Cropping2D")
    return name, {key: [[top, bottom], [left, right]], "data_format": "channels_last"}


def _batch_norm(words: Words, _: Shape, __: Context) -> Config:
    return "BatchNormalization", {
        "axis": -1,
        "momentum": float(words.valued("momentum") or 0.99),
        "epsilon": float(words.valued("epsilon") or 1e-3),
        "center": not words.option("nocenter"),
        "scale": not words.option("noscale"),
    }


def _scale(words: Words, _: Shape, __: Context) -> Config:
    scale, offset = words.numbers("factor"), Words(f"x {words.valued('offset') or 0}").numbers("offset")
    return "Rescaling", {"scale": _one_or_all(scale), "offset": _one_or_all(offset)}


def _one_or_all(values: list[float]) -> Any:
    return values[0] if len(values) == 1 else values


def _normalize(words: Words, shape: Shape, _: Context) -> Config:
    mean, variance = (Words(f"x {words.valued(key) or default}").numbers(key) for key, default in _MOMENTS)
    if len(mean) == len(variance) == 1:
        return "Normalization", {"axis": None, "mean": mean[0], "variance": variance[0], "invert": False}
    full = [values * shape[0] if len(values) == 1 else values for values in (mean, variance)]
    return "Normalization", {"axis": [-1], "mean": full[0], "variance": full[1], "invert": False}


_MOMENTS = (("mean", 0), ("variance", 1))

WRITERS: dict[str, Callable[[Words, Shape, Context], Config]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "sepconv": _separable,
    "whiten": _whiten,
    "dense": _dense,
    "maxpool": _pool,
    "avgpool": _pool,
    "globalavgpool": lambda _, __, ___: ("GlobalAveragePooling2D", {"data_format": "channels_last"}),
    "globalmaxpool": lambda _, __, ___: ("GlobalMaxPooling2D", {"data_format": "channels_last"}),
    "zeropad": _padded,
    "crop": _padded,
    "batchnorm": _batch_norm,
    "dropout": lambda words, _, __: ("Dropout", {"rate": words.number("rate")}),
    "flatten": lambda _, __, ___: ("Flatten", {"data_format": "channels_last"}),
    "scale": _scale,
    "normalize": _normalize,
    "prelu": lambda _, shape, __: ("PReLU", {"shared_axes": [1, 2] if len(shape) == 3 else None}),
}


def _layer_name(class_name: str, number: int) -> str:
    """The name of a layer, and of its group of weights, from its class and how many of it stand before."""
    key = snake_case(class_name)
    return f"{key}_{number}" if number else key


def _in_keras_order(layers: list[_Written], end: str) -> list[_Written]:
    """The layers of a branched net as Keras sorts them when it loads one, named by their class and number there.

    Weights are found by that number. Keras sorts by the longest way to the output, the longest first, and layers with
    equally long ways as they are met on the way back from it (keras.src.ops.function.map_graph).
    """
    by_name = {layer.name: layer for layer in layers}
    depths = dict.fromkeys(by_name, 0)
    for layer in reversed(layers):
        for source in layer.inputs:
            depths[source] = max(depths[source], depths[layer.name] + 1)
    met: dict[str, int] = {}
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name not in met:
            met[name] = len(met)
            waiting += reversed(by_name[name].inputs)
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    ordered = sorted(layers, key=lambda layer: (-depths[layer.name], met[layer.name]))
    for layer in ordered:
        number = counts.get(layer.class_name, 0)
        names[layer.name], counts[layer.class_name] = _layer_name(layer.class_name, number), number + 1
    return [
        replace(
            layer,
            name=names[layer.name],
            config={**layer.config, "name": names[layer.name]},
            inputs=tuple(names[source] for source in layer.inputs),
        )
        for layer in ordered
    ]


def _entry(layer: _Written) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": layer.class_name, "config": layer.config, "registered_name": None}


def _sequential(layers: list[_Written], name: str) -> dict[str, Any]:
    config = {"name": name, "trainable": True, "layers": [_entry(layer) for layer in layers]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def _functional(layers: list[_Written], name: str) -> dict[str, Any]:
    shapes = {layer.name: [None, *layer.shape] for layer in layers}

    def tensor(source: str) -> dict[str, Any]:
        config = {"shape": shapes[source], "dtype": "float32", "keras_history": [source, 0, 0]}
        return {"class_name": "__keras_tensor__", "config": config}

    def nodes(layer: _Written) -> list[dict[str, Any]]:
        tensors = [tensor(source) for source in layer.inputs]
        return [{"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}] if tensors else []

    entries = [{**_entry(layer), "name": layer.name, "inbound_nodes": nodes(layer)} for layer in layers]
    ends = {"input_layers": [[layers[0].name, 0, 0]], "output_layers": [[layers[-1].name, 0, 0]]}
    config = {"name": name, "trainable": True, "layers": entries, **ends}
    origin = {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional"}
    return {**origin, "config": config}


def _weights(layers: list[_Written]) -> bytes:
    """The content of a .weights.h5: a group for each layer, by its class and number."""
    buffer = io.BytesIO()
    with h5py_module().File(buffer, "w") as file:
        file.create_group("vars")
        for layer in layers:
            group = file.create_group(f"layers/{layer.name}/vars")
            group.attrs["name"] = layer.name
            for place, array in enumerate(layer.arrays):
                group.create_dataset(str(place), data=array)
    return buffer.getvalue()
