"""Finding: what is wrong, with its evidence; and the checks that need predictions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fovea.data.problem import Problem
from fovea.evaluation.metrics import accuracy, constant_predictor_accuracy
from fovea.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with data, settings or a result.

    Attributes:
        id: a stable name ("constant-predictor").
        severity: "note", "warning" or "severe".
        evidence: the numbers that show it.
        cause, cure: in words.
        confirmed: whether an experiment confirmed the cause; None: no experiment was made.
    """

    id: str
    severity: Literal["note", "warning", "severe"]
    evidence: dict[str, Any]
    cause: str
    cure: str
    confirmed: bool | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __str__(self) -> str:
        return f"{self.severity}: {self.cause} {self.cure}"


def as_finding(problem: Problem) -> Finding:
    """What was found wrong with data, as a finding."""
    return Finding(problem.id, problem.severity, dict(problem.evidence), problem.cause, problem.cure)


def find_in_predictions(predictions: Predictions, split: str) -> list[Finding]:
    """The constant-predictor check: does the net know more than which class is most frequent?"""
    if len(np.unique(predictions.labels)) < 2:
        return []  # of one class, nothing can be told
    score = accuracy(predictions)
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
