"""What a program says: things made and never used, calls left out, names that match nothing."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.record import Mention
from fovea.diagnosis.script import removed
from fovea.diagnosis.script.facts import Training, images_of, metric_names
from fovea.diagnosis.script.trainings import steps_are_meant
from fovea.diagnosis.script.values import UNKNOWN, Data, Event, Thing

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Copy, Interpreter


def mentions_of(
    interpreter: Interpreter, trainings: Sequence[Training], tree: ast.Module, is_whole: bool
) -> tuple[Mention, ...]:
    """All mentions of a program; is_whole: nothing of it was left out, so that what is missing is missing."""
    removed.check_imports(interpreter)
    found = list(interpreter.mentions)
    if trainings:
        found += _unused_copies(interpreter, trainings) + _wrong_splits(interpreter)
        found += _unused_callbacks(interpreter) if is_whole else []
    found += _monitors(trainings) + _history_keys(interpreter) + _orders(interpreter, trainings)
    found += _leaks(interpreter) + _own_statistics(interpreter) + _labels(trainings)
    if is_whole:
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [mention for mention in _loop_calls(interpreter) if not _SAID_ANYWHERE[mention.what] & called]
    return tuple(dict.fromkeys(sorted(found, key=lambda mention: mention.line or 0)))


# what is missing is claimed only where no call or attribute of these names stands anywhere in the program
_SAID_ANYWHERE: dict[str, set[str]] = {
    "missing-backward": {"backward", "manual_backward", "minimize"},
    "missing-step": {"data", "add_", "sub_"},
    "missing-zero-grad": {"zero_grad", "zero_", "grad"},
    "missing-eval-mode": {"eval", "training"},
    "left-in-eval-mode": set(),
}


def _unused_copies(interpreter: Interpreter, trainings: Sequence[Training]) -> list[Mention]:
    """Scaled images under a name that is never read, while the net is trained on the unscaled ones."""
    copies = [*interpreter.unread_copies, *(copy for copy in interpreter.copies.values() if not copy.is_read)]
    found = []
    for copy in copies:
        for training in trainings:
            if (used := _source_of(copy, training)) is not None:
                detail = f"{copy.name}, made in line {copy.line} of the {used.split} images"
                instead = f"{copy.name} in place of the images that are not scaled"
                found.append(Mention("unused-copy", copy.line, detail, instead))
                break
    return found


def _source_of(copy: Copy, training: Training) -> Data | None:
    """The unscaled data of the same split and origin that a training uses."""
    data = copy.data
    if data.part != "images" or not (data.factor != 1.0 or data.is_standardised):
        return None
    for source in training.sources.values():
        used = images_of(source)
        if used is None or used.is_opaque or used.preprocessing:
            continue
        if used.split == data.split and used.base == data.base:
            return used
    return None


def _wrong_splits(interpreter: Interpreter) -> list[Mention]:
    """`x_test = x_train / 255`: a name of one split, the images of another."""
    found = []
    for event in interpreter.events:
        if event.kind == "renamed" and event.values["data"].part == "images":
            name, data = event.values["name"], event.values["data"]
            if data.factor != 1.0 or data.steps:
                found.append(Mention("wrong-split", event.line, f"{name} is made of the {data.split} images", name))
    return found


def _unused_callbacks(interpreter: Interpreter) -> list[Mention]:
    made = [thing for thing in interpreter.things if thing.kind == "callback" and not thing.is_connected]
    found = [Mention(f"unused-callback:{thing.name}", thing.line, thing.label or _class_name(thing)) for thing in made]
    for item in interpreter.classes:
        bases = item.library_bases()
        is_callback = any(base.startswith("keras") and base.endswith("Callback") for base in bases)
        if is_callback and not item.is_made and not any(item in other.bases for other in interpreter.classes):
            found.append(Mention(f"unused-callback:{item.node.name}", item.node.lineno, item.node.name))
    return found


def _class_name(thing: Thing) -> str:
    return str(thing.values.get("class_name", thing.name))


def _monitors(trainings: Sequence[Training]) -> list[Mention]:
    """Names that callbacks watch and that today's Keras does not report."""
    found = []
    for training in trainings:
        callbacks = training.given.get("callbacks")
        names = metric_names(training.metrics) if training.metrics is not UNKNOWN else None
        for item in callbacks if isinstance(callbacks, list | tuple) else [callbacks]:
            monitor = item.values.get("monitor") if isinstance(item, Thing) and "call" in item.values else None
            if not isinstance(item, Thing) or not monitor:
                continue
            line = item.values["call"].line_of("monitor")
            plain = monitor.removeprefix("val_")
            if monitor.startswith("val_") and training.validation_source == "none":
                instead = f"{plain}, or give fit validation_split=0.1"
                found.append(Mention(f"dead-monitor:{monitor}", line, monitor, instead))
            elif plain == "acc" and names is not None and "acc" not in names:
                found.append(Mention(f"dead-monitor:{monitor}", line, monitor, monitor.replace("acc", "accuracy")))
            elif plain == "accuracy" and names is not None and not any("accuracy" in name for name in names):
                instead = monitor.replace("accuracy", "acc" if "acc" in names else "loss")
                found.append(Mention(f"dead-monitor:{monitor}", line, monitor, instead))
    return found


def _history_keys(interpreter: Interpreter) -> list[Mention]:
    found = []
    for event in interpreter.events:
        key = event.values.get("key")
        if event.kind != "history_key" or key not in ("acc", "val_acc"):
            continue
        net = event.values["history"].values.get("net")
        metrics = net.values.get("compiled", {}).get("metrics", UNKNOWN) if isinstance(net, Thing) else UNKNOWN
        names = metric_names(metrics) if metrics is not UNKNOWN else None
        if names is not None and "acc" not in names:
            detail, instead = f'history["{key}"]', f'history["{key.replace("acc", "accuracy")}"]'
            found.append(Mention(f"removed-key:{key}", event.line, detail, instead))
    return found


def _orders(interpreter: Interpreter, trainings: Sequence[Training]) -> list[Mention]:
    """Predictions of a shuffled feed; lists of classes that differ."""
    found = []
    for event in interpreter.events:
        feed = event.values.get("data")
        if event.kind != "predict" or not isinstance(feed, Thing) or feed.kind != "feed" or feed.root != "keras":
            continue
        if feed.values.get("shuffle") is True:
            detail = f"{feed.label or 'a feed'} is shuffled (line {feed.line})"
            found.append(Mention("shuffled-predictions", event.line, detail, "shuffle=False"))
    for training in trainings:
        lists = {}
        for split, source in training.sources.items():
            given = source.values.get("classes_given") if isinstance(source, Thing) else None
            if isinstance(given, list | tuple) and UNKNOWN not in given:
                lists[split] = tuple(given)
        if len(set(lists.values())) > 1:
            said = ", ".join(f"{split}: {list(names)}" for split, names in lists.items())
            found.append(Mention("class-order", training.line, said[:200], "classes= with one list"))
    return found


def _leaks(interpreter: Interpreter) -> list[Mention]:
    """Images repeated or statistics fitted before the split."""
    found: list[Mention] = []
    splits = [event for event in interpreter.events if event.kind == "split"]
    for event in splits:
        data = event.values["data"]
        if "resampled" in data.steps or "augmented" in data.steps:
            found.append(Mention("augmented-before-split", event.line, "resampled or augmented, then split"))
    for event in interpreter.events:
        if event.kind != "scaler_fit":
            continue
        data, scaler = event.values["data"], event.values["scaler"]
        if data.split is None and any(later.line > event.line for later in splits):
            found.append(Mention("fitted-before-split", event.line, f"{scaler.name} in line {event.line}"))
        if data.split in ("test", "val"):
            detail = f"{scaler.name} is fitted on the {data.split} images"
            found.append(Mention("fitted-on-test", event.line, detail, "transform instead of fit_transform"))
    return found


def _own_statistics(interpreter: Interpreter) -> list[Mention]:
    found = []
    for event in interpreter.events:
        if event.kind == "own_statistics":
            split = event.values["data"].split
            detail = f"the {split} images are standardised by their own {event.values['statistic']}"
            found.append(Mention("fitted-on-test", event.line, detail, "the training images' mean and std"))
        if event.kind == "generator_fit" and isinstance(data := event.values["data"], Data) and data.split == "test":
            given = event.values["generator"].values["given"]
            if any(name.startswith("featurewise") and value not in (False, None) for name, value in given.items()):
                detail = "a generator is fitted on the test images"
                found.append(Mention("fitted-on-test", event.line, detail, "fit on the training images"))
    return found


def _labels(trainings: Sequence[Training]) -> list[Mention]:
    """Labels made one-hot twice."""
    found = []
    for training in trainings:
        labels: Any = training.labels.get("train")
        if isinstance(labels, Data) and labels.label_kind == "one_hot twice":
            found.append(Mention("one-hot-twice", labels.line, "to_categorical of labels that are one-hot already"))
    return found


def _loop_calls(interpreter: Interpreter) -> list[Mention]:
    """Calls that a PyTorch loop needs and that are nowhere."""
    kinds: dict[str, list[Event]] = {}
    for event in interpreter.events:
        kinds.setdefault(event.kind, []).append(event)
    backwards = kinds.get("backward", [])
    if not backwards:
        steps = [event for event in kinds.get("step", []) if event.values["optimizer"] is not None and event.loops]
        if steps and kinds.get("forward") and "closure" not in str(steps[0].values):
            return [Mention("missing-backward", steps[0].line, "optimizer.step() without loss.backward()")]
        return []
    first, found = backwards[0], []
    if not steps_are_meant(interpreter, first):
        return []
    if not kinds.get("step"):
        found.append(Mention("missing-step", first.line, f"loss.backward() in line {first.line}, no optimizer.step()"))
    elif not kinds.get("zero_grad"):
        found.append(Mention("missing-zero-grad", first.line, "backward() without zero_grad()"))
    else:
        found += _cleared_too_late(kinds)
    return found + _modes(kinds, first)


def _cleared_too_late(kinds: dict[str, list[Event]]) -> list[Mention]:
    """zero_grad between backward and step, in one round of one loop."""
    found = []
    for backward in kinds["backward"]:
        same = [event for kind in ("zero_grad", "step") for event in kinds[kind] if event.loops == backward.loops]
        after = sorted((event for event in same if event.line > backward.line), key=lambda event: event.line)
        before = [event for event in same if event.kind == "zero_grad" and event.line < backward.line]
        if len(after) > 1 and after[0].kind == "zero_grad" and after[1].kind == "step" and not before:
            found.append(Mention("missing-step", after[0].line, "zero_grad() stands between backward() and step()"))
    return found


def _modes(kinds: dict[str, list[Event]], backward: Event) -> list[Mention]:
    """Evaluation in training mode, and training that stays in evaluation mode."""
    modes = kinds.get("mode", [])
    judged = [
        event
        for event in kinds.get("forward", [])
        if "no_grad" in event.values["contexts"] and (not event.loops or event.loops[-1] is not backward.loops[-1:])
    ]
    off = [event for event in modes if not event.values["is_training"]]
    if judged and not off:
        detail = f"the net is measured in line {judged[0].line}, and eval() is called nowhere"
        return [Mention("missing-eval-mode", judged[0].line, detail, "model.eval()")]
    epoch_loop = backward.loops[0] if len(backward.loops) > 1 else None
    in_loop = [event for event in off if epoch_loop is not None and event.loops[:1] == (epoch_loop,)]
    on = [event for event in modes if event.values["is_training"] and event.loops[:1] == (epoch_loop,)]
    if in_loop and not on:
        detail = f"eval() in line {in_loop[0].line} is never taken back: from the second epoch on the net trains in it"
        return [Mention("left-in-eval-mode", in_loop[0].line, detail, "model.train() at the beginning of each epoch")]
    return []
