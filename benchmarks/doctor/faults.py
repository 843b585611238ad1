"""The faults that are planted, what the doctor should say of each, and what a reader of that finding would change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from patients import BASES, Patient, changed

Change = Callable[[Patient], Patient]


@dataclass(frozen=True)
class Fault:
    """One cause.

    Attributes:
        name: of the cause; rules: the ids of findings that name it.
        strengths: changes of a patient, from mild to strong; the first that hurts is planted.
        only: nets that it can be planted in; (): any.
        net: the net it is planted in, on every data set; "": the data set's own.
    """

    name: str
    rules: tuple[str, ...]
    strengths: tuple[Change, ...]
    only: tuple[str, ...] = ()
    net: str = ""

    def hosts(self, bases: list[Patient]) -> list[Patient]:
        """The healthy patients that it can be planted in."""
        nets = [changed(base, net=self.net or base.net) for base in bases]
        return [patient for patient in nets if not self.only or patient.net in self.only]


def _to(**values: Any) -> Change:
    return lambda patient: changed(patient, **values)


def _rate(factor: float, optimizer: str | None = None) -> Change:
    def change(patient: Patient) -> Patient:
        if optimizer == "sgd":
            return changed(patient, optimizer="sgd", lr=0.02 * factor)
        return changed(patient, lr=patient.lr * factor)

    return change


def _shorter(epochs: int, batch: int) -> Change:
    return lambda patient: changed(patient, epochs=min(epochs, patient.epochs), batch=batch)


FAULTS = (
    Fault("inputs not scaled", ("inputs-not-scaled",), (
        _to(scale=1.0, optimizer="sgd", lr=0.02), _to(scale=1.0, optimizer="sgd", lr=0.1))),
    Fault("inputs scaled twice", ("inputs-scaled-twice",), (_to(scale=1 / 255**2), _to(scale=1 / 255**2, epochs=3))),
    Fault("validation not scaled", ("preparation-differs", "saturated-softmax"), (_to(val_scale=1.0),)),
    Fault("validation scaled twice", ("preparation-differs",), (_to(val_scale=1 / 255**2),)),
    Fault("learning rate too high, Adam", ("learning-rate-too-high",), (_rate(25), _rate(100), _rate(500))),
    Fault("learning rate too high, SGD", ("learning-rate-too-high",), (_rate(50, "sgd"), _rate(250, "sgd"))),
    Fault("learning rate too low", ("learning-rate-too-low",), (_rate(0.01), _rate(0.001))),
    Fault("learning rate too low, SGD", ("learning-rate-too-low",), (_rate(0.003, "sgd"), _rate(0.0003, "sgd"))),
    Fault("zero weights", ("constant-initialisation",), (_to(init="zero"),), ("mlp", "conv")),
    Fault("constant weights", ("constant-initialisation",), (_to(init="constant"),)),
    Fault("huge weights", ("initial-loss-too-high", "exploding-gradient"), (_to(init=10.0), _to(init=50.0)),
          ("mlp", "conv")),
    Fault("vanishing gradients", ("vanishing-gradient",), (
        _to(activation="sigmoid", depth=6, optimizer="sgd", lr=0.02),), ("mlp", "conv")),
    Fault("dead units", ("dying-relu",), (_to(bias=-4.0), _to(bias=-20.0)), ("mlp", "conv")),
    Fault("softmax before cross-entropy", ("doubled-softmax",), (_to(end="softmax"), _to(end="softmax", lr=0.0005))),
    Fault("relu at the end", ("wrong-last-activation",), (_to(end="relu"), _to(end="relu", optimizer="sgd", lr=0.2))),
    Fault("sigmoid at the end", ("wrong-last-activation",), (_to(end="sigmoid"), _to(end="sigmoid", lr=0.0005))),
    Fault("softmax inside", ("hidden-softmax",), (_to(activation="softmax"),)),
    Fault("no activations", ("missing-activation",), (_to(activation="none"),), net="mlp"),
    Fault("too many outputs", ("wrong-output-units",), (_to(extra_outputs=500), _to(extra_outputs=3000))),
    Fault("gradients never cleared", ("gradients-never-cleared",), (_to(clear=False),
          _to(clear=False, optimizer="sgd", lr=0.05))),
    Fault("sorted and not shuffled", ("data-sorted", "not-shuffled"), (_to(order="sorted"),)),
    Fault("dropout too strong", ("dropout-misuse",), (_to(dropout=0.8), _to(dropout=0.95))),
    Fault("too few epochs", ("too-few-epochs", "too-few-updates"), (_shorter(2, 32), _shorter(1, 64))),
    Fault("batch too large", ("batch-too-large", "too-few-updates"), (_to(batch=512), _to(batch=2000))),
    Fault("first layers frozen", ("frozen-by-mistake",), (_to(frozen=1), _to(frozen=2))),
    Fault("only the head optimised", ("layer-not-in-optimizer",), (_to(left_out=True),)),
    Fault("evaluation in training mode", ("missing-eval-mode",), (
        _to(eval_mode=False, dropout=0.4), _to(eval_mode=False, dropout=0.5, eval_batch=4))),
    Fault("weight decay too strong", ("weight-decay-too-high",), (_to(weight_decay=0.05), _to(weight_decay=1.0))),
    Fault("label smoothing too strong", ("label-smoothing-too-high",), (
        _to(label_smoothing=0.9), _to(label_smoothing=0.98))),
    Fault("too few images", ("too-little-data", "overfitting"), (_to(train_images=100), _to(train_images=40))),
    Fault("rare classes", ("imbalance",), (_to(keep_class_fraction=0.05), _to(keep_class_fraction=0.02))),
    Fault("a class missing", ("class-missing", "imbalance"), (_to(keep_class_fraction=0.0),)),
    Fault("labels of other images", ("not-learning", "constant-predictor", "no-better-than-constant", "overfitting"), (
        _to(labels="permuted"),)),
)  # fmt: skip


def _base_of(patient: Patient) -> Patient:
    return next(base for base in BASES if base.data == patient.data)


def _back(*names: str) -> Change:
    """What a reader of the finding would do: set these back to what is usual."""
    return lambda patient: changed(patient, **{name: getattr(_base_of(patient), name) for name in names})


# Finding -> what its words make a reader change; where it stands first, this is what the doctor's cure is worth.
CURES: dict[str, Change] = {
    "inputs-not-scaled": _back("scale"),
    "inputs-scaled-twice": _back("scale"),
    "preparation-differs": _back("val_scale", "val_offset"),
    "saturated-softmax": _back("val_scale", "val_offset"),
    "learning-rate-too-high": _back("lr"),
    "learning-rate-too-low": _back("lr"),
    "training-unstable": _back("lr"),
    "exploding-gradient": _back("lr", "init"),
    "constant-initialisation": _back("init"),
    "initial-loss-too-high": _back("init"),
    "vanishing-gradient": _to(activation="relu", init="he"),
    "dying-relu": _back("bias", "lr"),
    "doubled-softmax": _back("end"),
    "wrong-last-activation": _back("end"),
    "hidden-softmax": _back("activation"),
    "missing-activation": _back("activation"),
    "wrong-output-units": _back("extra_outputs"),
    "gradients-never-cleared": _back("clear"),
    "data-sorted": _back("order"),
    "not-shuffled": _back("order"),
    "dropout-misuse": _back("dropout"),
    "too-few-epochs": _back("epochs"),
    "too-few-updates": _back("epochs", "batch"),
    "batch-too-large": _back("batch"),
    "overfitting": _back("train_images"),
    "frozen-by-mistake": _back("frozen"),
    "layer-not-in-optimizer": _back("left_out"),
    "missing-eval-mode": _back("eval_mode"),
    "weight-decay-too-high": _back("weight_decay"),
    "label-smoothing-too-high": _back("label_smoothing"),
    "too-little-data": _back("train_images"),
    "imbalance": _back("keep_class_fraction"),
    "class-missing": _back("keep_class_fraction"),
}


def cured(patient: Patient, finding: Any) -> Patient:
    """The patient as a reader of a finding would change it: its cure, by what the finding says, or nothing."""
    change = CURES.get(finding.id)
    if change is None:
        return patient
    mended = change(patient)
    if finding.id in ("learning-rate-too-high", "learning-rate-too-low") and patient.optimizer == "sgd":
        mended = changed(mended, lr=0.02)  # the usual rate of SGD with momentum, not Adam's
    return mended
