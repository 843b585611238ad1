"""Rules on what reaches the net: how images are scaled, prepared and augmented, alike in all splits."""

from __future__ import annotations

import math

from fovea.diagnosis.reading import (
    BLOWN,
    HELD_BACK,
    STUCK,
    is_ours,
    learns_well,
    listed,
    split,
    used_layers,
)
from fovea.diagnosis.record import Record, SplitFacts
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity

_SCALING = ("rescaling", "normalization", "batchnormalization", "layernormalization", "rescale")
_SCALE_WORDS = ("/", "*", "norm", "scale", "standard", "totensor", "mean", "std", "preprocess", "bgr", "invert", "255")


def inputs_not_scaled(record: Record) -> Suspicion | None:
    """Raw pixels of 0 to 255, or values as large, reach the first layer that learns."""
    train = split(record, "train")
    low, high, std = train.minimum, train.maximum, train.std
    raw = high is not None and low is not None and high > 20 and low >= 0
    if not (raw or (std is not None and std > 10)) or _net_scales(record):
        return None
    known = {"train_minimum": low, "train_maximum": high, "train_std": std}
    evidence = {name: value for name, value in known.items() if value is not None}
    shown = f"from {low:g} to {high:g}" if high is not None and low is not None else f"with a spread of {std:.3g}"
    severity: Severity = "warning" if learns_well(record) else "severe"
    return Suspicion(
        evidence,
        f"The training images reach the net unscaled, {shown}: first sums and gradients are hundreds of times too "
        "large for the usual initial weights and learning rates.",
        "Divide every image by 255 (training, validation, test and those to be answered alike), or standardise.",
        {"rescale": 1 / 255} if is_ours(record) else None,
        record.line_of("splits.train.maximum"),
        0.95,
        severity,
    )


def _net_scales(record: Record) -> bool:
    """Whether the net itself brings its inputs to scale before the first weights."""
    for layer in used_layers(record):
        if layer.kind in _SCALING:
            return True
        if layer.parameters or layer.kind in ("conv2d", "dense", "linear"):
            return False
    return False


def inputs_scaled_twice(record: Record) -> Suspicion | None:
    """Values so small that they were divided by 255 more than once."""
    train = split(record, "train")
    high, low = train.maximum, train.minimum
    if high is None or low is None or low < 0 or not 0 < high < 0.02 or _net_scales(record):
        return None
    return Suspicion(
        {"train_maximum": high},
        f"The training images reach at most {high:.4g}: they were scaled down twice, and the net sees almost nothing.",
        "Scale once: divide 0..255 by 255, or let a generator or layer rescale, not both.",
        line=record.line_of("splits.train.maximum"),
        weight=0.9,
    )


def inputs_constant(record: Record) -> Suspicion | None:
    """All inputs are the same."""
    train = split(record, "train")
    blank = train.std == 0 or train.num_values == 1 or (train.minimum is not None and train.minimum == train.maximum)
    cut = (
        train.num_values is not None
        and train.num_values <= 2
        and (train.dtype or "").lstrip("u").startswith("int")
        and any("/" in word for word in train.preprocessing or ())
    )
    if not blank and not cut:
        return None
    seen = "All pixels of the training images have the same value" if blank else "Whole-number division left 0 and 1"
    return Suspicion(
        {"train_std": train.std, "num_values": train.num_values},
        f"{seen}: there is nothing to learn from.",
        "Convert to float32 before dividing, and look at a few images right before they enter the net.",
        line=record.line_of("splits.train.maximum"),
        weight=1.0,
    )


def preparation_differs(record: Record) -> Suspicion | None:
    """Validation, test or inference images are prepared in another way than those of training."""
    train = split(record, "train")
    others = {name: record.splits[name] for name in HELD_BACK if name in record.splits}
    if record.inference is not None:
        others["inference"] = record.inference
    found = {name: seen for name, facts in others.items() if (seen := _difference(train, facts)) is not None}
    if not found:
        return None
    names = list(found)
    line = next((at for name in names if (at := _line_of_split(record, name)) is not None), None)
    said = "; ".join(f"{name}: {seen}" for name, seen in found.items())
    return Suspicion(
        {"splits": names, "differences": found},
        f"The {listed(names)} images are not prepared as the training images are ({said}): what is measured on them "
        "says nothing about the net.",
        "Prepare all of them by one function, fitted on the training images, and apply it everywhere.",
        line=line,
        weight=0.95,
    )


def _line_of_split(record: Record, name: str) -> int | None:
    for fact in ("preprocessing", "maximum"):
        prefix = name if name == "inference" else f"splits.{name}"
        if (line := record.line_of(f"{prefix}.{fact}")) is not None:
            return line
    return None


def _difference(train: SplitFacts, other: SplitFacts) -> str | None:
    """How two splits differ in their preparation, in words; None: not, or not known."""
    extremes = (train.minimum, train.maximum, other.minimum, other.maximum)
    if None not in extremes and train.maximum and other.maximum:
        ratio = other.maximum / train.maximum
        if ratio > 20 or (0 < ratio < 1 / 20):
            return f"values up to {other.maximum:g}, training up to {train.maximum:g}"
    if None not in (train.mean, other.mean, train.std, other.std) and min(train.count or 30, other.count or 30) >= 30:
        own, theirs = (train.mean or 0.0, train.std or 0.0), (other.mean or 0.0, other.std or 0.0)
        if own[1] > 0 and (abs(theirs[0] - own[0]) > own[1] or not 0.5 < theirs[1] / own[1] < 2):
            return f"mean {theirs[0]:.3g} and spread {theirs[1]:.3g}, training {own[0]:.3g} and {own[1]:.3g}"
        return _swapped(train, other)
    if train.preprocessing is None or other.preprocessing is None:
        return None
    words_of_train, words_of_other = (
        [word for word in words if any(part in word.lower() for part in _SCALE_WORDS) and "random" not in word.lower()]
        for words in (train.preprocessing, other.preprocessing)
    )
    same_range = None not in extremes and _near(train.maximum, other.maximum) and _near(train.minimum, other.minimum)
    if words_of_train == words_of_other or same_range:
        return None
    return (
        f"{' then '.join(words_of_other) or 'as they are'}, training {' then '.join(words_of_train) or 'as they are'}"
    )


def _near(one: float | None, two: float | None) -> bool:
    return one is not None and two is not None and math.isclose(one, two, rel_tol=0.05, abs_tol=1e-3)


def _swapped(train: SplitFacts, other: SplitFacts) -> str | None:
    ours, theirs = train.channel_means, other.channel_means
    if ours is None or theirs is None or train.std is None or len(ours) != 3 or len(theirs) != 3:
        return None
    direct = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    turned = sum(abs(a - b) for a, b in zip(ours, reversed(theirs), strict=True))
    return "red and blue change places" if direct > 0.15 * train.std and turned < direct / 4 else None


def validation_augmented(record: Record) -> Suspicion | None:
    """Images that are measured on are changed at random."""
    names = [name for name in HELD_BACK if split(record, name).is_augmented]
    if not names:
        return None
    return Suspicion(
        {"splits": names},
        f"The {listed(names)} images are augmented: the figure belongs to distorted images and changes at each pass.",
        "Augment training batches only; give validation and test a source of their own without augmentation.",
        line=record.line_of(f"splits.{names[0]}.is_augmented"),
        weight=0.7,
    )


INPUT_RULES = (
    Rule(
        "inputs-not-scaled", "inputs not scaled", "severe", "data", inputs_not_scaled,
        "training values: least >= 0 and greatest > 20, or spread > 10; a warning where the net learned all the same",
        "standardised inputs (-3 to 3), a first layer that scales or normalises",
        "own bound (UMLAUT's -1 to 1 flags standardised inputs)",
        (*STUCK, *BLOWN, "vanishing-gradient", "no-gradient"),
    ),
    Rule(
        "inputs-scaled-twice", "inputs scaled twice", "severe", "data", inputs_scaled_twice,
        "training values: least >= 0 and greatest < 0.02",
        "a first layer that scales or normalises", "own bound", (*STUCK, "vanishing-gradient"),
    ),
    Rule(
        "inputs-constant", "inputs all alike", "severe", "data", inputs_constant,
        "one value in all training images; or two in whole numbers that were divided",
        "binary images", "own bound", (*STUCK, "vanishing-gradient", "no-gradient", "blank-images"),
    ),
    Rule(
        "preparation-differs", "training and evaluation prepared differently", "severe", "data", preparation_differs,
        "greatest values differ 20 times; or (from 30 images on) means by a spread, spreads by a factor of 2, red and "
        "blue change places; or a program scales them differently",
        "other sizes of crop, augmentation in training alone, another spelling of the same range",
        "own check; a question on CIFAR-10 (docs/programs.md, P2)",
        ("saturated-softmax", "overfitting", "validation-test-gap", "test-at-chance", "validation-above-train"),
    ),
    Rule(
        "validation-augmented", "augmentation on validation or test", "warning", "data", validation_augmented,
        "validation or test images are changed at random",
        "averaged views of the final answers (test-time augmentation)", "own check",
        ("validation-test-gap",),
    ),
)  # fmt: skip
