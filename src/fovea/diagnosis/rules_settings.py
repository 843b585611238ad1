"""Rules on the settings of training: learning rate, batch, length, what chooses, what goes on."""

from __future__ import annotations

from typing import Any

from fovea.diagnosis.reading import (
    BLOWN,
    STUCK,
    chance,
    has_layer,
    is_a_look,
    is_ours,
    learned,
    learns_well,
    listed,
    mentioned,
    num_classes,
    reached,
    split,
    starts_from_trained_weights,
    steps_per_epoch,
    still_rises,
    update_ratio,
    updates,
)
from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity

# optimizer -> (too low and surely so: at most, too low: at most, too high: from, surely: from, a usual value).
_RATES = {
    "adam": (1e-6, 1e-5, 0.01, 0.05, 0.001),
    "adamw": (1e-6, 1e-5, 0.01, 0.05, 0.001),
    "nadam": (1e-6, 1e-5, 0.01, 0.05, 0.001),
    "adamax": (1e-6, 1e-5, 0.02, 0.1, 0.002),
    "rmsprop": (1e-6, 1e-5, 0.01, 0.05, 0.001),
    "adagrad": (1e-4, 1e-3, 0.5, 2.0, 0.01),
    "adadelta": (0.01, 0.05, 10.0, 50.0, 1.0),
    "sgd": (1e-5, 1e-4, 0.5, 2.0, 0.1),
    "sgd with momentum": (1e-6, 1e-5, 0.25, 0.6, 0.05),
    "lion": (1e-7, 1e-6, 0.003, 0.01, 1e-4),
    "muon": (1e-5, 1e-4, 0.5, 2.0, 0.05),
}
_NEARLY_ALL = 0.95  # of the way from chance: where a setting far from the usual one is no fault
_SHORT_WAY = 0.5  # of all steps together, as a share of the weights' size: from random weights a net has to go further
_FEW_STEPS = 60  # an epoch
_KERAS_DEFAULTS = {"adadelta": 0.001, "adagrad": 0.001}


def _rate(record: Record) -> tuple[str, float] | None:
    """The optimizer as _RATES knows it, and its learning rate."""
    training = record.training
    name, rate = training.optimizer, training.learning_rate
    if name is None:
        return None
    if rate is None and training.default_learning_rate and "keras" in (training.framework or ""):
        rate = _KERAS_DEFAULTS.get(name)
    if name == "sgd" and (training.momentum or 0) >= 0.5:
        name = "sgd with momentum"
    return None if rate is None or name not in _RATES else (name, rate)


def learning_rate_too_high(record: Record) -> Suspicion | None:
    """Steps too large for this optimizer."""
    found = _rate(record)
    if found is None or learns_well(record) or record.training.loss_reduction == "sum":
        return None
    name, rate = found
    _, _, high, surely, usual = _RATES[name]
    ratio = update_ratio(record)
    large_steps = ratio is not None and ratio > 0.1
    if (rate < high or (ratio is not None and learned(record) is None)) and not (large_steps and rate > usual):
        return None  # of a training that was seen, and whose accuracy is not known, the steps tell
    evidence: dict[str, Any] = {"optimizer": name, "lr": rate, "usual_lr": usual}
    if ratio is not None:
        evidence["update_ratio"] = ratio
    fails = (learned(record) or 1.0) < 0.5
    severity: Severity = "severe" if rate >= surely or large_steps or fails else "warning"
    return Suspicion(
        evidence,
        f"A learning rate of {rate:g} is high for {name}: steps jump over what they look for, and weights "
        f"blow up{reached(record)}.",
        f"Try lr {usual:g}.",
        {"lr": usual} if is_ours(record) else None,
        record.line_of("training.learning_rate"),
        0.9 if severity == "severe" else 0.4,
        severity,
    )


def learning_rate_too_low(record: Record) -> Suspicion | None:
    """Steps so small that the net hardly moves."""
    found = _rate(record)
    if found is None or learns_well(record) or starts_from_trained_weights(record):
        return None
    name, rate = found
    surely, low, _, _, usual = _RATES[name]
    ratio = update_ratio(record)
    small_steps = False
    if ratio is not None and not _rate_decayed(record):
        way = ratio * (updates(record) or 0)
        small_steps = ratio < 1e-4 or (rate <= usual / 5 and way < _SHORT_WAY)
    if (rate > low or (ratio is not None and learned(record) is None)) and not (small_steps and rate < usual):
        return None
    evidence: dict[str, Any] = {"optimizer": name, "lr": rate, "usual_lr": usual}
    if ratio is not None:
        evidence["update_ratio"] = ratio
    unsaid = record.training.learning_rate is None
    fails = (learned(record) or 1.0) < 0.5
    severity: Severity = "severe" if rate <= surely or fails else "warning"
    what = f"{name}'s default learning rate in today's Keras, {rate:g}," if unsaid else f"A learning rate of {rate:g}"
    return Suspicion(
        evidence,
        f"{what} is low for {name}: the net hardly moves from its first weights{reached(record)}.",
        f"Try lr {usual:g}.",
        {"lr": usual} if is_ours(record) else None,
        record.line_of("training.learning_rate") or record.line_of("training.optimizer"),
        0.85 if severity == "severe" else 0.5,
        severity,
    )


def _rate_decayed(record: Record) -> bool:
    rates = record.curves.learning_rate
    return len(rates) > 1 and rates[-1] < 0.1 * max(rates)


def batch_too_large(record: Record) -> Suspicion | None:
    """So few steps that training cannot get anywhere."""
    size, each, total = record.training.batch_size, steps_per_epoch(record), updates(record)
    if size is None or each is None or total is None or is_a_look(record):
        return None
    share = learned(record)
    if size < 256 or each > _FEW_STEPS or total >= 500 or (share is not None and share >= _NEARLY_ALL):
        return None
    if learns_well(record) and not still_rises(record):
        return None
    if (split(record, "train").count or 0) > _FEW_STEPS * size:
        return None  # steps_per_epoch cuts the epochs short, not the batch
    return Suspicion(
        {"batch_size": size, "steps_per_epoch": each, "steps": total},
        f"Batches of {size:,} leave {each} steps an epoch, {total} in all: too few for the net to "
        f"learn{reached(record)}.",
        "Use batches of 32 to 128; or raise the learning rate and the epochs with the batch.",
        {"batch_size": 64} if is_ours(record) else None,
        record.line_of("training.batch_size"),
        0.6,
        "severe" if share is not None and share < 0.5 and total < 100 else "warning",
    )


def batch_too_small(record: Record) -> Suspicion | None:
    """Batches whose statistics, or gradients, are mostly noise."""
    size = record.training.batch_size
    normalised = has_layer(record, "batchnormalization", "batchnorm2d")
    if size is None or learns_well(record) or not (size <= 2 or (size < 8 and normalised)):
        return None
    if (split(record, "train").count or 1000) < 100:
        return None
    why = "batch normalization takes its mean and spread from so few images" if normalised else "each step is noise"
    return Suspicion(
        {"batch_size": size, "batch_normalization": normalised},
        f"Batches of {size}: {why}.",
        "Use batches of 32 to 128.",
        {"batch_size": 64} if is_ours(record) else None,
        record.line_of("training.batch_size"),
        0.5,
    )


def too_few_updates(record: Record) -> Suspicion | None:
    """A training that ends after a handful of steps."""
    total, share = updates(record), learned(record)
    if (
        is_a_look(record)
        or total is None
        or total >= 200
        or starts_from_trained_weights(record)
        or (share is not None and share >= (0.9 if record.training.epochs == 1 else 0.7))
    ):
        return None
    return Suspicion(
        {"steps": total, "epochs": record.training.epochs},
        f"Training ends after {total} steps: the net has hardly begun{reached(record)}.",
        "Train more epochs, or smaller batches: some thousand steps for a net from fresh weights.",
        _longer(record),
        record.line_of("training.epochs"),
        0.3,
        "warning",
    )


def _longer(record: Record) -> dict[str, Any] | None:
    epochs = record.training.epochs
    return {"epochs": min(4 * epochs, 100)} if is_ours(record) and epochs else None


def weight_decay_too_high(record: Record) -> Suspicion | None:
    """A pull to zero that is stronger than what the images teach."""
    training = record.training
    limit = {"sgd": 0.02, "adam": 0.02, "rmsprop": 0.02, "adamw": 0.5}.get(training.optimizer or "")
    share = learned(record)
    if limit is None or training.weight_decay is None or training.weight_decay < limit:
        return None
    if share is not None and share >= _NEARLY_ALL:
        return None
    return Suspicion(
        {"weight_decay": training.weight_decay, "optimizer": training.optimizer},
        f"A weight decay of {training.weight_decay:g} with {training.optimizer} pulls the weights to zero.",
        "Try 5e-4 with sgd, .01 with adamw, none with adam.",
        {"weight_decay": 0.0} if is_ours(record) else None,
        record.line_of("training.weight_decay"),
        0.6,
        "severe" if (share or 1.0) < 0.5 else "warning",
    )


def test_chooses(record: Record) -> Suspicion | None:
    """The test images decide which weights, or when to stop."""
    training = record.training
    by_test = (training.chosen_by or "").startswith("test")
    if training.validation_source != "test" and not by_test:
        return None
    watched = ("val_loss", "val_accuracy", "val_acc")
    chosen = by_test or training.chosen_by in watched or any(name in watched for name in training.monitors or ())
    return Suspicion(
        {"validation_source": training.validation_source, "chosen_by": training.chosen_by},
        "The test images serve as validation images"
        + (", and what is kept is chosen by them: the test figure is too good." if chosen else "."),
        "Cut validation off the training images (validation_split=.1) and open the test images once, at the end.",
        line=record.line_of("training.validation_source"),
        weight=0.5 if chosen else 0.2,
        severity="warning" if chosen else "note",
    )


def fit_twice(record: Record) -> Suspicion | None:
    """A second training that goes on from the first."""
    training, batch, floor = record.training, record.batch, chance(record)
    if starts_from_trained_weights(record):
        return None
    fits = training.num_fits or 1
    knows = batch.initial_accuracy is not None and floor is not None and batch.initial_accuracy > floor + 0.35
    if fits < 2 and not knows:
        return None
    said = (
        f"fit is called {fits} times on one model"
        if fits > 1
        else f"before its first step the net already answers {batch.initial_accuracy:.0%} right"
    )
    return Suspicion(
        {"num_fits": training.num_fits, "initial_accuracy": batch.initial_accuracy},
        f"{said[0].upper()}{said[1:]}: training goes on from the earlier weights and optimizer state, and its figures "
        "are not those of a fresh start.",
        "Build and compile the model anew before each training that is to be compared.",
        line=record.line_of("training.num_fits"),
        weight=0.6,
    )


def callback_not_passed(record: Record) -> Suspicion | None:
    """Callbacks that are made and that no training is given."""
    training = record.training
    said = mentioned(record, "unused-callback")
    unused = [mention.detail or mention.what.partition(":")[2] for mention in said]
    if not said and training.callbacks_made is not None and training.callbacks_passed is not None:
        unused = [name for name in training.callbacks_made if name not in training.callbacks_passed]
    if not unused:
        return None
    return Suspicion(
        {"callbacks": unused},
        f"Made and never passed to training: {listed(unused)}. It does nothing.",
        f"Pass it: fit(..., callbacks=[{listed(unused)}]).",
        line=said[0].line if said else record.line_of("training.callbacks_made"),
        weight=0.6,
    )


def monitor_matches_nothing(record: Record) -> Suspicion | None:
    """A callback that watches a name that training does not report."""
    training = record.training
    said = mentioned(record, "dead-monitor")
    dead = [mention.detail or mention.what.partition(":")[2] for mention in said]
    instead = [mention.instead for mention in said if mention.instead]
    if not said and (training.framework or "").removeprefix("tf.").startswith("keras"):
        unnamed = training.metrics is not None and "acc" not in training.metrics
        for name in training.monitors or ():
            if name.startswith("val_") and training.validation_source == "none":
                dead, instead = [*dead, name], [*instead, name.removeprefix("val_")]
            elif name in ("acc", "val_acc") and unnamed:
                dead, instead = [*dead, name], [*instead, name.replace("acc", "accuracy")]
    if not dead:
        return None
    return Suspicion(
        {"monitors": dead, "metrics": list(training.metrics or ())},
        f"A callback watches {listed(dead)}, which training does not report: it does nothing.",
        f"Watch {listed(instead) or 'a metric that is reported'}.",
        line=said[0].line if said else record.line_of("training.monitors"),
        weight=0.6,
    )


def label_smoothing_too_high(record: Record) -> Suspicion | None:
    """Labels smoothed until they say little."""
    smoothing, classes = record.training.label_smoothing, num_classes(record)
    if smoothing is None or smoothing < 0.5:
        return None
    return Suspicion(
        {"label_smoothing": smoothing, "classes": classes},
        f"A label smoothing of {smoothing:g} leaves the true class {1 - smoothing:.0%} of the weight.",
        "Use .1 or none.",
        {"label_smoothing": 0.0} if is_ours(record) else None,
        record.line_of("training.label_smoothing"),
        0.5,
    )


SETTINGS_RULES = (
    Rule(
        "learning-rate-too-high", "learning rate too high", "warning", "settings", learning_rate_too_high,
        "by optimizer, not learned well: adam, rmsprop from .01, sgd from .5 (with momentum .25), adagrad .5, adadelta "
        "10; or above the usual and a median step of > 10 % of the weights. Severe from five times that, or where less "
        "than half is learned",
        "Adadelta at 1, SGD at .1, summed losses, nets that learned",
        "own table of rates; TheDeepChecker (TOSEM 2022), size of steps",
        (*STUCK, *BLOWN),
    ),
    Rule(
        "learning-rate-too-low", "learning rate too low", "warning", "settings", learning_rate_too_low,
        "by optimizer, not learned well: adam, rmsprop up to 1e-5, sgd 1e-4, adagrad .001, adadelta .05; or below the "
        "usual and a median step of < .01 % of the weights; or a fifth of the usual and all steps together < half of "
        "the weights",
        "fine-tuning of trained weights, a rate that was lowered on the way, nets that learned",
        "own table of rates; Keras 3's default .001 for Adadelta, whose paper has 1",
        STUCK,
    ),
    Rule(
        "batch-too-large", "batch too large", "warning", "settings", batch_too_large,
        "batches of 256 and more, at most 60 steps an epoch, fewer than 500 in all; less than 95 % of the way learned, "
        "and less than 80 % where the training accuracy no longer rises by 2 points in two epochs",
        "large batches with many steps; epochs cut short by steps_per_epoch",
        "Mutants of DeepCrime (batch); a question on CIFAR-10 (docs/programs.md, P2)",
        (*STUCK, "validation-above-train"),
    ),
    Rule(
        "batch-too-small", "batch too small", "warning", "settings", batch_too_small,
        "batches below 8 with batch normalization, or of 1 or 2, not learned well",
        "fewer than 100 images; nets that learned", "own bound", ("training-unstable",),
    ),
    Rule(
        "too-few-updates", "too few steps", "warning", "settings", too_few_updates,
        "fewer than 200 steps in all, and less than 70 % of the way from chance learned (90 % where it was one epoch)",
        "short trainings that converge; trained weights", "own bound on the last epochs' gain",
        (*STUCK[:-1], "validation-above-train"),
    ),
    Rule(
        "weight-decay-too-high", "weight decay too strong", "warning", "settings", weight_decay_too_high,
        "from .02 with sgd, adam, rmsprop; .5 with adamw; less than 95 % of the way learned", "nets that learned",
        "Mutants of DeepCrime (L2)", (*STUCK, "dying-relu", "learning-rate-too-high"),
    ),
    Rule(
        "test-set-chooses", "chosen by the test set", "warning", "settings", test_chooses,
        "test images as validation images (a note; a warning where stopping or choosing watches them)",
        "validation cut off train", "Recht et al. (2019), on test sets used again and again",
    ),
    Rule(
        "fit-twice", "trained twice without a fresh start", "warning", "settings", fit_twice,
        "fit called more than once on the same weights; or an accuracy 35 points above chance before the first step",
        "trained weights on purpose", "own check; a published program (docs/programs.md, P0)",
    ),
    Rule(
        "callback-not-passed", "a callback is made and never passed", "warning", "settings", callback_not_passed,
        "a callback made that no training is given", "callbacks that another training of the program uses",
        "a published program (docs/programs.md, P4)",
    ),
    Rule(
        "monitor-matches-nothing", "a callback watches what is not reported", "warning", "settings",
        monitor_matches_nothing,
        "acc or val_acc without a metric so named; val_ without validation", 'metrics=["acc"]',
        "Keras 2.3's release notes",
    ),
    Rule(
        "label-smoothing-too-high", "label smoothing too strong", "warning", "settings", label_smoothing_too_high,
        "from .5", "the usual .1", "own bound",
    ),
)  # fmt: skip
