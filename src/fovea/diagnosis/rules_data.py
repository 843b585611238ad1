"""Rules on the images and labels: how many there are, and in what order."""

from __future__ import annotations

import math

from fovea.diagnosis.reading import (
    HELD_BACK,
    STUCK,
    is_a_look,
    is_ours,
    learns_well,
    listed,
    num_classes,
    split,
    usual_augmentation,
)
from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity


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
    for name in ("train", *HELD_BACK):
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
