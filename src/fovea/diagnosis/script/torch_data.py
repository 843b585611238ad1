"""How PyTorch programs feed a net: torchvision's data sets and transforms, loaders, splits."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.names import DATASETS, plain
from fovea.diagnosis.script.values import NOT_MINE, UNKNOWN, Data, Ref, Thing, number, split_of_name

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

RANDOM_TRANSFORMS = {
    *("RandomCrop", "RandomHorizontalFlip", "RandomVerticalFlip", "RandomRotation", "RandomAffine", "ColorJitter"),
    *("RandomResizedCrop", "RandomErasing", "RandomGrayscale", "RandomPerspective", "AutoAugment", "RandAugment"),
    *(
        "TrivialAugmentWide",
        "AugMix",
        "GaussianBlur",
        "RandomSizedCrop",
        "RandomApply",
        "RandomChoice",
        "ElasticTransform",
    ),
}
_PLAIN_TRANSFORMS = {"Resize", "CenterCrop", "ToPILImage", "Grayscale", "Pad", "Scale", "ConvertImageDtype", "ToImage"}


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A call of something of PyTorch that has to do with data."""
    name = ref.name
    if ".transforms" in ref.path:
        return _transform(interpreter, ref, call)
    if name in ("DataLoader", "MultiEpochsDataLoader"):
        return _loader(interpreter, ref, call)
    if name in ("TensorDataset",):
        images, labels = (*call.args, UNKNOWN, UNKNOWN)[:2]
        return interpreter.make("feed", ref.path, call.line, images=images, labels=labels)
    if name in ("random_split", "Subset", "ConcatDataset"):
        return _split_feed(interpreter, ref, call)
    if ".datasets" in ref.path and name[:1].isupper():
        return _dataset(interpreter, ref, call)
    return NOT_MINE


def _transform(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    transform = interpreter.make("transform", ref.path, call.line, call=call)
    steps = call.get("transforms", 0) if ref.name in ("Compose", "Sequential") else None
    transform.items = list(steps) if isinstance(steps, list | tuple) else []
    transform.is_complete = steps is not UNKNOWN
    return transform


def flat_transforms(transform: Any) -> list[Any]:
    """The steps of a transform, one after the other; UNKNOWN where something cannot be read."""
    if isinstance(transform, Thing) and transform.kind == "transform":
        if transform.name in ("Compose",):
            steps = [step for item in transform.items for step in flat_transforms(item)]
            return steps if transform.is_complete else [*steps, UNKNOWN]
        return [transform]
    return [] if transform is None else [UNKNOWN]


def transformed(data: Any, transforms: list[Any]) -> Any:
    """Images after torchvision's transforms; random ones are told by `random_transforms`."""
    if not isinstance(data, Data):
        return UNKNOWN
    for transform in transforms:
        if not isinstance(transform, Thing):
            data = data.opaque("transform")
        elif transform.name in ("ToTensor", "PILToTensor", "ToDtype"):
            divides = transform.name == "ToTensor" or transform.values["call"].get("scale") is True
            data = data.arithmetic(ast.Div(), 255.0, transform.line) if divides else data
        elif transform.name == "Normalize":
            data = _normalised(data, transform)
        elif transform.name not in RANDOM_TRANSFORMS | _PLAIN_TRANSFORMS:
            data = data.opaque(transform.name)
    return data


def _normalised(data: Data, transform: Thing) -> Data:
    mean = _average(transform.values["call"].get("mean", 0))
    std = _average(transform.values["call"].get("std", 1))
    if mean is None or not std:
        return data.opaque("Normalize")
    return data.arithmetic(ast.Sub(), mean, transform.line).arithmetic(ast.Div(), std, transform.line)


def _average(value: Any) -> float | None:
    numbers = [number(item) for item in (value if isinstance(value, list | tuple) else [value])]
    found = [item for item in numbers if item is not None]
    return sum(found) / len(found) if found and len(found) == len(numbers) else None


def random_transforms(transforms: list[Any]) -> dict[str, Any]:
    """The random steps and their first arguments."""
    found = {}
    for transform in transforms:
        if isinstance(transform, Thing) and transform.name in RANDOM_TRANSFORMS:
            given = transform.values["call"].values()
            found[transform.name] = given[0] if given else True
    return found


def _dataset(interpreter: Interpreter, ref: Ref, call: Call) -> Thing:
    known = DATASETS.get(plain(ref.name))
    is_train = call.get("train", 1, True) if known is not None else UNKNOWN
    chosen = call.get("split")
    root = call.get("root", 0)
    last = [part for part in root.replace("\\", "/").split("/") if part][-1:] if isinstance(root, str) else []
    words = ([chosen] if isinstance(chosen, str) else []) + last + list(call.hint)
    split = "train" if is_train is True else "test" if is_train is False else None
    split = split or next((found for word in words if (found := split_of_name(word))), None)
    common: dict[str, Any] = {"split": split, "base": ref.name, "line": call.line}
    if known is not None:
        common |= {
            "count": known[1] if split == "test" else known[0],
            "dataset": plain(ref.name),
            "num_classes": known[3],
        }
    images = Data(part="images", raw_high=255.0, **common)
    labels = Data(part="labels", label_kind="integer", **common)
    feed = interpreter.make("feed", ref.path, call.line, images=images, labels=labels, shuffle=False)
    apply_transform(feed, call.get("transform", 3 if known else 1, None))
    return feed


def apply_transform(feed: Thing, transform: Any) -> None:
    """A data set's images go through a transform."""
    raw = feed.values.setdefault("raw_images", feed.values.get("images"))
    steps = flat_transforms(transform) if transform is not UNKNOWN else [UNKNOWN]
    feed.values |= {"images": transformed(raw, steps), "augment": random_transforms(steps), "transforms": steps}


def describe_own_dataset(interpreter: Interpreter, feed: Thing, call: Call) -> None:
    """What can be told of a data set of the program's own class: its split by its names, its transform."""
    texts = [value for value in call.values() if isinstance(value, str)]
    split = next((found for word in (*texts, *call.hint) if (found := split_of_name(word.rsplit("/", 1)[-1]))), None)
    images = Data(split, "images", feed.values.get("class_name", "dataset"), is_opaque=True, line=call.line)
    feed.values |= {"images": images, "labels": replace(images, part="labels", is_opaque=False)}
    transform = next((value for value in call.values() if isinstance(value, Thing) and value.kind == "transform"), None)
    if transform is not None:
        feed.values |= {"augment": random_transforms(flat_transforms(transform))}
        words = [step.name if isinstance(step, Thing) else "?" for step in flat_transforms(transform)]
        kept = tuple(word for word in words if word not in RANDOM_TRANSFORMS)
        feed.values["images"] = replace(images, steps=kept)


def _loader(interpreter: Interpreter, ref: Ref, call: Call) -> Thing:
    dataset = call.get("dataset", 0)
    loader = interpreter.make("feed", ref.path, call.line, is_loader=True)
    if isinstance(dataset, Thing) and dataset.kind == "feed":
        loader.values |= dataset.values
    elif isinstance(dataset, Data):
        loader.values["images"] = dataset
    split = next((found for word in call.hint if (found := split_of_name(word))), None)
    images = loader.values.get("images")
    if isinstance(images, Data) and images.split is None and split is not None:
        loader.values["images"] = replace(images, split=split)
    elif images is None or images is UNKNOWN:
        loader.values["images"] = Data(split, "images", f"line {call.line}", is_opaque=True, line=call.line)
    sampler = call.get("sampler")
    shuffle = call.get("shuffle", 2, False)
    loader.values |= {"batch_size": call.get("batch_size", 1, 1), "is_loader": True}
    loader.values["shuffle"] = UNKNOWN if sampler is not UNKNOWN and sampler is not None else shuffle
    if "batch_sampler" in call.keywords or isinstance(sampler, Thing):
        loader.values["shuffle"] = UNKNOWN
    return loader


def _split_feed(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    dataset = call.get("dataset", 0)
    if ref.name == "ConcatDataset":
        return dataset[0] if isinstance(dataset, list | tuple) and dataset else UNKNOWN
    values = dataset.values if isinstance(dataset, Thing) and dataset.kind == "feed" else {}
    made = []
    lengths = call.get("lengths", 1)
    hint = call.hint or (("",) * len(lengths) if isinstance(lengths, list | tuple) else ("train", "val"))
    for name in hint:
        feed = interpreter.make("feed", ref.path, call.line)
        feed.values = {**values, "shares_transform": dataset}
        split = split_of_name(name)
        for part in ("images", "labels"):
            value = feed.values.get(part)
            if isinstance(value, Data) and split is not None:
                feed.values[part] = replace(value, split=split, count=None)
        made.append(feed)
    return made if ref.name == "random_split" else made[0]
