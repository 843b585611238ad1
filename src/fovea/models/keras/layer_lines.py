"""Each layer of Keras -> lines of our layer list."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.initializers import INITIALIZERS
from fovea.models.keras.config import KerasLayer, foreign_origin
from fovea.models.shapes import Shape
from fovea.models.words import ACTIVATIONS

SOFTMAX = "softmax"
# Layers without weights that pass their input on wherever nothing is trained.
TRAINING_ONLY = {"GaussianDropout", "GaussianNoise", "RandomBrightness", "RandomContrast", "RandomFlip"}
TRAINING_ONLY |= {"RandomRotation", "RandomTranslation", "RandomZoom", "SpatialDropout2D"}
# Keras' names of activations -> lines; hard_sigmoid depends on the era.
_ACTIVATIONS = {name: name for name in ACTIVATIONS if name not in ("leaky_relu", "hard_sigmoid")}
_ACTIVATIONS |= {"swish": "silu", "leaky_relu": "leaky_relu 0.2", SOFTMAX: SOFTMAX}
# (scale, mode, distribution) of Keras' VarianceScaling -> the initialiser's name.
_SCALINGS = {
    (1.0, "fan_avg", "uniform"): "glorot_uniform",
    (1.0, "fan_avg", "normal"): "glorot_normal",
    (2.0, "fan_in", "uniform"): "he_uniform",
    (2.0, "fan_in", "normal"): "he_normal",
    (1.0, "fan_in", "uniform"): "lecun_uniform",
    (1.0, "fan_in", "normal"): "lecun_normal",
}

# Reads the arrays of a layer: (layer, the shapes that they must have) -> arrays.
Arrays = Callable[[KerasLayer, Sequence[tuple[int, ...]]], list[NDArray[Any]]]


@dataclass
class Converter:
    """What is known of a net while its layers are converted.

    Attributes:
        arrays: reads weights, for layers whose line holds some; None: there are none.
        channels_first: the layout of the maps; None until a layer has said it.
        notes: lines for the user.
    """

    arrays: Arrays | None
    channels_first: bool | None = None
    notes: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    regularized: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def layout(self, layer: KerasLayer) -> None:
        """Note a layer's data_format, which all must share.

        Raises:
            ModelError: where it is another than that of the layers before.
        """
        given = layer.config.get("data_format")
        if given is None or (given == "default" and layer.era == 1):
            return
        if given not in ("channels_last", "channels_first"):
            raise layer.refused(f"its data_format is {given!r}, expected channels_last or channels_first")
        first = given == "channels_first"
        if first and layer.era == 1:
            raise layer.refused("Keras 1 with dim_ordering th stores its kernels in another order: save it as tf")
        if self.channels_first not in (None, first):
            raise layer.refused(f"its data_format is {given}, that of the layers before is not")
        self.channels_first = first


def number_text(value: float) -> str:
    """A number as a layer line has it, exact to the last bit."""
    text = repr(float(value))
    return text.removesuffix(".0")


def _numbers_text(layer: KerasLayer, key: str, values: Any) -> str:
    """One number or a list of them, float32, with commas."""
    flat = np.asarray(values if isinstance(values, list | tuple | np.ndarray) else [values], dtype=object).ravel()
    if not len(flat) or not all(isinstance(v, int | float | np.number) and math.isfinite(v) for v in flat):
        raise layer.refused(f"its {key} is no number and no list of numbers")
    with np.errstate(over="ignore"):
        numbers = flat.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise layer.refused(f"its {key} holds numbers that float32 does not")
    return ",".join(map(str, numbers))


def _activation(layer: KerasLayer, value: Any) -> list[str]:
    """The lines of an activation given by name, or as a layer of its own inside."""
    if isinstance(value, dict):
        config = value.get("config")
        name = config if value.get("class_name") == "function" else value.get("class_name")
        origin = foreign_origin(value, str(name))
        if origin is not None:
            raise layer.refused(
                f"its activation {name!s:.60} is someone's own ({origin!s:.60}), and code is never run: only "
                "Keras' own activations are read"
            )
        inner = KerasLayer(layer.name, str(value.get("class_name")), config if isinstance(config, dict) else {}, (), 3)
        if inner.class_name in _INNER_ACTIVATIONS:
            return _INNER_ACTIVATIONS[inner.class_name](KerasLayer(**{**inner.__dict__, "era": layer.era}))
        value = config if isinstance(config, str) else inner.class_name
    if value in (None, "linear"):
        return []
    if value == "hard_sigmoid":
        return ["hard_sigmoid" if layer.era >= 3 else "hard_sigmoid 0.2"]
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise layer.refused(
            f"its activation is {value!r}; supported: {', '.join(sorted([*_ACTIVATIONS, 'hard_sigmoid']))}"
        )
    return [_ACTIVATIONS[value]]


def _with_activation(line: str, layer: KerasLayer) -> list[str]:
    """The line, ended by its activation where that is one word."""
    found = _activation(layer, layer.config.get("activation"))
    if len(found) == 1 and found[0] in ACTIVATIONS:
        return [f"{line} {found[0]}"]
    return [line, *found]


def _initializer(layer: KerasLayer, key: str, converter: Converter) -> str:
    """The word of a kernel's initialiser; none where it is the default."""
    value = layer.config.get(key)
    if value is None:
        return ""
    name, config = (value, {}) if isinstance(value, str) else (_named(value, "class_name"), value.get("config") or {})
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    if snake == "variance_scaling":
        spread = str(config.get("distribution", "")).replace("truncated_normal", "normal")
        snake = _SCALINGS.get((float(config.get("scale", 1.0)), str(config.get("mode")), spread), snake)
    if snake in INITIALIZERS:
        return "" if snake == "glorot_uniform" else f" init {snake}"
    note = f"the layer {layer.name!r} is initialised by {name} in Keras, by glorot_uniform where it starts anew here"
    converter.notes.append(note)
    return ""


def _named(value: Any, key: str) -> str:
    return str(value.get(key)) if isinstance(value, Mapping) else str(value)


def _pair(words: str, pair: tuple[int, int], default: tuple[int, int]) -> str:
    return "" if pair == default else f" {words} {pair[0]}x{pair[1]}"


def _window_words(layer: KerasLayer) -> str:
    """Padding, stride and dilation of a convolution."""
    stride, dilation = layer.pair("strides", 1), layer.pair("dilation_rate", 1)
    return f"{_same(layer)}{_pair('stride', stride, (1, 1))}{_pair('dilation', dilation, (1, 1))}"


def _same(layer: KerasLayer) -> str:
    padding = layer.config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise layer.refused(f"its padding is {padding!r}, expected same or valid")
    return " same" if padding == "same" else ""


def _kernel(layer: KerasLayer) -> str:
    rows, columns = layer.pair("kernel_size")
    return f"{rows}x{columns}"


def _convolution(layer: KerasLayer, _: Shape, converter: Converter) -> list[str]:
    groups = layer.whole("groups", 1)
    line = f"conv {layer.whole('filters')} {_kernel(layer)}{_window_words(layer)}"
    line += f" groups {groups}" if groups > 1 else ""
    return _with_activation(line + _tail(layer, "kernel_initializer", converter), layer)


def _tail(layer: KerasLayer, initializer: str, converter: Converter) -> str:
    bias = layer.flag("use_bias", True)
    start = layer.config.get("bias_initializer")
    if bias and start is not None and _named(start, "class_name").lower() not in ("zeros", "zero"):
        converter.notes.append(f"the biases of {layer.name!r} do not start at zero in Keras; they do here")
    return ("" if bias else " nobias") + _initializer(layer, initializer, converter)


def _depthwise(layer: KerasLayer, _: Shape, converter: Converter) -> list[str]:
    multiplier = layer.whole("depth_multiplier", 1)
    line = f"depthwise {_kernel(layer)}{_window_words(layer)}" + (f" multiplier {multiplier}" if multiplier > 1 else "")
    return _with_activation(line + _tail(layer, "depthwise_initializer", converter), layer)


def _separable(layer: KerasLayer, _: Shape, converter: Converter) -> list[str]:
    multiplier = layer.whole("depth_multiplier", 1)
    line = f"sepconv {layer.whole('filters')} {_kernel(layer)}{_window_words(layer)}"
    line += f" multiplier {multiplier}" if multiplier > 1 else ""
    return _with_activation(line + _tail(layer, "depthwise_initializer", converter), layer)


def _dense(layer: KerasLayer, _: Shape, converter: Converter) -> list[str]:
    return _with_activation(f"dense {layer.whole('units')}{_tail(layer, 'kernel_initializer', converter)}", layer)


def _pool(layer: KerasLayer, _: Shape, __: Converter) -> list[str]:
    size = layer.pair("pool_size", 2)
    stride = size if layer.config.get("strides") is None else layer.pair("strides")
    kind = "maxpool" if layer.class_name.startswith("Max") else "avgpool"
    return [f"{kind} {size[0]}x{size[1]}{_same(layer)}{_pair('stride', stride, size)}"]


def _global_pool(layer: KerasLayer, shape: Shape, _: Converter) -> list[str]:
    maximum = "Max" in layer.class_name
    if layer.flag("keepdims", False) and len(shape) == 3:
        return [f"{'maxpool' if maximum else 'avgpool'} {shape[1]}x{shape[2]}"]
    return ["globalmaxpool" if maximum else "globalavgpool"]


def _batch_norm(layer: KerasLayer, shape: Shape, converter: Converter) -> list[str]:
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    own = (1,) if converter.channels_first and len(shape) == 3 else (-1, len(shape))
    if axis not in own:
        raise layer.refused(f"it normalises along axis {axis!r}, expected that of the channels")
    if layer.config.get("renorm") or layer.config.get("mode", 0) != 0 or layer.config.get("virtual_batch_size"):
        raise layer.refused("only plain batch normalisation is supported (no renorm, mode 0)")
    momentum, epsilon = layer.number("momentum", 0.99), layer.number("epsilon", 1e-3)
    line = "batchnorm" + ("" if momentum == 0.99 else f" momentum {number_text(momentum)}")
    line += "" if epsilon == 1e-3 else f" epsilon {number_text(epsilon)}"
    line += "" if layer.flag("scale", True) else " noscale"
    return [line + ("" if layer.flag("center", True) else " nocenter")]


def _dropout(layer: KerasLayer, _: Shape, __: Converter) -> list[str]:
    if layer.config.get("noise_shape") is not None:
        raise layer.refused("its noise_shape is not supported")
    rate = layer.number("rate")
    return [f"dropout {number_text(rate)}"] if rate else []


def _flatten(layer: KerasLayer, shape: Shape, converter: Converter) -> list[str]:
    first = layer.config.get("data_format") == "channels_first"
    if len(shape) == 3 and shape[0] > 1 and converter.channels_first and not first and shape[1] * shape[2] > 1:
        raise layer.refused("it flattens maps of channels_first as if they were channels_last")
    return ["flatten"]


def _reshape(layer: KerasLayer, shape: Shape, converter: Converter) -> list[str]:
    target = layer.config.get("target_shape")
    if isinstance(target, list | tuple):
        flat = len(target) == 1 and target[0] in (-1, math.prod(shape)) and not converter.channels_first
        height_first = (*shape[1:], shape[0])
        if flat:
            return ["flatten"]
        if tuple(target) == (shape if converter.channels_first else height_first):
            return []
    raise layer.refused("only a Reshape that makes images of the net's input, or flattens, is supported")


def _sides(layer: KerasLayer) -> str:
    value = layer.config.get("padding" if layer.class_name == "ZeroPadding2D" else "cropping", 1)
    if isinstance(value, list | tuple) and len(value) == 4:  # Keras 1: top, bottom, left, right
        value = (value[:2], value[2:])
    rows, columns = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    sides = [*(rows if isinstance(rows, list | tuple) else (rows, rows))]
    sides += [*(columns if isinstance(columns, list | tuple) else (columns, columns))]
    if len(sides) != 4 or not all(isinstance(side, int) and 0 <= side < 2**20 for side in sides):
        raise layer.refused("its sides are no whole numbers of pixels")
    return ",".join(map(str, sides))


def _rescaling(layer: KerasLayer, _: Shape, converter: Converter) -> list[str]:
    scale, offset = layer.config.get("scale"), layer.config.get("offset", 0.0)
    if converter.channels_first and (isinstance(scale, list) or isinstance(offset, list)):
        raise layer.refused("one number a channel is not supported with channels_first")
    values = [scale if isinstance(scale, list) else layer.number("scale")]
    values.append(offset if isinstance(offset, list) else layer.number("offset", 0.0))
    texts = [number_text(v) if isinstance(v, float) else _numbers_text(layer, "scale or offset", v) for v in values]
    return [f"scale {texts[0]}" + ("" if values[1] == 0.0 else f" offset {texts[1]}")]


def _normalization(layer: KerasLayer, shape: Shape, converter: Converter) -> list[str]:
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    channels_axis = (1,) if converter.channels_first else (-1, 3)
    if axis not in (None, [], *channels_axis) or layer.config.get("invert") or len(shape) != 3:
        raise layer.refused("only plain normalisation of maps, by channel or as a whole, is supported")
    mean, variance = layer.config.get("mean"), layer.config.get("variance")
    if mean is None or variance is None:
        if converter.arrays is None:
            raise layer.refused("its mean and variance were adapted and stand in the weights: give these too")
        size = () if axis in (None, []) else (shape[0],)
        mean, variance = converter.arrays(layer, [size, size, ()])[:2]
        if not size:
            mean, variance = mean.reshape(1), variance.reshape(1)
    texts = [_numbers_text(layer, key, found) for key, found in (("mean", mean), ("variance", variance))]
    return [f"normalize mean {texts[0]} variance {texts[1]}"]


def _relu(layer: KerasLayer) -> list[str]:
    top, slope = layer.config.get("max_value"), layer.config.get("negative_slope") or 0.0
    if layer.config.get("threshold"):
        raise layer.refused("its threshold is not supported")
    if top is None:
        return [f"leaky_relu {number_text(layer.number('negative_slope'))}"] if slope else ["relu"]
    if slope:
        raise layer.refused("a maximum and a negative slope together are not supported")
    return ["relu6" if top == 6 else f"relu {number_text(layer.number('max_value'))}"]


def _leaky_relu(layer: KerasLayer) -> list[str]:
    key = "negative_slope" if "negative_slope" in layer.config else "alpha"
    return [f"leaky_relu {number_text(layer.number(key, 0.3))}"]


def _elu(layer: KerasLayer) -> list[str]:
    alpha = layer.number("alpha", 1.0)
    return ["elu" if alpha == 1 else f"elu {number_text(alpha)}"]


def _softmax(layer: KerasLayer) -> list[str]:
    if layer.config.get("axis", -1) not in (-1, 1):
        raise layer.refused("its axis is not that of the classes")
    return [SOFTMAX]


def _prelu(layer: KerasLayer, shape: Shape, converter: Converter) -> list[str]:
    shared = layer.config.get("shared_axes")
    if len(shape) == 3 and converter.channels_first:
        raise layer.refused("it is not supported with channels_first")
    if len(shape) == 3 and shared not in ([1, 2], [2, 1]):
        raise layer.refused("a slope for each pixel is not supported: give it shared_axes=[1, 2]")
    if len(shape) == 1 and shared:
        raise layer.refused("one slope shared by all is not supported")
    return ["prelu"]


_INNER_ACTIVATIONS: dict[str, Callable[[KerasLayer], list[str]]] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
}

CONVERTERS: dict[str, Callable[[KerasLayer, Shape, Converter], list[str]]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "BatchNormalization": _batch_norm,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ZeroPadding2D": lambda layer, _, __: [f"zeropad {_sides(layer)}"],
    "Cropping2D": lambda layer, _, __: [f"crop {_sides(layer)}"],
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Activation": lambda layer, _, __: _activation(layer, layer.config.get("activation")),
    "PReLU": _prelu,
    "ReLU": lambda layer, _, __: _relu(layer),
    "LeakyReLU": lambda layer, _, __: _leaky_relu(layer),
    "ELU": lambda layer, _, __: _elu(layer),
    "Softmax": lambda layer, _, __: _softmax(layer),
}
