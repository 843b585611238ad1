"""A graph of Keras' layers -> our layer list, every layer checked for its size before anything of it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from fovea.errors import ModelError
from fovea.models.keras.config import Graph, KerasLayer, short_note
from fovea.models.keras.graph import MERGES, Chain, Line, as_chain, as_layer_list, in_order, weighted_layers
from fovea.models.keras.layer_lines import CONVERTERS, SOFTMAX, TRAINING_ONLY, Arrays, Converter
from fovea.models.keras.slots import slots_of
from fovea.models.layers import build_chain
from fovea.models.shapes import Context, Shape, show_shape
from fovea.models.words import ACTIVATIONS

_NEUTRAL = ("flatten", "dropout")  # lines that leave the values of an answer as they are
MAX_WEIGHTS = 2**28  # numbers in all: a gigabyte
MAX_MAP = 2**26  # numbers in one map of one image


@dataclass(frozen=True)
class Net:
    """A graph as our layer list.

    Attributes:
        chain: with the Keras layer of each line.
        num_classes: how many numbers it ends in.
    """

    chain: Chain
    image_shape: tuple[int, int, int]
    num_classes: int
    notes: tuple[str, ...]

    @property
    def layers(self) -> list[Any]:
        """The layer list."""
        return as_layer_list(self.chain)


def convert(graph: Graph, arrays: Arrays | None) -> Net:
    """A graph as our layer list, every layer checked for its size before anything of that size is made.

    Args:
        arrays: reads the weights of layers whose lines hold them (Normalization).

    Raises:
        ModelError: names the layer that is not supported, too large, or does not fit the one before it.
    """
    converter = Converter(arrays)
    for layer in graph.layers:
        converter.layout(layer)
        _note_habits(layer, converter)
    ordered = in_order({layer.name: layer for layer in graph.layers})
    image_shape, ordered = _image_shape(graph, ordered, bool(converter.channels_first))
    height, width, channels = image_shape
    if math.prod(image_shape) > MAX_MAP:
        raise ordered[0].refused(f"images of {height}x{width}x{channels} are larger than {MAX_MAP:,} numbers")
    shapes: dict[str, Shape] = {ordered[0].name: (channels, height, width)}
    lines: dict[str, tuple[Line, ...]] = {ordered[0].name: ()}
    total = 0
    for layer in ordered[1:]:
        given = [shapes[name] for name in layer.inputs]
        if layer.class_name in MERGES:
            shapes[layer.name] = _merged_shape(layer, given, bool(converter.channels_first))
        elif len(given) != 1:
            raise layer.refused(f"it has {len(given)} inputs, expected one")
        else:
            lines[layer.name], shapes[layer.name], size = _convert_layer(layer, given[0], converter)
            total += size
        if total > MAX_WEIGHTS or math.prod(shapes[layer.name]) > MAX_MAP:
            raise layer.refused(
                f"with it the net has {total:,} weights and a map of {show_shape(shapes[layer.name])}: more than is "
                f"read ({MAX_WEIGHTS:,} weights, maps of {MAX_MAP:,} numbers)"
            )
    chain = _without_softmax(as_chain(ordered, graph.output, lines), converter)
    shape = shapes[graph.output]
    if len(shape) != 1:
        raise ModelError(f"the net ends in a map of {show_shape(shape)}, expected one number a class.")
    if shape[0] < 2:
        raise _last_weighted(chain, ordered[-1]).refused(
            "the net ends in one number, expected one a class and at least two: end it in Dense(2, "
            'activation="softmax") and train it anew'
        )
    _say_habits(converter)
    return Net(chain, image_shape, shape[0], tuple(map(short_note, converter.notes)))


def _image_shape(
    graph: Graph, ordered: list[KerasLayer], channels_first: bool
) -> tuple[tuple[int, int, int], list[KerasLayer]]:
    """Height, width, channels of the images; and the layers without a Reshape that only makes images of the input."""
    shape = graph.input_shape
    target = _first_reshape(ordered)
    if shape is not None and target is not None:
        known = math.prod(side for side in shape if isinstance(side, int))
        rest = math.prod(side for side in target if side != -1)
        if target.count(-1) == 1 and rest > 0:  # the side that Keras works out
            target = tuple(known // rest if side == -1 else side for side in target)
        if known == math.prod(target):
            shape = target
            ordered = [KerasLayer(ordered[1].name, "InputLayer", {}, (), graph.era), *ordered[2:]]
    if shape is not None and len(shape) == 2:
        shape = (1, *shape) if channels_first else (*shape, 1)
    first = ordered[0]
    if shape is None:
        raise first.refused("the config does not say the size of the images: save the model after it has been built")
    if len(shape) != 3:
        raise first.refused(f"it takes {list(shape)}, expected images: [height, width, channels]")
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in shape):
        raise first.refused(f"it takes {list(shape)}: give it a fixed height, width and number of channels")
    if channels_first:
        shape = (shape[1], shape[2], shape[0])
    return (shape[0], shape[1], shape[2]), ordered


def _first_reshape(ordered: list[KerasLayer]) -> tuple[int, ...] | None:
    """The shape that a Reshape gives the net's input before any other layer sees it."""
    if len(ordered) < 2 or ordered[1].class_name != "Reshape":
        return None
    target = ordered[1].config.get("target_shape")
    is_used = any(ordered[0].name in layer.inputs for layer in ordered[2:])
    if is_used or not isinstance(target, list) or len(target) != 3 or not all(isinstance(s, int) for s in target):
        return None
    return tuple(target)


def _convert_layer(layer: KerasLayer, shape: Shape, converter: Converter) -> tuple[tuple[Line, ...], Shape, int]:
    """The lines of one layer, its output's shape, and how many weights it holds; built without memory to be checked."""
    if layer.class_name in TRAINING_ONLY:
        converter.left_out.append(layer.name)
        return (), shape, 0
    if layer.class_name not in CONVERTERS:
        reason = "its code is in the file, and code is never run" if layer.class_name == "Lambda" else "not supported"
        raise layer.refused(f"{reason}; what is: {', '.join(sorted({*CONVERTERS, *MERGES, 'InputLayer'}))}")
    lines, size = [], 0
    for text in CONVERTERS[layer.class_name](layer, shape, converter):
        if text == SOFTMAX:
            lines.append(Line(SOFTMAX, layer))
            continue
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                modules, shape = build_chain([text], shape, Context(1, "zeros"), "line")
        except ModelError as error:
            reason = str(error).split(": ", 1)[-1].rstrip(".")
            raise layer.refused(f"its input is {show_shape(shape)}: {reason}") from None
        lines.append(Line(text, layer, sum(bool(slots_of(module, "")) for module in modules)))
        size += sum(parameter.numel() for module in modules for parameter in module.parameters())
    return tuple(lines), shape, size


def _merged_shape(layer: KerasLayer, shapes: list[Shape], channels_first: bool) -> Shape:
    if len(shapes) < 2:
        raise layer.refused(f"it has {len(shapes)} input, expected several")
    found = ", ".join(map(show_shape, shapes))
    if layer.class_name == "Add":
        if len(set(shapes)) > 1:
            raise layer.refused(f"it adds {found}, which must be equal")
        return shapes[0]
    axis = layer.config.get("axis", layer.config.get("concat_axis", -1))
    if len(shapes[0]) == 3 and axis not in ((1, -3) if channels_first else (-1, 3)):
        raise layer.refused(f"it joins along axis {axis}, only channels are joined")
    if any(shape[1:] != shapes[0][1:] for shape in shapes):
        raise layer.refused(f"it joins {found}, whose heights and widths must be equal")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _without_softmax(chain: Chain, converter: Converter) -> Chain:
    """The chain without its final softmax; with a note about it.

    Raises:
        ModelError: for a softmax anywhere else, and for another end than softmax or plain numbers.
    """
    last = chain[-1] if chain else None
    ends = isinstance(last, Line) and last.text == SOFTMAX
    rest = chain[:-1] if ends else chain
    for line in _all_lines(rest):
        if line.text == SOFTMAX:
            raise line.layer.refused("a softmax is supported at the end of the net alone")
    if ends:
        converter.notes.append("its final softmax is left to the loss and to the predictions")
    elif (last := _last_changing(chain)) is not None and (end := _end_of(last.text)) is not None:
        raise last.layer.refused(
            f"the net ends in {end}; it must end in softmax or in plain numbers (logits), one a class"
        )
    else:
        converter.notes.append("it ends without a softmax: its numbers are taken for logits")
    return rest


def _last_changing(chain: Chain) -> Line | None:
    """The last line that changes values, where no branches stand behind it."""
    last = next(
        (item for item in reversed(chain) if not (isinstance(item, Line) and item.text.split()[0] in _NEUTRAL)), None
    )
    return last if isinstance(last, Line) else None


def _end_of(line: str) -> str | None:
    """The activation that a line is or ends in."""
    words = line.split()
    return next((word for word in (words[-1], words[0]) if word in ACTIVATIONS or word == "prelu"), None)


def _last_weighted(chain: Chain, other: KerasLayer) -> KerasLayer:
    found = weighted_layers(chain)
    return found[-1][0] if found else other


def _all_lines(chain: Chain) -> list[Line]:
    found: list[Line] = []
    for item in chain:
        found += [item] if isinstance(item, Line) else [line for inner in item.chains for line in _all_lines(inner)]
    return found


def _note_habits(layer: KerasLayer, converter: Converter) -> None:
    """What of a layer is not taken over although its meaning is clear."""
    if layer.config.get("trainable") is False:
        converter.frozen.append(layer.name)
    if any(value for key, value in layer.config.items() if key.endswith(("_regularizer", "_constraint"))):
        converter.regularized.append(layer.name)
    dtype = layer.config.get("dtype")
    inner = dtype.get("config") if isinstance(dtype, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else dtype
    if isinstance(name, str) and name != "float32":
        note = f"it computes in {name} in Keras; here the weights are float32, and precision is a setting"
        if note not in converter.notes:
            converter.notes.append(note)


def _say_habits(converter: Converter) -> None:
    if converter.frozen:
        names = _some(converter.frozen)
        converter.notes.append(f"frozen in Keras (trainable: false), trained here: {names}")
    if converter.left_out:
        names = _some(converter.left_out)
        converter.notes.append(f"left out, for it acts in training alone (augmentation is a setting here): {names}")
    if converter.regularized:
        names = _some(converter.regularized)
        converter.notes.append(f"regularizers and constraints are not taken over (weight_decay is a setting): {names}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
