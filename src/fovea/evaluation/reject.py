"""The reject option: leave the least sure answers to a person. How many are left, and how many of them are right?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.evaluation.intervals import Score, accuracy_score
from fovea.evaluation.predictions import Predictions

SHARES = (0.99, 0.98, 0.95, 0.9, 0.8)  # of the images, that are answered
_POINTS = 100  # of the stored curve


@dataclass(frozen=True)
class Answered:
    """What comes of answering only where the probability reaches a threshold.

    Attributes:
        share: of the images that chose the threshold, in (0, 1]: so many are answered.
        threshold: the least probability; `fovea predict --min-confidence` takes it.
        coverage: the share of the measured images that is answered.
        accuracy: of those; None where none is answered.
    """

    share: float
    threshold: float
    coverage: Score
    accuracy: Score | None

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        accuracy = None if self.accuracy is None else self.accuracy.as_json()
        plain = {"share": self.share, "threshold": self.threshold}
        return {**plain, "coverage": self.coverage.as_json(), "accuracy": accuracy}


def threshold_for(chosen: Predictions, share: float) -> float:
    """The probability that so large a share of the images reaches, cut to six decimals; ties are all answered.

    Args:
        chosen: not the images that the threshold is measured on.
        share: in (0, 1].
    """
    ordered = np.sort(chosen.confidence)[::-1]
    last = float(ordered[max(math.ceil(share * len(ordered)), 1) - 1])
    return math.floor(last * 1e6) / 1e6


def answered_above(measured: Predictions, share: float, threshold: float, confidence: float = 0.95) -> Answered:
    """Coverage and accuracy where only answers of at least `threshold` are given."""
    given = measured.confidence >= threshold
    count = int(given.sum())
    right = int((given & measured.correct).sum())
    return Answered(
        share,
        threshold,
        accuracy_score(count, len(measured), confidence),
        accuracy_score(right, count, confidence) if count else None,
    )


def coverage_curve(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of the surest answers, for every number of them.

    Answers of one and the same probability stand in no order: their mistakes are spread evenly over them.

    Returns:
        Coverage in (0, 1], ascending, and the accuracy at each, both [N].
    """
    sure, wrong = predictions.confidence, ~predictions.correct
    order = np.argsort(-sure, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True)) + 1
    mistakes = np.cumsum(wrong[order])[ends - 1]
    answered = np.arange(1, len(sure) + 1)
    smooth = np.interp(answered, np.append(0, ends), np.append(0, mistakes))
    return answered / len(sure), 1 - smooth / answered


def area_under_risk(predictions: Predictions) -> float:
    """AURC: the share of wrong answers, averaged over every coverage; 0 is perfect.

    Source: Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017; Geifman, Uziel and
    El-Yaniv, "Bias-reduced uncertainty estimation", ICLR 2019.
    """
    return float((1 - coverage_curve(predictions)[1]).mean())


def reject_as_json(
    chosen: Predictions | None, measured: Predictions, same_images: bool, confidence: float = 0.95
) -> dict[str, Any]:
    """The reject option as plain values.

    Args:
        chosen: the images that choose the thresholds; None: there are none, and so no thresholds.
        measured: the images that they are measured on.
        same_images: whether the two are the same, which flatters what is measured.
    """
    coverage, accuracy = coverage_curve(measured)
    rows = np.unique(np.ceil(np.linspace(1 / _POINTS, 1, _POINTS) * len(measured)).astype(np.int64)) - 1
    curve = [{"coverage": float(coverage[row]), "accuracy": float(accuracy[row])} for row in rows]
    thresholds = []
    if chosen is not None and len(chosen):
        for share in SHARES:
            found = answered_above(measured, share, threshold_for(chosen, share), confidence)
            thresholds.append(found.as_json())
    area = area_under_risk(measured)
    return {"area": area, "thresholds": thresholds, "chosen_on_the_same_images": same_images, "curve": curve}
