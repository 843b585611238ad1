"""Finding: what is wrong, with its evidence; and the checks that need predictions alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fovea.data.problem import Problem

if TYPE_CHECKING:  # a finding alone needs neither torch nor predictions: programs are judged without them
    from fovea.evaluation.predictions import Predictions

Severity = Literal["note", "warning", "severe"]
Status = Literal["suspected", "confirmed", "withdrawn"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with data, settings or a result.

    Attributes:
        id: a stable name ("constant-predictor").
        severity: "note", "warning" or "severe".
        evidence: the numbers that show it.
        cause, cure: in words.
        status: "suspected", or after an experiment "confirmed" or "withdrawn".
        line: where it stands, of a program.
        remedy: the settings that mend it, in Fovea's names ({"lr": 0.01}); None where settings alone do not.
        trial: what an experiment measured, as plain values; None: none was made.
    """

    id: str
    severity: Severity
    evidence: dict[str, Any]
    cause: str
    cure: str
    status: Status = "suspected"
    line: int | None = None
    remedy: dict[str, Any] | None = None
    trial: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; line, remedy and trial only where there are such."""
        optional = ("line", "remedy", "trial")
        return {name: value for name, value in self.__dict__.items() if value is not None or name not in optional}

    def __str__(self) -> str:
        return f"{self.severity}: {self.cause} {self.cure}"


def as_finding(problem: Problem) -> Finding:
    """What was found wrong with data, as a finding."""
    return Finding(problem.id, problem.severity, dict(problem.evidence), problem.cause, problem.cure)


def finding_from_json(values: Mapping[str, Any]) -> Finding:
    """A finding out of findings.json; of older runs too, whose findings said `confirmed` in place of `status`."""
    known = {name: value for name, value in values.items() if name in Finding.__dataclass_fields__}
    return Finding(**({"status": "confirmed"} if values.get("confirmed") else {}) | known)


def find_in_predictions(predictions: Predictions, split: str, confidence: float = 0.95) -> list[Finding]:
    """The constant-predictor check: does the net know more than which class is most frequent?

    Args:
        confidence: the level of the interval that it is judged by and that is shown.
    """
    from fovea.evaluation.metrics import accuracy, constant_predictor_accuracy

    if len(np.unique(predictions.labels)) < 2:
        return []  # of one class, nothing can be told
    score = accuracy(predictions, confidence)
    bar = constant_predictor_accuracy(predictions)
    answered = np.bincount(predictions.predicted, minlength=len(predictions.classes))
    evidence: dict[str, Any] = {"split": split, "accuracy": score.value, "constant_predictor_accuracy": bar}
    if answered.max() == len(predictions):
        name = predictions.classes[int(answered.argmax())]
        cause = f"Every {split} image was answered with the class {name!r}: the net has not learned to tell them apart."
        cure = "Check that the labels belong to the images; then try a lower lr, more epochs or another model."
        return [Finding("constant-predictor", "severe", evidence, cause, cure)]
    if score.low is not None and score.low <= bar:
        cause = (
            f"{split} accuracy {score} cannot be told from always answering the most frequent class, "
            f"which is right in {bar:.2%}."
        )
        cure = "Train longer, give more images, or judge by per-class recall."
        return [Finding("no-better-than-constant", "warning", evidence, cause, cure)]
    return []
