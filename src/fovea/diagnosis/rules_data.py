"""Rules on the images and labels: how they are prepared, ordered, counted."""

from __future__ import annotations

import math

from fovea.diagnosis.reading import (
    BLOWN,
    STUCK,
    is_a_look,
    is_ours,
    learns_well,
    listed,
    num_classes,
    split,
    used_layers,
    usual_augmentation,
)
from fovea.diagnosis.record import Record, SplitFacts
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity

_SCALING = ("rescaling", "normalization", "batchnormalization", "layernormalization", "rescale")
_SCALE_WORDS = ("/", "*", "norm", "scale", "standard", "totensor", "mean", "std", "preprocess", "bgr", "invert", "255")
_HELD_BACK = ("val", "test")


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
    others = {name: record.splits[name] for name in _HELD_BACK if name in record.splits}
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
    names = [name for name in _HELD_BACK if split(record, name).is_augmented]
    if not names:
        return None
    return Suspicion(
        {"splits": names},
        f"The {listed(names)} images are augmented: the figure belongs to distorted images and changes at each pass.",
        "Augment training batches only; give validation and test a source of their own without augmentation.",
        line=record.line_of(f"splits.{names[0]}.is_augmented"),
        weight=0.7,
    )


def data_sorted(record: Record) -> Suspicion | None:
    """Batches of one class, or a validation part of other classes than the training part."""
    train, training = split(record, "train"), record.training
    cut_off = training.validation_source == "split" and not is_ours(record)
    if train.is_shuffled is not False and not (cut_off and train.longest_run):
        return None
    if train.longest_run is None or not train.count:
        return None
    share = max(train.class_counts) / sum(train.class_counts) if train.class_counts else 0.5
    expected = math.log(train.count) / -math.log(share) if 0 < share < 1 else math.inf
    largest = max(train.class_counts) if train.class_counts else train.count / (num_classes(record) or 2)
    if train.longest_run <= max(3 * expected + 10, 0.2 * largest):
        return None
    where = "never shuffled" if train.is_shuffled is False else "cut for validation before they are shuffled"
    return Suspicion(
        {"longest_run": train.longest_run, "count": train.count, "is_shuffled": train.is_shuffled},
        f"The images stand sorted by class (a run of {train.longest_run:,} of one class) and are {where}: the net "
        "forgets each class while it sees the next, or is measured on classes that it has not seen.",
        "Shuffle images and labels together before anything else, and each epoch (shuffle=True).",
        line=record.line_of("splits.train.is_shuffled"),
        weight=0.9,
    )


def not_shuffled(record: Record) -> Suspicion | None:
    """Shuffling is switched off, and nothing says in what order the images stand."""
    train = split(record, "train")
    if train.is_shuffled is not False or train.longest_run is not None or learns_well(record):
        return None
    return Suspicion(
        {"is_shuffled": False},
        "The training images are not shuffled: each epoch repeats the same batches, and sorted files give batches of "
        "one class.",
        "Set shuffle=True for the training images (and leave it off for validation and test).",
        line=record.line_of("splits.train.is_shuffled"),
        weight=0.5,
    )


def class_missing(record: Record) -> Suspicion | None:
    """A class has no images where there should be some."""
    classes = num_classes(record)
    for name in ("train", *_HELD_BACK):
        counts = split(record, name).class_counts
        if counts is None or classes is None or len(counts) < 2:
            continue
        empty = [place for place, count in enumerate(counts) if count == 0] + list(range(len(counts), classes))
        if not empty or (name != "train" and sum(counts) < 10 * classes):
            continue
        named = [record.classes[place] if record.classes else str(place) for place in empty]
        return Suspicion(
            {"split": name, "classes": named},
            f"{'Class' if len(named) == 1 else 'Classes'} {listed(named)} {'has' if len(named) == 1 else 'have'} no "
            f"{name} images.",
            f"Give {name} images of each class, or take the class out everywhere.",
            weight=0.8,
            severity="severe" if name == "train" else "warning",
        )
    return None


def imbalance(record: Record) -> Suspicion | None:
    """Some classes are so rare that the net does not learn them."""
    counts = [count for count in split(record, "train").class_counts or () if count]
    if len(counts) < 2 or max(counts) <= 10 * min(counts):
        return None
    recalls, accuracy = record.evaluation.class_accuracies, record.evaluation.accuracy
    ratio = max(counts) / min(counts)
    evidence: dict[str, float] = {"largest_class": max(counts), "smallest_class": min(counts)}
    severity: Severity = "note"
    seen = ""
    if recalls and accuracy is not None:
        rare, frequent = _by_frequency(split(record, "train").class_counts or (), recalls)
        if min(recalls) >= 0.5 * accuracy and (rare is None or frequent - rare < 0.1):
            return None
        severity = "severe" if min(recalls) == 0 and not is_a_look(record) else "warning"
        seen = f", and of one class only {min(recalls):.0%} are recognised"
        evidence["lowest_class_accuracy"] = min(recalls)
    elif record.training.class_weights:
        return None
    return Suspicion(
        evidence,
        f"The largest class has {ratio:.0f} times the images of the smallest{seen}.",
        "Gather more of the rare classes, weight them (class_weight), and judge by the accuracy of each class.",
        weight=0.5,
        severity=severity,
    )


def _by_frequency(counts: tuple[int, ...], recalls: tuple[float, ...]) -> tuple[float | None, float]:
    """Mean accuracy of the classes with less than a tenth of the largest one's images, and of the others."""
    pairs = list(zip(counts, recalls, strict=False))
    rare = [recall for count, recall in pairs if 10 * count < max(counts)]
    others = [recall for count, recall in pairs if 10 * count >= max(counts)]
    return (sum(rare) / len(rare) if rare else None), sum(others) / len(others)


def leakage(record: Record) -> Suspicion | None:
    """Images that are measured on were trained on."""
    names = ("shared-images", "leakage-duplicates")  # the second: as this rule has said it at the end of the run
    found = [finding for finding in record.data_findings if finding.get("id") in names]
    if not found:
        return None
    causes = " ".join(str(finding.get("cause", "")) for finding in found)
    return Suspicion(
        {name: value for finding in found for name, value in dict(finding.get("evidence") or {}).items()},
        causes,
        "Remove them from validation and test, or split anew by the content of the images.",
        weight=0.8,
        severity="severe" if any(finding.get("severity") == "severe" for finding in found) else "warning",
    )


def too_little_data(record: Record) -> Suspicion | None:
    """So few images that more of them would help more than any setting."""
    train, classes = split(record, "train"), num_classes(record)
    if train.count is None or not classes or train.count >= 50 * classes:
        return None
    if learns_well(record) or record.training.is_continued:
        return None
    return Suspicion(
        {"count": train.count, "classes": classes},
        f"{train.count:,} training images of {classes} classes are few: the net learns them by heart.",
        "Gather more images, augment them, or start from trained weights.",
        usual_augmentation(record) if is_ours(record) else None,
        weight=0.4,
        severity="warning" if train.count < 30 * classes else "note",
    )


def blank_images(record: Record) -> Suspicion | None:
    """A part of the images shows nothing."""
    train = split(record, "train")
    if not train.constant_images or not train.count or train.constant_images < max(0.01 * train.count, 3):
        return None
    return Suspicion(
        {"constant_images": train.constant_images, "count": train.count},
        f"{train.constant_images:,} of {train.count:,} training images are blank.",
        "Look at them, and at how they are read; leave them out.",
        weight=0.4,
    )


def numeric_names_sorted_as_text(record: Record) -> Suspicion | None:
    """Folders 0, 1, 10, 11, 2: index 2 is class 10."""
    names = list(record.classes or ())
    if is_ours(record) or len(names) < 11 or not all(name.isdigit() for name in names):
        return None
    if names == sorted(names, key=int) or names != sorted(names):
        return None
    return Suspicion(
        {"classes": names[:12]},
        f"The class names are numbers sorted as text ({listed(names, 5)} ...): index 2 does not mean class 2.",
        "Keep the list of class names beside the model, or name the folders with leading zeros.",
        weight=0.3,
    )


DATA_RULES = (
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
    Rule(
        "data-sorted", "images sorted by class", "severe", "data", data_sorted,
        "not shuffled, or cut for validation first, and a run of one label longer than 3 times what chance gives plus "
        "10 and a fifth of the largest class",
        "long runs of a class that most images belong to; sorted files that are shuffled", "own check",
        (*STUCK, "not-shuffled", "training-unstable", "overfitting"),
    ),
    Rule(
        "not-shuffled", "training images not shuffled", "warning", "data", not_shuffled,
        "shuffling is off and the order is not known",
        "images known to stand mixed; nets that learned", "own check",
    ),
    Rule(
        "class-missing", "a class without images", "severe", "data", class_missing,
        "a class with 0 images in training; or in validation or test of 10 images a class and more",
        "small validation or test parts", "own check", ("class-never-recognised",),
    ),
    Rule(
        "imbalance", "rare classes not learned", "warning", "data", imbalance,
        "largest class > 10 times the smallest; with accuracies by class only where the lowest is below half of all, "
        "or the rare ones 10 points below the others; severe where one is 0; a note where they are not known",
        "imbalanced sets whose classes are all learned; class weights", "SageMaker Debugger, ClassImbalance",
        ("class-never-recognised",),
    ),
    Rule(
        "leakage-duplicates", "trained on what is measured on", "severe", "data", leakage,
        "validation or test images that are training images, pixel by pixel; severe where the audit says so",
        "similar images that are not the same", "own check", ("suspicious-success",),
    ),
    Rule(
        "too-little-data", "too few images", "warning", "data", too_little_data,
        "fewer than 50 training images a class (a warning below 30) and less than 80 % of the way from chance learned",
        "small sets that are learned; trained weights to start from", "own bound",
        (*STUCK, "overfitting"),
    ),
    Rule(
        "blank-images", "blank images", "warning", "data", blank_images,
        "1 % of the training images, and 3 of them, have one value",
        "single blank images", "own bound",
    ),
    Rule(
        "class-names-sorted-as-text", "class names sorted as text", "note", "data", numeric_names_sorted_as_text,
        "11 and more names, all numbers, in the order of text", "a model that keeps its names", "own check",
    ),
)  # fmt: skip
