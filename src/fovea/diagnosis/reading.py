"""What several rules ask of a record: how far it learned, what chance would give, whether a difference is noise."""

from __future__ import annotations

import math
from typing import Any

from fovea.diagnosis.record import LayerFacts, Mention, Record, SplitFacts

HELD_BACK = ("val", "test")  # splits that are measured on
# Findings that follow where a net cannot learn, whatever the reason.
STUCK = (
    "not-learning",
    "constant-predictor",
    "no-better-than-constant",
    "input-ignored",
    "underfitting",
    "class-never-recognised",
    "too-few-epochs",
    "too-few-updates",
)
# Findings that follow where sums, losses or steps are too large.
BLOWN = (
    "loss-not-finite",
    "exploding-gradient",
    "saturated-softmax",
    "dying-relu",
    "initial-loss-too-high",
    "training-unstable",
)
CROSS_ENTROPIES = ("categoricalcrossentropy", "sparsecategoricalcrossentropy", "crossentropy")
WEIGHTED = ("conv1d", "conv2d", "conv3d", "convolution2d", "dense", "linear", "separableconv2d")
_GOOD = 0.8


def is_ours(record: Record) -> bool:
    """Whether cures can name Fovea's settings: a run or data of ours."""
    return record.origin in ("run", "data")


def is_a_look(record: Record) -> bool:
    """Whether its curves are those of a short training of our own, whose length and fit say nothing."""
    return record.origin == "data"


def num_classes(record: Record) -> int | None:
    """From names or labels, else the widest one-hot; None: not known."""
    if record.num_classes is not None:
        return record.num_classes
    train = record.splits.get("train")
    return None if train is None or train.label_kind != "one_hot" else train.label_width


def chance(record: Record) -> float | None:
    """The share that always answering the most frequent class gets right; None: not known."""
    if record.evaluation.majority_share is not None:
        return record.evaluation.majority_share
    for facts in record.splits.values():
        if facts.class_counts and sum(facts.class_counts):
            return max(facts.class_counts) / sum(facts.class_counts)
    classes = num_classes(record) or record.net.output_units
    return 1 / classes if classes is not None and classes > 1 else None


def split(record: Record, name: str) -> SplitFacts:
    """The facts of a split; empty ones where nothing is known of it."""
    return record.splits.get(name, SplitFacts())


def accuracies(record: Record) -> tuple[float, ...]:
    """The curve that tells best how well images were told apart: validation, else training."""
    curves = record.curves
    return curves.val_accuracy or curves.train_accuracy or curves.running_accuracy


def train_accuracies(record: Record) -> tuple[float, ...]:
    """Training accuracy by epoch, measured like validation where that is known."""
    return record.curves.train_accuracy or record.curves.running_accuracy


def best_accuracy(record: Record) -> float | None:
    """The best accuracy that is known of this training; None: no curve, no evaluation."""
    known = [value for value in accuracies(record) if math.isfinite(value)]
    if record.evaluation.accuracy is not None:
        known.append(record.evaluation.accuracy)
    return max(known, default=None)


def learned(record: Record) -> float | None:
    """How much of the way from chance (0) to all right (1) the best accuracy went; None: not known."""
    best, floor = best_accuracy(record), chance(record)
    return None if best is None or floor is None or floor >= 1 else (best - floor) / (1 - floor)


def learns_well(record: Record) -> bool:
    """Whether the figures alone say that the net has learned: then settings out of the ordinary are no fault."""
    share = learned(record)
    return share is not None and share >= _GOOD


def still_rises(record: Record) -> bool:
    """Whether the last two epochs still gained 2 points on training images."""
    values = train_accuracies(record)
    return len(values) >= 2 and values[-1] - values[-min(3, len(values))] > 0.02


def standard_error(value: float, count: int | None) -> float:
    """Of an accuracy of `count` images; of an unknown count that of 100."""
    return math.sqrt(max(value * (1 - value), 1e-4) / (count or 100))


def is_at_chance(accuracy: float, floor: float, count: int | None) -> bool:
    """Whether an accuracy cannot be told from that of a constant answer."""
    return accuracy <= floor + 2.5 * standard_error(floor, count) + 0.005


def updates(record: Record) -> int | None:
    """Steps of the optimizer in all; None: not known."""
    training = record.training
    if record.curves.steps is not None:
        return record.curves.steps
    each = steps_per_epoch(record)
    return None if each is None or training.epochs is None else each * training.epochs


def steps_per_epoch(record: Record) -> int | None:
    """Steps of the optimizer in one epoch; None: not known."""
    training, count = record.training, split(record, "train").count
    if training.steps_per_epoch is not None:
        return training.steps_per_epoch
    return None if count is None or not training.batch_size else math.ceil(count / training.batch_size)


def has_layer(record: Record, *kinds: str) -> bool:
    """Whether the net has a layer of one of these kinds that is used."""
    return any(layer.kind in kinds and layer.is_connected is not False for layer in record.net.layers)


def used_layers(record: Record) -> tuple[LayerFacts, ...]:
    """The layers of the forward pass."""
    return tuple(layer for layer in record.net.layers if layer.is_connected is not False)


def starts_from_trained_weights(record: Record) -> bool:
    """Whether training went on from weights that were trained before, on purpose."""
    return record.training.is_continued is True


def is_finite(values: tuple[float, ...]) -> bool:
    """Whether all values of a curve are finite."""
    return all(math.isfinite(value) for value in values)


def listed(names: list[str], most: int = 4) -> str:
    """Names in a sentence, at most so many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def mentioned(record: Record, prefix: str) -> list[Mention]:
    """What the program says whose word begins so."""
    return [mention for mention in record.mentions if mention.what.startswith(prefix)]


def update_ratio(record: Record) -> float | None:
    """Size of a step over the size of the weights, the median of layers: late in training, else at its beginning."""
    late = [signals.update_ratio for signals in record.batch.last if signals.update_ratio]
    known = late or [signals.update_ratio for signals in record.batch.first if signals.update_ratio]
    return sorted(known)[len(known) // 2] if known else None


def usual_augmentation(record: Record) -> dict[str, Any]:
    """Settings of a mild augmentation: with flips for colour, with small turns for grey images."""
    names = {"width_shift_range": 0.1, "height_shift_range": 0.1}
    shape = split(record, "train").shape
    if shape is not None and shape[-1] == 3:
        return {**names, "horizontal_flip": True}
    return {**names, "rotation_range": 10.0, "zoom_range": 0.1}


def reached(record: Record) -> str:
    """The best accuracy beside chance, in words that end a sentence's first part; empty where it is not known."""
    best, floor = best_accuracy(record), chance(record)
    return "" if best is None or floor is None else f" (best accuracy {best:.1%}; a constant answer gives {floor:.1%})"
