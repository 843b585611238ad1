"""From what a program was seen to do to the facts of the record: splits, net, settings, with their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.record import SplitFacts, TrainingFacts
from fovea.diagnosis.script.names import DATASETS, loss_word, plain
from fovea.diagnosis.script.values import UNKNOWN, Data, Event, Function, Ref, Tensor, Thing, number, whole

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

# longest run of one label in the order of the files, counted; these sets stand mixed
_LONGEST_RUNS = {"mnist": 5, "fashionmnist": 7, "cifar10": 6}


@dataclass
class Training:
    """One training of a program: a net with its fits, or a loop.

    Attributes:
        net: its net; output: what the loss is given; fits: events of fit, or of backward.
        loss, optimizer: its settings.
        sources: "train", "val", "test" -> the data or the feed.
        labels: likewise, where they are passed beside the images.
    """

    framework: str
    net: Thing | None
    fits: list[Event] = field(default_factory=list)
    output: Tensor | None = None
    optimizer: Thing | None = None
    loss: Any = UNKNOWN
    metrics: Any = UNKNOWN
    given: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    inference: Data | None = None
    validation_source: str | None = None
    num_fits: int | None = None
    is_continued: bool | None = None
    lines: dict[str, int] = field(default_factory=dict)
    trainable: dict[int, bool] = field(default_factory=dict)
    epochs: int | None = None
    is_one_batch: bool = False  # by train_on_batch: what is frozen changes from call to call

    @property
    def line(self) -> int:
        return self.fits[-1].line if self.fits else 0


def images_of(source: Any) -> Data | None:
    """The images of data or of a feed."""
    if isinstance(source, Thing):
        source = source.values.get("images")
    if isinstance(source, list | tuple) and source:
        source = source[0]
    return source if isinstance(source, Data) else None


def labels_of(source: Any, beside: Any) -> Data | None:
    """The labels of a feed, or those passed beside the images."""
    if isinstance(beside, Data):
        return beside
    value = source.values.get("labels") if isinstance(source, Thing) else None
    return value if isinstance(value, Data) else None


def split_facts(training: Training, name: str, rescaling: tuple[float, float]) -> SplitFacts | None:
    """What is known of one split, as it reaches the net; rescaling: of the net's own first layers."""
    source = training.sources.get(name)
    images, labels = images_of(source), labels_of(source, training.labels.get(name))
    labels = labels if labels is None or labels.part == "labels" else None
    if images is None and labels is None and not isinstance(source, Thing):
        return None
    facts = SplitFacts()
    if images is not None:
        scaled = replace(
            images, factor=images.factor * rescaling[0], offset=images.offset * rescaling[0] + rescaling[1]
        )
        facts = _image_facts(scaled)
        training.lines.setdefault(f"splits.{name}.maximum", images.scaled_line or images.line or training.line)
        training.lines.setdefault(f"splits.{name}.preprocessing", images.scaled_line or images.line or training.line)
        training.lines.setdefault(f"splits.{name}.count", images.counted_line or images.line or training.line)
    if labels is not None:
        facts = replace(facts, **_label_facts(labels))
        if labels.line is not None:
            training.lines.setdefault(f"splits.{name}.label_kind", labels.line)
        if (at := labels.scaled_line or labels.line) is not None:
            training.lines.setdefault(f"splits.{name}.label_maximum", at)
    if isinstance(source, Thing):
        is_shuffled = _truth(source, "shuffle")
        if is_shuffled is False and images is not None and images.is_mixed:
            is_shuffled = None  # the same batches each epoch, but none of one class
        facts = replace(facts, is_augmented=bool(source.values.get("augment")), is_shuffled=is_shuffled)
        training.lines.setdefault(f"splits.{name}.is_augmented", source.line)
        training.lines.setdefault(f"splits.{name}.is_shuffled", source.line)
        if name == "train":
            maker = source.values.get("generator")
            training.lines.setdefault("training.augmentation", maker.line if isinstance(maker, Thing) else source.line)
    elif name == "train":
        facts = replace(facts, is_shuffled=training.given.get("shuffle", True) is not False)
    return _compared(facts, images, images_of(training.sources.get("train")))


def _truth(source: Thing, name: str) -> bool | None:
    value = source.values.get(name)
    return value if isinstance(value, bool) else None


def _image_facts(images: Data) -> SplitFacts:
    low, high = images.range
    known = DATASETS.get(images.dataset or "")
    mean = std = None
    if known is not None and known[5] is not None and known[6] is not None and low is not None:
        mean, std = images.factor * known[5] + images.offset, abs(images.factor) * known[6]
    shape = (*images.shape, 1) if images.shape is not None and len(images.shape) == 2 else images.shape
    return SplitFacts(
        count=images.count,
        shape=shape,
        minimum=low,
        maximum=high,
        mean=mean,
        std=std,
        longest_run=_LONGEST_RUNS.get(images.dataset or ""),
        preprocessing=None if images.is_opaque else images.preprocessing,
    )


def _label_facts(labels: Data) -> dict[str, Any]:
    kind = labels.label_kind if labels.label_kind != "one_hot twice" else "one_hot"
    facts: dict[str, Any] = {"label_kind": kind, "label_width": labels.label_width}
    if labels.num_classes is not None:
        facts["num_classes"] = labels.num_classes
    elif labels.label_width is not None:
        facts["num_classes"] = labels.label_width
    if kind in ("integer", "column") and labels.num_classes is not None and not labels.is_opaque:
        facts["label_minimum"] = labels.offset
        facts["label_maximum"] = (labels.num_classes - 1) * labels.factor + labels.offset
    return facts


def _compared(facts: SplitFacts, images: Data | None, train: Data | None) -> SplitFacts:
    """Preparations of data from different places are no two that could be held against each other."""
    if images is None or train is None or images is train:
        return facts
    if images.is_opaque or train.is_opaque or images.base != train.base:
        return replace(facts, preprocessing=None)
    return facts


def optimizer_facts(training: Training) -> dict[str, Any]:
    """The optimizer's settings under the record's names."""
    optimizer = training.optimizer
    if optimizer is None:
        return {}
    values = optimizer.values
    training.lines.setdefault("training.optimizer", optimizer.line)
    call = values.get("call")
    for name, spellings in (("learning_rate", ("learning_rate", "lr")), ("weight_decay", ("weight_decay",))):
        lines = [call.line_of(word) for word in spellings if call is not None and word in call.keywords]
        training.lines.setdefault(f"training.{name}", lines[0] if lines else optimizer.line)
    decay = values.get("weight_decay")
    return {
        "optimizer": values.get("optimizer"),
        "learning_rate": values.get("learning_rate"),
        "default_learning_rate": bool(values.get("is_default_rate")),
        "momentum": values.get("momentum"),
        "weight_decay": decay if isinstance(decay, int | float) else None,
    }


def loss_facts(loss: Any) -> dict[str, Any]:
    """The loss under the record's names, from a text, a function or an object."""
    if isinstance(loss, str):
        return {"loss": loss_word(loss), "from_logits": False}
    if isinstance(loss, Ref):
        return {"loss": loss_word(loss.name), "from_logits": False}
    if isinstance(loss, Thing) and loss.kind == "loss":
        logits, smoothing = loss.values.get("from_logits"), number(loss.values.get("label_smoothing"))
        facts = {"loss": loss.values.get("loss"), "from_logits": logits if isinstance(logits, bool) else None}
        return {**facts, "label_smoothing": smoothing}
    return {}


def metric_names(metrics: Any) -> tuple[str, ...] | None:
    """Metrics as the framework reports them; None where some cannot be read."""
    items = metrics if isinstance(metrics, list | tuple) else [metrics]
    names = []
    for item in items:
        if isinstance(item, str):
            names.append(item)
        elif isinstance(item, Thing) and item.kind == "metric":
            names.append(str(item.values.get("reported")))
        elif isinstance(item, Ref | Function):
            names.append(item.name if isinstance(item, Ref) else str(getattr(item.node, "name", "")))
        else:
            return None
    return tuple(names)


def training_facts(interpreter: Interpreter, training: Training) -> TrainingFacts:
    """How this training is made."""
    given, train = training.given, training.sources.get("train")
    callbacks = _callbacks(given.get("callbacks"))
    monitors = tuple(monitor for item in callbacks or () if (monitor := item.values.get("monitor")))
    made = [thing for thing in interpreter.things if thing.kind == "callback"]
    batch = whole(given.get("batch_size"))
    if isinstance(train, Thing) and train.kind == "feed":
        batch = whole(train.values.get("batch_size"))
    elif batch is None and "batch_size" not in given and training.framework != "torch":
        batch = 32
    training.lines.setdefault("training.epochs", training.line)
    training.lines.setdefault("training.batch_size", train.line if isinstance(train, Thing) else training.line)
    return TrainingFacts(
        framework=training.framework,
        batch_size=batch,
        epochs=training.epochs,
        steps_per_epoch=whole(given.get("steps_per_epoch")),
        class_weights=given.get("class_weight") is not None if "class_weight" in given else None,
        metrics=metric_names(training.metrics) if training.metrics is not UNKNOWN else None,
        validation_source=training.validation_source,
        chosen_by=_chosen_by(training, callbacks),
        monitors=monitors if callbacks is not None else None,
        callbacks_made=tuple(item.label or item.name for item in made) if made else None,
        callbacks_passed=tuple(item.label or item.name for item in made if item.is_connected) if made else None,
        augmentation=_augmentation(train),
        num_fits=training.num_fits,
        is_continued=training.is_continued,
        frozen_on_purpose=_frozen_on_purpose(interpreter, training),
        **{**optimizer_facts(training), **loss_facts(training.loss)},
    )


def _callbacks(callbacks: Any) -> list[Thing] | None:
    """The callbacks that a fit is given; None where some cannot be read."""
    if callbacks is None:
        return []
    items = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    found = [item for item in items if isinstance(item, Thing)]
    return found if len(found) == len(items) else None


def _chosen_by(training: Training, callbacks: Sequence[Thing] | None) -> str | None:
    if callbacks is None:
        return None
    for item in callbacks:
        call, monitor = item.values.get("call"), item.values.get("monitor")
        if not monitor or call is None:
            continue
        keeps_best = item.name == "ModelCheckpoint" and call.get("save_best_only") is True
        if item.name == "EarlyStopping" or keeps_best:
            is_test = training.validation_source == "test" and monitor.startswith("val_")
            return str(monitor).replace("val_", "test_") if is_test else str(monitor)
    return "last"


def _augmentation(train: Any) -> dict[str, Any] | None:
    """Random changes under ImageDataGenerator's names."""
    given = train.values.get("augment") if isinstance(train, Thing) else None
    if not given:
        return None
    found = {name: value for name, value in given.items() if name.endswith(("_range", "_flip"))}
    if given.get("RandomHorizontalFlip"):
        found["horizontal_flip"] = True
    if given.get("RandomVerticalFlip"):
        found["vertical_flip"] = True
    degrees = given.get("RandomRotation", given.get("RandomAffine"))
    if isinstance(degrees, tuple | list) and degrees and isinstance(degrees[-1], int | float):
        degrees = degrees[-1]
    if number(degrees) is not None and not isinstance(degrees, bool):
        found["rotation_range"] = degrees
    return {name: None if value is UNKNOWN else value for name, value in found.items()} or None


def _frozen_on_purpose(interpreter: Interpreter, training: Training) -> bool | None:
    """Freezing beside trained weights is meant; None where nothing says so."""
    freezes = any(event.kind == "freeze" and event.values["is_trainable"] is False for event in interpreter.events)
    return True if freezes and training.is_continued else None


def dataset_of(training: Training) -> str | None:
    """The known data set that is trained on, in the catalog's spelling."""
    images = images_of(training.sources.get("train"))
    name = images.dataset if images is not None else None
    return {"fashionmnist": "fashion_mnist"}.get(name or "", name)


def framework_of(interpreter: Interpreter) -> str:
    """ "keras", "tf.keras" or "torch", by the imports."""
    roots = [name for name, _ in interpreter.imports]
    if any(name.split(".")[0] == "keras" for name in roots):
        return "keras"
    if any(name.startswith("tensorflow") for name in roots):
        return "tf.keras"
    return "torch" if any(name.split(".")[0] in ("torch", "pytorch_lightning") for name in roots) else "keras"


def word(value: Any) -> str | None:
    """An activation or initializer as a neutral name: "relu" of a text, a function or a layer; None: not known."""
    if value is None:
        return "linear"
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Ref):
        return plain(value.name)
    if isinstance(value, Thing):
        return str(value.values.get("layer_kind") or plain(value.name))
    return None
