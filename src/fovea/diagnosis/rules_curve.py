"""Rules on learning curves: stuck, unstable, too short, overfitted, or too good."""

from __future__ import annotations

import itertools
import math
from typing import Any

from fovea.diagnosis.reading import (
    STUCK,
    accuracies,
    chance,
    has_layer,
    is_a_look,
    is_at_chance,
    is_finite,
    is_ours,
    learned,
    split,
    standard_error,
    starts_from_trained_weights,
    train_accuracies,
    updates,
    usual_augmentation,
)
from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion

_SATURATED = 14.0  # of the 16.12 = -ln(1e-7) that each wrong answer of a saturated softmax costs


def loss_not_finite(record: Record) -> Suspicion | None:
    """NaN or infinity in a loss or a layer."""
    curves = record.curves
    for name in ("running_loss", "train_loss", "val_loss"):
        values = getattr(curves, name)
        if not is_finite(values):
            epoch = next(place for place, value in enumerate(values, 1) if not math.isfinite(value))
            return _not_finite({"curve": name, "epoch": epoch}, f"The {name} is not a number from epoch {epoch} on")
    layers = [found.name for found in (*record.batch.first, *record.batch.last) if found.is_finite is False]
    return _not_finite({"layer": layers[0]}, f"{layers[0]} gives NaN or infinity") if layers else None


def _not_finite(evidence: dict[str, Any], said: str) -> Suspicion:
    return Suspicion(
        evidence,
        f"{said}: what was learned is lost.",
        "Lower the learning rate tenfold, scale the inputs, look for NaN in the data and for log or division by 0.",
        weight=0.9,
    )


def saturated_softmax(record: Record) -> Suspicion | None:
    """Wrong answers are given with full certainty: val_loss / (1 - val_accuracy) near 16."""
    curves = record.curves
    pairs = list(zip(curves.val_loss, curves.val_accuracy, strict=False))
    ratios = [loss / (1 - right) for loss, right in pairs if math.isfinite(loss) and 0.02 < right < 0.97]
    high = [ratio for ratio in ratios if ratio >= _SATURATED]
    if len(high) < 2 or len(high) < 0.8 * len(ratios) or record.training.loss_reduction == "sum":
        return None
    losses, rights = curves.train_loss or curves.running_loss, train_accuracies(record)
    own = [loss / (1 - right) for loss, right in zip(losses, rights, strict=False) if right < 0.999]
    train_is_fine = bool(own) and own[-1] < _SATURATED / 2
    evidence = {"val_loss_per_error": high[-1], "train_loss_per_error": own[-1] if own else None}
    said = f"Each wrong validation answer costs {high[-1]:.1f} (-ln 1e-7 is 16.1): nearly all are given as certain"
    if train_is_fine:
        cause = f"{said}, while training images cost {own[-1]:.2g}. The two are most likely prepared differently."
        cure = "Divide validation and test images by 255 as the training images are; compare their least and greatest."
    else:
        cause = f"{said}, right or wrong. The inputs are most likely unscaled, or the steps too large."
        cure = "Divide all images by 255; then lower the learning rate."
    return Suspicion(evidence, cause, cure, weight=0.95 if train_is_fine else 0.8)


def not_learning(record: Record) -> Suspicion | None:
    """Accuracy never left chance."""
    floor, values = chance(record), accuracies(record)
    if floor is None or len(values) < 2 or (updates(record) or 100) < 60:
        return None
    count = split(record, "val" if record.curves.val_accuracy else "train").count
    known = [value for curve in (values, train_accuracies(record)) for value in curve if math.isfinite(value)]
    if not known or not is_at_chance(max(known), floor, count):
        return None
    rate = record.training.learning_rate
    return Suspicion(
        {"best_accuracy": max(known), "chance": floor, "epochs": len(values)},
        f"After {len(values)} epochs the accuracy is {max(known):.1%}, what a constant answer gives ({floor:.1%}): "
        "nothing is learned.",
        "Overfit 16 images first; check scale of inputs, labels and last layer; then a learning rate ten times lower.",
        {"lr": rate / 10} if is_ours(record) and rate else None,
        weight=0.7,
    )


def training_unstable(record: Record) -> Suspicion | None:
    """The training itself, not the noise of validation, falls back again and again."""
    values = [value for value in train_accuracies(record) if math.isfinite(value)]
    losses = record.curves.train_loss or record.curves.running_loss
    if len(values) < 3:
        return None
    count = split(record, "train").count
    falls = sum(
        before - after > max(0.1, 4 * standard_error(before, count)) for before, after in itertools.pairwise(values)
    )
    lost = max(values) - values[-1] > max(0.1, 4 * standard_error(max(values), count))
    grown = len(losses) >= 3 and math.isfinite(losses[-1]) and losses[-1] > 2 * min(losses)
    if falls < max(2, 0.2 * (len(values) - 1)) and not (lost and (grown or not losses)):
        return None
    rate = record.training.learning_rate
    return Suspicion(
        {"falls": falls, "best_train_accuracy": max(values), "last_train_accuracy": values[-1]},
        f"Training accuracy falls back by 10 points or more ({falls} times; best {max(values):.1%}, last "
        f"{values[-1]:.1%}): the steps are too large.",
        f"Lower the learning rate, to {rate / 10:g} for a start." if rate else "Lower the learning rate tenfold.",
        {"lr": rate / 10} if is_ours(record) and rate else None,
        weight=0.7,
    )


def too_few_epochs(record: Record) -> Suspicion | None:
    """The curves end while they still rise."""
    values = accuracies(record)
    trained = train_accuracies(record)
    if is_a_look(record) or len(trained) < 2 or len(values) < 2 or starts_from_trained_weights(record):
        return None
    count = split(record, "val" if record.curves.val_accuracy else "train").count
    back = min(3, len(trained), len(values))  # two epochs are told by the one step between them
    gain, own_gain = values[-1] - values[-back], trained[-1] - trained[-back]
    noise = 2 * math.sqrt(2) * standard_error(values[-1], count)
    rises = own_gain > 0.02 and all(before < after for before, after in itertools.pairwise(trained[-back:]))
    validates = bool(record.curves.val_accuracy)
    if not rises or gain <= (0.01 if validates and back == 3 else 0.02):
        return None
    share = learned(record) or 0
    if not (gain > max(0.02, noise) or own_gain > 0.04) or share >= (0.85 if _is_annealed(record) else 0.97):
        return None
    epochs = len(values)
    return Suspicion(
        {"epochs": epochs, "gain_over_epochs": back - 1, "gain": gain, "train_gain": own_gain},
        f"Training ended after {epochs} epochs while it still improved: {own_gain * 100:.1f} points on training "
        f"images in the last {'two epochs' if back == 3 else 'epoch'}"
        f"{f', {gain * 100:.1f} on validation' if validates else ''}.",
        f"Train {2 * epochs} to {4 * epochs} epochs, with early stopping on val_loss.",
        {"epochs": 3 * epochs} if is_ours(record) else None,
        record.line_of("training.epochs"),
        0.5,
    )


def _is_annealed(record: Record) -> bool:
    """Whether the rate fell to a tenth: then the last epochs gain because it fell, however many came before."""
    rates = record.curves.learning_rate
    return bool(rates) and rates[-1] <= 0.1 * max(rates)


def underfitting(record: Record) -> Suspicion | None:
    """Training images themselves are not learned, and no more is gained."""
    values, floor = train_accuracies(record), chance(record)
    if is_a_look(record) or len(values) < 4 or floor is None or not is_finite(values):
        return None
    if is_at_chance(max(values), floor, split(record, "train").count):
        return None
    share = (max(values) - floor) / (1 - floor)
    held = record.curves.val_accuracy
    if share > 0.6 or values[-1] - values[-3] > 0.02 or (held and values[-1] - held[-1] > 0.05):
        return None
    return Suspicion(
        {"train_accuracy": values[-1], "chance": floor},
        f"Even of the training images only {values[-1]:.1%} are answered right, and it no longer improves.",
        "Use a larger net, less dropout, weight decay and augmentation, or another learning rate.",
        weight=0.4,
    )


def overfitting(record: Record) -> Suspicion | None:
    """Validation gets worse while training gets better."""
    curves, trained = record.curves, train_accuracies(record)
    held = curves.val_accuracy
    if is_a_look(record) or not held or not trained or not is_finite(held) or not is_finite(trained):
        return None
    gap, noise = trained[-1] - held[-1], 2 * standard_error(held[-1], split(record, "val").count)
    onset, rises = None, False
    if len(curves.val_loss) >= 4 and is_finite(curves.val_loss):
        least = min(range(len(curves.val_loss)), key=curves.val_loss.__getitem__)
        last = min(curves.val_loss[-3:])
        rises = len(curves.val_loss) - 1 - least >= 3 and last > 1.05 * curves.val_loss[least]
        onset = least + 1 if rises else None
    falls = max(held) - held[-1] > max(noise, 0.01)
    if not (rises and (falls or gap > 0.1)) and not (gap > 0.15 and len(held) >= 3):
        return None
    if gap <= max(noise, 0.03):
        return None
    since = f" since epoch {onset}, where val_loss was least" if onset else ""
    return Suspicion(
        {"onset_epoch": onset, "train_accuracy": trained[-1], "val_accuracy": held[-1], "gap": gap},
        f"Overfitting{since}: {trained[-1]:.1%} of the training images are right and {held[-1]:.1%} of the validation "
        "images.",
        "Augment, add dropout or weight decay, stop early (patience 3), or gather more images.",
        usual_augmentation(record) if is_ours(record) else None,
        weight=0.5,
    )


def validation_above_train(record: Record) -> Suspicion | None:
    """Validation is easier than training although both are measured alike."""
    curves, net = record.curves, record.net
    held, own = curves.val_accuracy, curves.train_accuracy
    if not own and net.is_complete and not has_layer(record, "dropout", "spatialdropout2d", "dropout2d"):
        augmented = split(record, "train").is_augmented is not False or record.training.augmentation
        own = () if augmented or len(held) < 3 else curves.running_accuracy
    if not held or not own or not is_finite(held) or not is_finite(own):
        return None
    gap, floor = held[-1] - own[-1], chance(record)
    if floor is not None and own[-1] < floor + 0.3 * (1 - floor):
        return None  # hardly anything is learned yet
    if gap <= max(0.05, 3 * standard_error(own[-1], split(record, "val").count)):
        return None
    return Suspicion(
        {"train_accuracy": own[-1], "val_accuracy": held[-1]},
        f"Validation ({held[-1]:.1%}) is {gap * 100:.1f} points above training ({own[-1]:.1%}), measured alike: the "
        "validation images are easier, repeat training images, or the training labels are wrong in part.",
        "Look for duplicates between the two and at the labels of some training images.",
        weight=0.4,
    )


def suspicious_success(record: Record) -> Suspicion | None:
    """Everything is right after one epoch."""
    values, count = accuracies(record), split(record, "val").count
    steps = updates(record)
    if not values or (num := split(record, "train").count) is None or num < 1000 or starts_from_trained_weights(record):
        return None
    per_epoch = None if steps is None else steps / len(values)
    if values[0] < 0.9995 or (count or 1000) < 500 or (per_epoch is not None and per_epoch > 500):
        return None
    return Suspicion(
        {"first_epoch_accuracy": values[0]},
        f"{values[0]:.2%} right after the first epoch: look for a leak before believing it.",
        "Check that no image stands in two splits and that nothing in the image tells its label.",
        weight=0.3,
    )


CURVE_RULES = (
    Rule(
        "loss-not-finite", "NaN or infinity", "severe", "curve", loss_not_finite,
        "a loss or a layer's values not finite", "-", "all tools", (*STUCK, "training-unstable", "exploding-gradient"),
    ),
    Rule(
        "saturated-softmax", "certain and wrong", "severe", "curve", saturated_softmax,
        "val_loss / (1 - val_accuracy) >= 14 in 2 epochs and in 80 % of those with accuracies of .02 to .97; 16.1 is "
        "-ln 1e-7, where Keras clips",
        "long trainings whose few errors cost 3 to 8; summed losses", "a question on CIFAR-10 (docs/programs.md, P2)",
        ("overfitting", "validation-test-gap", "training-unstable", "too-few-epochs"),
    ),
    Rule(
        "not-learning", "nothing is learned", "severe", "curve", not_learning,
        "2 epochs and 60 steps, best accuracy within 2.5 standard errors + .5 points of the most frequent class",
        "imbalanced sets (chance is the largest class's share)", "Wilson (1927)", STUCK[1:],
    ),
    Rule(
        "training-unstable", "training falls back", "warning", "curve", training_unstable,
        "training accuracy falls by 10 points (and 4 standard errors) twice and in 20 % of the epochs; or ends 10 "
        "points below its best with twice the least loss",
        "noise of validation accuracy", "AutoTrainer's oscillation, on training accuracy only",
    ),
    Rule(
        "too-few-epochs", "stopped while it improved", "warning", "curve", too_few_epochs,
        "training accuracy rose in both of the last 2 epochs, by 2 points, and validation by 1; one of them by 2 "
        "(beyond noise) or training by 4; after 2 epochs in all, both by 2 in the second",
        "4-epoch trainings that converged; more than 97 % of the way learned, 85 % where the rate fell to a tenth",
        "own bound on the last epochs' gain",
    ),
    Rule(
        "underfitting", "training images not learned", "warning", "curve", underfitting,
        "4 epochs; less than 60 % of the way from chance on training images, gaining at most 2 points in 2 epochs, "
        "validation not more than 5 points below",
        "hard data; curves that still rise", "own bound",
    ),
    Rule(
        "overfitting", "overfitting", "warning", "curve", overfitting,
        "val_loss above 1.05 times its least for the last 3 epochs, with val_accuracy fallen by a point beyond noise "
        "or 10 points below training; or 15 points below without",
        "rising val_loss with steady accuracy; gaps of 1 to 3 points", "SageMaker Debugger, Overfit, tightened",
    ),
    Rule(
        "validation-above-train", "validation above training", "warning", "curve", validation_above_train,
        "by 5 points and 3 standard errors, both measured without dropout and augmentation",
        "running training figures beside dropout or augmentation", "UMLAUT's rule, with both measured alike",
    ),
    Rule(
        "suspicious-success", "too good too soon", "note", "curve", suspicious_success,
        "99.95 % after the first epoch of at most 500 steps, of 500 validation images and more",
        "trained weights; small sets", "own bound",
    ),
)  # fmt: skip
