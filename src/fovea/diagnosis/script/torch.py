"""What PyTorch, torchvision, Lightning and skorch make and do: modules, transforms, loaders, and the loop's calls."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import arrays
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.keras import after
from fovea.diagnosis.script.names import ACTIVATIONS, DATASETS, LOSSES, OPTIMIZERS, TORCH_LAYERS, loss_word, plain
from fovea.diagnosis.script.nets import escape, joined, layers_in, tensor_in
from fovea.diagnosis.script.values import (
    NOT_MINE,
    UNKNOWN,
    Data,
    Method,
    Ref,
    Tensor,
    Thing,
    number,
    split_of_name,
)

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
_CONTEXTS = {"no_grad", "inference_mode", "set_grad_enabled", "enable_grad"}
_SAME_NETS = {
    "to",
    "cuda",
    "cpu",
    "half",
    "float",
    "double",
    "compile",
    "DataParallel",
    "DistributedDataParallel",
    "type",
}
_ROOTS = {"torch", "torchvision", "pytorch_lightning", "lightning", "skorch", "timm", "apex", "accelerate"}


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A call of something of PyTorch's family."""
    if ref.root not in _ROOTS:
        return NOT_MINE
    tensor = tensor_in(call.args[0]) if call.args else None
    if tensor is not None:
        return _on_tensor(interpreter, ref, call, tensor)
    for known in (_module, _setting, _data):
        value = known(interpreter, ref, call)
        if value is not NOT_MINE:
            return value
    data = arrays.find_data(call.args)
    return arrays.call(interpreter, ref, call) if data is not None else NOT_MINE


def _on_tensor(interpreter: Interpreter, ref: Ref, call: Call, tensor: Tensor) -> Any:
    word = plain(ref.name)
    if word in ACTIVATIONS:
        return after(interpreter, tensor, word, call.line)
    if loss_word(word) in LOSSES:
        facts = _loss_facts(word)
        loss = Thing("loss", ref.path, call.line, facts)
        interpreter.note("loss", call.line, loss=loss, output=tensor, args=call.args)
        return UNKNOWN
    kinds = {"maxpool2d": "maxpooling2d", "avgpool2d": "averagepooling2d", "flatten": "flatten", "dropout": "dropout"}
    kinds |= {"dropout2d": "spatialdropout2d", "adaptiveavgpool2d": "globalaveragepooling2d", "batchnorm": "other"}
    if word in kinds:
        layer = interpreter.make("layer", ref.path, call.line, layer_kind=kinds[word])
        layer.is_connected = True
        if word.startswith("dropout"):
            layer.values |= {"rate": call.first(("p",), 1, 0.5), "training": call.get("training", 2)}
        return Tensor((*tensor.layers, layer), tensor.is_complete, tensor.source)
    same = {"cat", "concat", "stack", "squeeze", "unsqueeze", "reshape", "pad", "interpolate", "add", "mul", "mean"}
    if word in same:
        return joined(call.args[0]) if isinstance(call.args[0], list | tuple) else tensor
    if word in ("max", "argmax", "topk", "sum"):
        return UNKNOWN
    return Tensor(tensor.layers, False, tensor.source)


def _module(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    name = ref.name
    if ref.root in ("torchvision", "timm") and (".models" in ref.path or ref.root == "timm"):
        if not name.islower() or name.startswith("list"):
            return NOT_MINE
        net = interpreter.make("net", "torch.application", call.line, framework="torch", application=name)
        body = interpreter.make("layer", ref.path, call.line, layer_kind="application", name=name)
        given = [call.get(word) for word in ("pretrained", "weights") if word in call.keywords]
        body.values["has_weights"] = bool(given) and given[0] not in (False, None)
        net.items, net.is_complete = [body], False
        return net
    if not ref.path.startswith("torch.nn"):
        return NOT_MINE
    if ref.path.startswith("torch.nn.init") and call.args and isinstance(call.args[0], Method):
        weights = call.args[0]
        if weights.name == "weight" and isinstance(weights.owner, Thing) and weights.owner.kind == "layer":
            weights.owner.values["kernel_initializer"] = name.rstrip("_")
        return None
    if name in ("Sequential", "ModuleList"):
        net = interpreter.make("net", f"torch.{name}", call.line, framework="torch")
        items = call.args[0] if len(call.args) == 1 and isinstance(call.args[0], list | tuple) else call.args
        net.items = list(items.values()) if isinstance(items, dict) else list(items)
        if len(net.items) == 1 and isinstance(net.items[0], dict):
            net.items = list(net.items[0].values())
        net.is_complete = all(isinstance(item, Thing) for item in net.items)
        for item in net.items:
            escape(item, deep=False)
        return net
    if name in _SAME_NETS and call.args:
        return call.args[0]
    if name in TORCH_LAYERS:
        kind, arguments = TORCH_LAYERS[name]
        values = dict(zip(arguments, call.args, strict=False))
        values |= {{"out_features": "units", "out_channels": "filters", "p": "rate"}.get(key, key): value
                   for key, value in call.keywords.items()}  # fmt: skip
        if kind.endswith("dropout2d") or kind == "dropout":
            values.setdefault("rate", 0.5)
        return interpreter.make("layer", ref.path, call.line, layer_kind=kind, **values)
    if loss_word(name) in LOSSES and ".functional" not in ref.path:
        facts = _loss_facts(plain(name))
        facts |= {"label_smoothing": call.get("label_smoothing"), "weight": call.get("weight", 0)}
        return interpreter.make("loss", ref.path, call.line, **facts)
    if loss_word(name) in LOSSES:
        loss = Thing("loss", ref.path, call.line, _loss_facts(plain(name)))
        interpreter.note("loss", call.line, loss=loss, output=None, args=call.args)
        return UNKNOWN
    return NOT_MINE


def _loss_facts(word: str) -> dict[str, Any]:
    loss = loss_word(word)
    return {"loss": loss, "from_logits": loss == "crossentropy" or "withlogits" in word}


def _setting(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    name, word = ref.name, plain(ref.name)
    if name in _CONTEXTS:
        is_off = name == "enable_grad" or (name == "set_grad_enabled" and call.get("mode", 0) is True)
        return Thing("context", "grad" if is_off else "no_grad", call.line)
    if ".lr_scheduler" in ref.path:
        optimizer = call.get("optimizer", 0)
        return interpreter.make("schedule", ref.path, call.line, optimizer=optimizer)
    if ".optim" in ref.path and word in OPTIMIZERS:
        rate = call.get("lr", 1)
        facts = {
            "optimizer": word,
            "learning_rate": number(rate),
            "is_default_rate": rate is UNKNOWN and len(call.args) < 2,
        }
        facts["is_default_rate"] = facts["is_default_rate"] and "lr" not in call.keywords
        facts |= {"momentum": number(call.get("momentum", 2 if word == "sgd" else None))}
        facts |= {"weight_decay": number(call.get("weight_decay")), "parameters": call.get("params", 0)}
        return interpreter.make("optimizer", ref.path, call.line, call=call, **facts)
    if ref.root == "skorch" and name.startswith("NeuralNet"):
        return _skorch(interpreter, ref, call)
    if name == "Trainer":
        return interpreter.make("trainer", ref.path, call.line, call=call)
    return NOT_MINE


def _skorch(interpreter: Interpreter, ref: Ref, call: Call) -> Thing:
    trainer = interpreter.make("trainer", ref.path, call.line, call=call, is_skorch=True)
    trainer.values["module"] = call.get("module", 0)
    return trainer


def _data(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
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


def method(interpreter: Interpreter, owner: Any, name: str, call: Call) -> Any:
    """A method that a PyTorch program calls: on nets, optimizers, losses, tensors and unknown things."""
    if isinstance(owner, Tensor):
        return _tensor_method(interpreter, owner, name, call)
    kind = owner.kind if isinstance(owner, Thing) else None
    if name in ("backward", "zero_grad", "step", "eval", "train") and kind not in ("list", "feed", "context"):
        return _loop_call(interpreter, owner, kind, name, call)
    if kind == "net" and isinstance(owner, Thing):
        if name in ("parameters", "named_parameters", "modules", "children", "named_modules", "named_children"):
            return Thing("parameters", owner.path, call.line, {"owner": owner})
        if name in ("load_state_dict", "load_from_checkpoint"):
            interpreter.note("load_weights", call.line, net=owner)
            return owner
        if name == "append":
            owner.items.append(call.get("module", 0))
            return owner
        if name == "add_module" and len(call.args) == 2:
            owner.items.append(call.args[1])
            return None
        if name in ("requires_grad_",):
            for layer in layers_in(owner):
                layer.is_trainable = call.get("requires_grad", 0, True) is not False
            return owner
        if name in ("apply", *_SAME_NETS):
            return owner
    if kind == "trainer" and isinstance(owner, Thing) and name in ("fit", "partial_fit"):
        interpreter.note("trainer_fit", call.line, trainer=owner, args=call.args, keywords=call.keywords)
        return owner
    return NOT_MINE


def _loop_call(interpreter: Interpreter, owner: Any, kind: str | None, name: str, call: Call) -> Any:
    """The calls that make a training loop."""
    if name == "backward" and call.args and kind is None:
        name = "backward"
    if name == "step":
        optimizer = owner if kind == "optimizer" else next(
            (value for value in call.args if isinstance(value, Thing) and value.kind == "optimizer"), None
        )  # fmt: skip
        if kind == "schedule":
            interpreter.note("schedule_step", call.line)
            return None
        interpreter.note("step", call.line, optimizer=optimizer)
        return UNKNOWN
    if name in ("eval", "train"):
        if kind not in ("net", None):
            return NOT_MINE
        is_training = name == "train" and call.get("mode", 0, True) is not False
        interpreter.note("mode", call.line, net=owner, is_training=is_training)
        return owner
    interpreter.note(name, call.line, owner=owner)
    return None


def _tensor_method(interpreter: Interpreter, tensor: Tensor, name: str, call: Call) -> Any:
    word = plain(name).rstrip("_")
    if word in ACTIVATIONS:
        return after(interpreter, tensor, word, call.line)
    if name in ("view", "reshape", "flatten") and tensor.layers:
        layer = interpreter.make("layer", "flatten", call.line, layer_kind="flatten")
        layer.is_connected = True
        return Tensor((*tensor.layers, layer), tensor.is_complete, tensor.source)
    if name in ("size", "dim", "backward", "item", "max", "argmax", "sum", "topk", "numpy", "tolist"):
        if name == "backward":
            interpreter.note("backward", call.line, owner=tensor)
        return UNKNOWN
    return tensor
