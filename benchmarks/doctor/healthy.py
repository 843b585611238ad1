"""Trainings with nothing wrong that published tools alarm at: the doctor has to be silent."""

from __future__ import annotations

from collections.abc import Callable

from patients import Patient, bases, changed

_KINDS: tuple[tuple[str, Callable[[Patient], Patient]], ...] = (
    ("as it is", lambda p: p),
    ("standardised inputs", lambda p: changed(p, scale=1 / 64, offset=-1.6)),
    ("inputs from -1 to 1", lambda p: changed(p, scale=1 / 127.5, offset=-1.0)),
    ("Adadelta at 1.0", lambda p: changed(p, optimizer="adadelta", lr=1.0)),
    ("SGD at .1", lambda p: changed(p, optimizer="sgd", lr=0.1, momentum=0.0, epochs=p.epochs + 4)),
    ("summed loss, SGD", lambda p: changed(p, loss="sum", optimizer="sgd", lr=0.001)),
    ("log-softmax and NLL", lambda p: changed(p, loss="nll")),
    ("dropout: validation above training", lambda p: changed(p, dropout=0.3, epochs=p.epochs + 4)),
    ("imbalanced, but fine", lambda p: changed(p, keep_class_fraction=0.4)),
    ("four epochs, converged", lambda p: changed(p, epochs=4, lr=0.005, batch=16)),
    ("larger batches, larger rate", lambda p: changed(p, batch=64, lr=0.004)),
    ("AdamW with weight decay", lambda p: changed(p, optimizer="adamw", weight_decay=0.01)),
    ("label smoothing of .1, weight decay", lambda p: changed(p, label_smoothing=0.1, weight_decay=1e-4)),
)


def healthy() -> list[tuple[str, Patient]]:
    """(what is unusual, patient); thirteen kinds for each data set that is here."""
    return [(f"{kind}: {base.data}, {base.net}", make(base)) for base in bases() for kind, make in _KINDS]
