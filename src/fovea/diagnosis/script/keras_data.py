"""How Keras programs feed a net: data sets, generators that change images, tf.data; and scikit-learn's scalers."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import arrays
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.nets import escape
from fovea.diagnosis.script.values import (
    NOT_MINE,
    UNKNOWN,
    Data,
    Function,
    Ref,
    Thing,
    number,
    split_of_name,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

RANDOM_ARGUMENTS = (
    *("rotation_range", "width_shift_range", "height_shift_range", "shear_range", "zoom_range", "channel_shift_range"),
    *("horizontal_flip", "vertical_flip", "brightness_range"),
)
_STATISTICS = (
    *("featurewise_center", "samplewise_center", "featurewise_std_normalization", "samplewise_std_normalization"),
    "zca_whitening",
)


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A function or class of Keras that has to do with data."""
    name = ref.name
    if name == "load_data":
        return arrays.named_dataset(interpreter, ref.path.split(".")[-2], call)
    if name == "ImageDataGenerator":
        return interpreter.make("generator", ref.path, call.line, call=call, given=dict(call.keywords))
    if name == "image_dataset_from_directory":
        return _directory_dataset(interpreter, ref, call)
    if name == "preprocess_input":
        data = arrays.find_data(call.args)
        return UNKNOWN if data is None else data.opaque(f"preprocess_input of {ref.path.split('.')[-2]}")
    if name in ("to_categorical", "normalize", "load_img", "img_to_array", "array_to_img", "cast"):
        return arrays.call(interpreter, ref, call)
    return NOT_MINE


def _directory_dataset(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    subset, directory = call.get("subset"), call.get("directory", 0)
    mode = call.get("label_mode", None, "int")
    kind = {"int": "integer", "categorical": "one_hot"}.get(mode) if isinstance(mode, str) else None
    feed = _directory_feed(interpreter, call, directory, subset, kind, 1.0)
    feed.values |= {"batch_size": call.get("batch_size", None, 32), "shuffle": call.get("shuffle", None, True)}
    if subset == "both":
        return feed, _copied(interpreter, feed, call.line, split="val")
    return feed


def _directory_feed(
    interpreter: Interpreter, call: Call, directory: Any, subset: Any, kind: str | None, factor: float
) -> Thing:
    text = directory if isinstance(directory, str) else ""
    last = [part for part in text.replace("\\", "/").split("/") if part][-1:]
    node = call.node.args[0] if call.node is not None and call.node.args else None
    named = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    split = next((found for word in (*last, named, *call.hint) if word and (found := split_of_name(word))), None)
    split = {"training": "train", "validation": "val"}.get(subset, split) if isinstance(subset, str) else split
    common: dict[str, Any] = {"split": split, "base": "directory", "line": call.line}
    images = Data(part="images", raw_high=255.0, factor=factor, **common)
    labels = Data(part="labels", label_kind=kind, **common)
    feed = interpreter.make("feed", "keras.directory", call.line, images=images, labels=labels, directory=text)
    feed.values["subset"] = subset if isinstance(subset, str) else None
    return feed


def _copied(interpreter: Interpreter, feed: Thing, line: int, split: str | None = None, **changes: Any) -> Thing:
    """The same feed with something changed."""
    made = interpreter.make("feed", feed.path, line)
    made.values = {**feed.values, **changes}
    if split is not None:
        for part in ("images", "labels"):
            if isinstance(made.values.get(part), Data):
                made.values[part] = replace(made.values[part], split=split)
    return made


def tensorflow(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """TensorFlow's functions on data; what is not known is left to the others."""
    if ref.name == "from_tensor_slices":
        pair = call.get("tensors", 0)
        images, labels = pair if isinstance(pair, tuple | list) and len(pair) == 2 else (pair, UNKNOWN)
        return interpreter.make("feed", "tensorflow.data", call.line, images=images, labels=labels, shuffle=False)
    if ref.name == "divide" and isinstance(data := arrays.find_data(call.args), Data):
        by = number(call.get("y", 1))
        return data.opaque("divide") if by is None else data.arithmetic(ast.Div(), by, call.line)
    if ref.path.startswith("tensorflow.image.random"):
        data = arrays.find_data(call.args)
        return UNKNOWN if data is None else data.with_step("augmented")
    if ref.name == "convert_image_dtype" and isinstance(data := arrays.find_data(call.args), Data):
        return data.arithmetic(ast.Div(), 255.0, call.line)
    return NOT_MINE


def method(interpreter: Interpreter, owner: Thing, name: str, call: Call) -> Any:
    """A method of a generator, a feed, a scaler, a parser ..."""
    handler = _METHODS.get((owner.kind, name)) or _METHODS.get((owner.kind, "*"))
    return handler(interpreter, owner, name, call) if handler is not None else NOT_MINE


def _generator_method(interpreter: Interpreter, generator: Thing, name: str, call: Call) -> Any:
    if name == "fit":
        data = call.get("x", 0)
        interpreter.note("generator_fit", call.line, generator=generator, data=data)
        return None
    given = generator.values["given"]
    if name == "flow":
        images, labels = call.get("x", 0), call.get("y", 1)
        if isinstance(images, tuple | list) and images:
            images = images[0]
        images = _prepared(images, given, generator.line) if isinstance(images, Data) else images
        feed = interpreter.make("feed", "keras.flow", call.line, images=images, labels=labels)
        feed.values["subset"] = call.get("subset", None, None)
    elif name in ("flow_from_directory", "flow_from_dataframe"):
        mode = call.get("class_mode", None, "categorical")
        kind = {"categorical": "one_hot", "sparse": "integer", "binary": "integer"}.get(mode) if mode else None
        directory = call.get("directory", 0)
        feed = _directory_feed(interpreter, call, directory, call.get("subset"), kind, 1.0)
        feed.values["images"] = _prepared(feed.values["images"], given, generator.line)
        if mode == "binary":
            feed.values["labels"] = replace(feed.values["labels"], num_classes=2)
    else:
        return NOT_MINE
    shuffle = call.get("shuffle", None, True)
    feed.values |= {"batch_size": call.get("batch_size", 2 if name == "flow" else None, 32), "shuffle": shuffle}
    feed.values |= {
        "augment": augmentation_of(given),
        "generator": generator,
        "classes_given": call.get("classes", None),
    }
    for part in ("images", "labels"):
        value = feed.values.get(part)
        if feed.values["subset"] == "validation" and isinstance(value, Data):
            feed.values[part] = replace(value, split="val")
    return feed


def augmentation_of(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a generator that change images at random, without those that are off."""
    changing = {name: value for name, value in given.items() if name in RANDOM_ARGUMENTS}
    return {name: value for name, value in changing.items() if value not in (0, 0.0, None, False) or value is UNKNOWN}


def _prepared(data: Data, given: dict[str, Any], line: int) -> Data:
    """What a generator does to every image, beside the random changes."""
    on = [name for name in _STATISTICS if given.get(name) not in (None, False)]
    function = given.get("preprocessing_function")
    if function is not None and "preprocessing_function" in given:
        data = data.opaque(f"preprocessing_function {_word(function)}")
    rescale = given.get("rescale")
    if rescale is not None:
        factor = number(rescale)
        data = data.opaque("rescale") if factor is None else data.arithmetic(ast.Mult(), factor, line)
    if on:
        is_scaled = any("std" in name for name in on) or data.is_standardised
        data = replace(data, steps=(*data.steps, *on), is_standardised=is_scaled)
    return data


def _word(function: Any) -> str:
    if isinstance(function, Function):
        return str(getattr(function.node, "name", "lambda"))
    return function.path if isinstance(function, Ref) else "?"


def _feed_method(interpreter: Interpreter, feed: Thing, name: str, call: Call) -> Any:
    if name == "map":
        return _mapped(interpreter, feed, call)
    if name == "batch":
        return _copied(interpreter, feed, call.line, batch_size=call.get("batch_size", 0))
    if name == "shuffle":
        return _copied(interpreter, feed, call.line, shuffle=True)
    if name in ("take", "skip"):
        split = next((found for word in call.hint if (found := split_of_name(word))), None)
        return _copied(interpreter, feed, call.line, split=split)
    if name in ("cache", "prefetch", "repeat", "with_options", "apply", "unbatch", "as_numpy_iterator", "interleave"):
        return feed
    if name in ("next", "__next__", "get_next", "__getitem__"):
        return Thing("batch", feed.path, feed.line, feed.values)
    if name in ("reset", "on_epoch_end"):
        return None
    return NOT_MINE


def _mapped(interpreter: Interpreter, feed: Thing, call: Call) -> Any:
    """`dataset.map(function)`: the function is followed with the images and labels."""
    function = call.get("map_func", 0)
    images, labels = feed.values.get("images", UNKNOWN), feed.values.get("labels", UNKNOWN)
    value: Any = UNKNOWN
    if isinstance(function, Function):
        count = len(function.node.args.args)
        value = interpreter.follow(function, [images, labels][:count], {})
    parts = value if isinstance(value, tuple | list) and len(value) == 2 else (value, labels)
    new = parts[0] if isinstance(parts[0], Data) else images.opaque("map") if isinstance(images, Data) else UNKNOWN
    changes: dict[str, Any] = {"images": new, "labels": parts[1] if parts[1] is not UNKNOWN else labels}
    if isinstance(new, Data) and "augmented" in new.steps:
        changes["augment"] = {"map": True}
        changes["images"] = replace(new, steps=tuple(step for step in new.steps if step != "augmented"))
    return _copied(interpreter, feed, call.line, **changes)


def _scaler(interpreter: Interpreter, scaler: Thing, name: str, call: Call) -> Any:
    data = arrays.find_data(call.args)
    if data is None:
        return UNKNOWN
    if name in ("fit", "fit_transform"):
        fitted = scaler.values.get("fitted")
        interpreter.note("scaler_fit", call.line, data=data, scaler=scaler, before=fitted)
        scaler.values["fitted"] = data
    if name in ("transform", "fit_transform"):
        word = scaler.name
        return replace(data.with_step(word), is_standardised=True, scaled_line=call.line)
    return scaler if name == "fit" else UNKNOWN


def _binarizer(interpreter: Interpreter, encoder: Thing, name: str, call: Call) -> Any:
    data = arrays.find_data(call.args)
    if data is None or name == "fit":
        return encoder
    return arrays.one_hot(data, None, call.line) if encoder.kind == "binarizer" else replace(data, label_kind="integer")


def _sampler(interpreter: Interpreter, sampler: Thing, name: str, call: Call) -> Any:
    parts = [value.with_step("resampled") if isinstance(value, Data) else value for value in call.args[:2]]
    return tuple(parts) if name in ("fit_resample", "fit_sample") and len(parts) == 2 else UNKNOWN


def _folds(interpreter: Interpreter, folds: Thing, name: str, call: Call) -> Any:
    return Thing("folds", folds.path, call.line, {"data": arrays.find_data(call.args)})


def _parser(interpreter: Interpreter, parser: Thing, name: str, call: Call) -> Any:
    """argparse: the defaults are what the program does unless told otherwise."""
    if name in ("add_argument_group", "add_mutually_exclusive_group"):
        return parser
    if name == "add_argument":
        flags = [value for value in call.args if isinstance(value, str)]
        long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
        key = call.get("dest", None, long.lstrip("-").replace("-", "_"))
        is_switch = "action" in call.keywords
        parser.values.setdefault("defaults", {})[key] = UNKNOWN if is_switch else call.get("default", None, UNKNOWN)
        return None
    if name in ("parse_args", "parse_known_args"):
        found = Thing("arguments", "argparse", call.line, dict(parser.values.get("defaults", {})))
        return found if name == "parse_args" else (found, UNKNOWN)
    return None


def _history(interpreter: Interpreter, history: Thing, name: str, call: Call) -> Any:
    key = call.get("key", 0)
    if name == "get" and isinstance(key, str):
        interpreter.note("history_key", call.line, key=key, history=history)
    return UNKNOWN


def _optimizer(interpreter: Interpreter, optimizer: Thing, name: str, call: Call) -> Any:
    for value in call.values():
        escape(value, deep=False)
    interpreter.note("own_loop", call.line, optimizer=optimizer)
    return UNKNOWN


_METHODS: dict[tuple[str, str], Callable[[Interpreter, Thing, str, Call], Any]] = {
    ("generator", "*"): _generator_method,
    ("feed", "*"): _feed_method,
    ("scaler", "*"): _scaler,
    ("binarizer", "*"): _binarizer,
    ("encoder", "*"): _binarizer,
    ("sampler", "*"): _sampler,
    ("folds", "split"): _folds,
    ("parser", "*"): _parser,
    ("history", "*"): _history,
    ("optimizer", "minimize"): _optimizer,
    ("optimizer", "apply_gradients"): _optimizer,
    ("optimizer", "apply"): _optimizer,
}
