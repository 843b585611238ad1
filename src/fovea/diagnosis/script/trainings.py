"""The trainings of a program: which net is trained on what, measured on what, by which settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.facts import Training, framework_of, images_of
from fovea.diagnosis.script.library import instantiate
from fovea.diagnosis.script.nets import layers_in, output_of
from fovea.diagnosis.script.values import UNKNOWN, Class, Data, Event, Function, Loop, Ref, Tensor, Thing, number, whole

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter


TRAINING_EVENTS = ("fit", "backward", "own_loop", "trainer_fit")


def trainings_of(interpreter: Interpreter) -> list[Training]:
    """All trainings, in the order in which they begin; without any, what is compiled."""
    found = _keras_trainings(interpreter) + _loops(interpreter) + _trainers(interpreter)
    if not found:
        return [_compiled_only(interpreter, event) for event in interpreter.events if event.kind == "compile"]
    return sorted(found, key=lambda training: training.fits[0].line if training.fits else 0)


def _keras_trainings(interpreter: Interpreter) -> list[Training]:
    fits: dict[int, list[Event]] = {}
    for event in interpreter.events:
        if event.kind == "fit":
            fits.setdefault(id(event.values["net"]), []).append(event)
    return [_keras_training(interpreter, events) for events in fits.values()]


def _keras_training(interpreter: Interpreter, fits: list[Event]) -> Training:
    last, net = fits[-1], fits[0].values["net"]
    training = Training(framework_of(interpreter), net, fits)
    for event in fits:
        training.given |= event.values["given"]
    training.output, training.trainable = last.values["output"], last.values["trainable"]
    training.is_one_batch = bool(last.values["given"].get("is_one_batch"))
    _take_settings(training, last.values["compiled"])
    _own_step(interpreter, training)
    given_lines: dict[str, int] = {}
    for event in fits:
        given_lines |= event.values["given"].get("lines", {})
    for name in ("batch_size", "epochs"):
        if name in given_lines:
            training.lines[f"training.{name}"] = given_lines[name]
    training.epochs = whole(training.given.get("epochs", 1))
    training.sources["train"], training.labels["train"] = training.given.get("x"), training.given.get("y")
    _validation(training, last, given_lines)
    _measured(interpreter, training)
    _repeats(interpreter, training)
    return training


def _compiled_only(interpreter: Interpreter, event: Event) -> Training:
    """A net that is compiled and, as far as the text goes, not trained: its end, loss and optimizer can be judged."""
    net = event.values["net"]
    training = Training(framework_of(interpreter), net)
    _take_settings(training, net.values.get("compiled", {}))
    training.output, training.trainable = output_of(interpreter, net), event.values["trainable"]
    training.given = {"batch_size": UNKNOWN, "callbacks": UNKNOWN}
    return training


def _take_settings(training: Training, compiled: dict[str, Any]) -> None:
    """Loss, metrics and optimizer of compile."""
    training.framework = "keras" if training.framework == "torch" else training.framework
    training.loss, training.metrics = compiled.get("loss", UNKNOWN), compiled.get("metrics", UNKNOWN)
    optimizer = compiled.get("optimizer")
    training.optimizer = optimizer if isinstance(optimizer, Thing) else None
    training.lines |= {f"training.{name}": line for name, line in compiled.get("lines", {}).items()}
    if training.optimizer is not None:
        training.lines["training.optimizer"] = training.optimizer.line


def _validation(training: Training, last: Event, lines: dict[str, int]) -> None:
    given = last.values["given"]
    held, share = given.get("validation_data"), given.get("validation_split")
    line = lines.get("validation_data", lines.get("validation_split", last.line))
    training.lines["training.validation_source"] = line
    if held is not None and held is not UNKNOWN:
        source = held[0] if isinstance(held, tuple | list) and held else held
        labels = held[1] if isinstance(held, tuple | list) and len(held) > 1 else UNKNOWN
        images = images_of(source)
        training.sources["val"], training.labels["val"] = source, labels
        split = images.split if images is not None else None
        training.validation_source = {"test": "test", "val": "own", "train": "train"}.get(split or "")
    elif "validation_data" in given and held is UNKNOWN:
        training.validation_source = None
    elif number(share):
        training.validation_source = "split"
    elif share is UNKNOWN and "validation_split" in given:
        training.validation_source = None
    else:
        training.validation_source = None if given.get("is_one_batch") else "none"


def _measured(interpreter: Interpreter, training: Training) -> None:
    """What else the net is shown: test images, and images that it answers for."""
    if training.validation_source == "test":
        training.sources["test"], training.labels["test"] = training.sources["val"], training.labels["val"]
    for event in interpreter.events:
        if event.kind not in ("evaluate", "predict") or event.values["net"] is not training.net:
            continue
        source = event.values["data"]
        images = images_of(source)
        if images is None:
            continue
        if images.split == "test" and (event.kind == "evaluate" or "test" not in training.sources):
            is_part = event.kind == "predict" and images.counted_line is not None  # a few images, to look at
            training.sources["test"] = replace(images, count=None) if is_part else source
            training.labels["test"] = event.values["labels"]
        elif images.split == "val" and "val" not in training.sources:
            training.sources["val"], training.labels["val"] = source, event.values["labels"]
        elif images.split is None and images.raw_high is not None and event.kind == "predict":
            training.inference = images
            training.lines["inference.preprocessing"] = images.scaled_line or event.line
        if event.kind == "predict" and images.split == "test" and _is_other(images, training.sources.get("test")):
            training.inference = images
            training.lines["inference.preprocessing"] = images.scaled_line or event.line


def _is_other(images: Data, measured: Any) -> bool:
    """Whether images that are answered for are prepared in another way than those that are measured."""
    known = images_of(measured)
    return known is not None and not images.is_opaque and known.range != images.range


def _repeats(interpreter: Interpreter, training: Training) -> None:
    """How often one net is trained, and whether it begins with trained weights on purpose."""
    fits = [event for event in training.fits if not event.values["given"].get("is_one_batch")]
    if len(fits) == 2 and _exclude_each_other(*fits):
        fits = fits[1:]
    count, line = len(fits), fits[-1].line if fits else training.line
    net = training.net
    for event in fits:
        inner = event.loops[len(net.loops) :] if net is not None else ()
        if any(_tries_anew(loop) for loop in inner):
            count, line = max(count, 2), event.line
    training.num_fits = count or None
    training.lines["training.num_fits"] = line
    is_meant = any("initial_epoch" in event.values["given"] for event in fits)
    is_meant |= any(a.values["trainable"] != b.values["trainable"] for a, b in itertools.pairwise(fits))
    training.is_continued = True if is_meant or starts_trained(interpreter, training) else None


def _tries_anew(loop: Loop) -> bool:
    """Whether each round of a loop is meant as a training of its own: folds, a list of settings."""
    if isinstance(loop.over, list | tuple):
        return len(loop.over) > 1 and not loop.is_range
    return isinstance(loop.over, Thing) and loop.over.kind == "folds"


def _exclude_each_other(first: Event, second: Event) -> bool:
    """Whether two events stand on the two sides of one condition."""
    sides = dict(first.values["branches"])
    return any(sides.get(line, side) is not side for line, side in second.values["branches"])


def starts_trained(interpreter: Interpreter, training: Training) -> bool:
    """Whether the program loads trained weights into the net before it trains it."""
    net = training.net
    if net is None:
        return False
    applications = [layer for layer in layers_in(net) if layer.values.get("layer_kind") == "application"]
    if net.values.get("is_loaded") or any(layer.values.get("has_weights") for layer in applications):
        return True
    first = training.fits[0].line if training.fits else 0
    loads = [event for event in interpreter.events if event.kind == "load_weights" and event.values["net"] is net]
    return any(event.line <= first for event in loads)


def _feed_of(loop: Loop) -> Any:
    over = loop.over
    while isinstance(over, Thing) and over.kind == "enumerated":
        over = over.values["over"]
    return over


def _inner(event: Event) -> Loop | None:
    return event.loops[-1] if event.loops else None


def steps_are_meant(interpreter: Interpreter, backward: Event) -> bool:
    """Whether gradients are computed to change weights by them, and not for themselves."""
    has_optimizer = any(thing.kind == "optimizer" for thing in interpreter.things)
    has_step = any(event.kind == "step" for event in interpreter.events)
    return has_optimizer or has_step or len(backward.loops) > 1


def _own_step(interpreter: Interpreter, training: Training) -> None:
    """A Keras net with a train_step of its own: the loss may be said there, and not in compile."""
    net = training.net
    own = net.values.get("class") if net is not None else None
    method = own.method("train_step") if isinstance(own, Class) else None
    if method is None or training.loss is not UNKNOWN:
        return
    seen = len(interpreter.events)
    interpreter.follow(Function(method.node, method.scope, net), [UNKNOWN], {})
    for event in interpreter.events[seen:]:
        if event.kind == "loss":
            training.loss, training.output = event.values["loss"], event.values["output"] or training.output
            training.lines["training.loss"] = event.line
        elif event.kind == "own_loop":
            training.optimizer = event.values["optimizer"]
    del interpreter.events[seen:]


def _loops(interpreter: Interpreter) -> list[Training]:
    """Trainings that the program writes as a loop of its own, in PyTorch or with TensorFlow's tape."""
    groups: dict[int, list[Event]] = {}
    for event in interpreter.events:
        if (event.kind == "backward" and steps_are_meant(interpreter, event)) or (
            event.kind == "own_loop" and _beside(interpreter, event, "forward")
        ):
            groups.setdefault(id(_inner(event)), []).append(event)
    trainings = [_loop_training(interpreter, events) for events in groups.values()]
    by_net: dict[int, Training] = {}
    for training in trainings:
        key = id(training.net) if training.net is not None else id(training)
        by_net.setdefault(key, training)
    return list(by_net.values())


def _beside(interpreter: Interpreter, event: Event, kind: str) -> list[Event]:
    """Events of a kind in the same loop, or in one around or inside it."""
    near = [other for other in interpreter.events if other.kind == kind]
    same = [other for other in near if _inner(other) is _inner(event)]
    return same or [other for other in near if event.loops and event.loops[0] in other.loops[:1]]


def _loop_training(interpreter: Interpreter, backwards: list[Event]) -> Training:
    event = backwards[0]
    forwards = _beside(interpreter, event, "forward")
    net = next((other.values["net"] for other in forwards), None)
    is_torch = event.kind == "backward"
    training = Training("torch" if is_torch else framework_of(interpreter), net, backwards)
    if not is_torch:
        training.given = {"batch_size": UNKNOWN}
    losses = _beside(interpreter, event, "loss")
    for other in losses:
        training.loss = other.values["loss"]
        if isinstance(training.loss, Thing):
            training.lines["training.loss"] = training.loss.line
        if other.values["output"] is not None and other.values["output"].layers:
            training.output = other.values["output"]
    if training.output is None and net is not None:
        training.output = output_of(interpreter, net)
    steps = [other.values["optimizer"] for other in _beside(interpreter, event, "step")]
    made = [thing for thing in interpreter.things if thing.kind == "optimizer"]
    training.optimizer = next((thing for thing in steps if thing is not None), made[0] if len(made) == 1 else None)
    training.optimizer = training.optimizer if is_torch else event.values["optimizer"]
    if net is not None:
        training.trainable = {id(layer): layer.is_trainable for layer in layers_in(net)}
    training.epochs = next((len(loop.over) for loop in event.loops if isinstance(loop.over, range)), None)
    _loop_sources(interpreter, training, event, forwards)
    training.is_continued = True if starts_trained(interpreter, training) else None
    return training


def _loop_sources(interpreter: Interpreter, training: Training, event: Event, forwards: Sequence[Event]) -> None:
    feeds = [feed for loop in event.loops if images_of(feed := _feed_of(loop)) is not None]
    data = next((images for other in forwards if (images := images_of(other.values["data"])) is not None), None)
    training.sources["train"] = feeds[-1] if feeds else data
    for other in interpreter.events:
        if other.kind != "forward" or other.values["net"] is not training.net or _inner(other) is _inner(event):
            continue
        feed = next((feed for loop in reversed(other.loops) if images_of(feed := _feed_of(loop)) is not None), None)
        source = feed if feed is not None else other.values["data"]
        images = images_of(source)
        if images is None or images.split not in ("val", "test"):
            continue
        training.sources.setdefault(images.split, source)
        if event.loops and other.loops and event.loops[0] is other.loops[0]:
            training.validation_source = "own" if images.split == "val" else training.validation_source or "test"
            training.lines.setdefault("training.validation_source", other.line)


def _trainers(interpreter: Interpreter) -> list[Training]:
    """Trainings by Lightning's Trainer or by skorch."""
    return [
        _skorch(interpreter, event)
        if event.values["trainer"].values.get("is_skorch")
        else _lightning(interpreter, event)
        for event in interpreter.events
        if event.kind == "trainer_fit"
    ]


def _lightning(interpreter: Interpreter, event: Event) -> Training:
    call = Call(event.line, event.values["args"], event.values["keywords"])
    net, settings = call.get("model", 0), event.values["trainer"].values["call"]
    training = Training("torch", net if isinstance(net, Thing) else None, [event])
    training.epochs = whole(settings.get("max_epochs"))
    training.sources["train"] = call.first(("train_dataloaders", "train_dataloader"), 1)
    training.sources["val"] = call.first(("val_dataloaders",), 2)
    if not isinstance(net, Thing) or net.kind != "net":
        return training
    own = net.values.get("class")
    seen = len(interpreter.events)
    for name, args in (("training_step", [UNKNOWN, UNKNOWN]), ("configure_optimizers", [])):
        method = own.method(name) if isinstance(own, Class) else None
        if method is not None:
            value = interpreter.follow(Function(method.node, method.scope, net), args, {})
            if name == "configure_optimizers" and isinstance(value, Thing) and value.kind == "optimizer":
                training.optimizer = value
    for other in interpreter.events[seen:]:
        if other.kind == "loss":
            training.loss = other.values["loss"]
            training.output = other.values["output"] or training.output
    training.output = training.output or output_of(interpreter, net)
    training.trainable = {id(layer): layer.is_trainable for layer in layers_in(net)}
    return training


def _skorch(interpreter: Interpreter, event: Event) -> Training:
    settings = event.values["trainer"].values["call"]
    module = settings.get("module", 0)
    net = instantiate(interpreter, module, Call(event.line, [], {})) if isinstance(module, Class) else module
    training = Training("torch", net if isinstance(net, Thing) and net.kind == "net" else None, [event])
    if training.net is not None:
        training.output = output_of(interpreter, training.net)
        training.trainable = {id(layer): layer.is_trainable for layer in layers_in(training.net)}
    criterion, optimizer = settings.get("criterion"), settings.get("optimizer")
    if isinstance(criterion, Ref) and criterion.name == "CrossEntropyLoss":
        training.loss = Thing("loss", criterion.path, event.line, {"loss": "crossentropy", "from_logits": True})
    elif event.values["trainer"].name == "NeuralNetClassifier" and getattr(criterion, "name", "NLLLoss") == "NLLLoss":
        facts = {"loss": "nllofprobabilities", "from_logits": False}  # it takes the logarithm itself
        training.loss = Thing("loss", "skorch.NLLLoss", event.line, facts)
    if isinstance(optimizer, Ref) or optimizer is UNKNOWN:
        name = optimizer.name.lower() if isinstance(optimizer, Ref) else "sgd"
        facts = {"optimizer": name, "learning_rate": number(settings.get("lr", None, 0.01)), "is_default_rate": False}
        training.optimizer = Thing("optimizer", f"torch.optim.{name}", settings.line, facts)
    training.epochs = whole(settings.get("max_epochs", None, 10))
    training.given = {"batch_size": settings.get("batch_size", None, 128)}
    args = event.values["args"]
    training.sources["train"] = args[0] if args else None
    training.labels["train"] = args[1] if len(args) > 1 else None
    return training


def tensor_of(interpreter: Interpreter, training: Training) -> Tensor:
    """What the loss is given."""
    if training.output is not None:
        return training.output
    return output_of(interpreter, training.net) if training.net is not None else Tensor((), False)
