"""Calibration: of answers given with 90 % probability, are 90 % right? And one temperature that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.evaluation.predictions import Predictions

CALIBRATION = "calibration.json"
NUM_BINS = 15
MIN_IMAGES = 100  # of validation, below which no temperature is fitted
LOWEST, HIGHEST = 0.05, 20.0  # temperature
_ADDED_MISTAKES = 0.5
_RESAMPLES = 400
_AT_A_TIME = 2_000_000  # draws


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by before they become probabilities.

    Attributes:
        value: 1 leaves them as they are; above 1 answers become less sure, below 1 surer.
        count: the validation images that it was fitted on; 0 where none was fitted.
        reason: why none was fitted; empty where one was.
    """

    value: float
    count: int
    reason: str = ""


def fit_temperature(validation: Predictions | None) -> Temperature:
    """The temperature with the lowest cross-entropy on the validation images; it changes no answer.

    Half a mistake is added, spread over all images: in so small a part the second most likely class counts as the true
    one. Without it few mistakes, or none, would ask for certainty; beside many it has no weight. The sum is convex in
    1 / T, so that one search finds it.
    Sources: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017; targets short of
    certainty as in Platt, "Probabilistic outputs for support vector machines", 1999, with half a mistake as in the
    prior of Jeffreys.

    Args:
        validation: their labels known, with raw logits; None: there are none.
    """
    from scipy.optimize import minimize_scalar

    count = 0 if validation is None else len(validation)
    if validation is None or count == 0:
        return Temperature(1.0, 0, "there are no validation images")
    if count < MIN_IMAGES:
        return Temperature(1.0, 0, f"{count} validation images are too few, it takes {MIN_IMAGES}")
    logits, labels = validation.logits.astype(np.float64), validation.labels
    second = np.argsort(-logits, axis=1, kind="stable")[:, 1]

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return _loss(scaled, labels) + _ADDED_MISTAKES / count * _loss(scaled, second)

    bounds = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return Temperature(round(float(np.exp(found.x)), 4), count)


def _loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def loss_of_probabilities(predictions: Predictions) -> float:
    """The mean of -log p(true class) in nats, with the probabilities as they are given: over the temperature."""
    return _loss(predictions.logits.astype(np.float64) / predictions.temperature, predictions.labels)


@dataclass(frozen=True)
class Bin:
    """The answers whose probability lies above `low` and up to `high`; without images both means are None."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ExpectedEce:
    """The ECE that a perfectly calibrated net would show on as many answers of the same probabilities.

    Attributes:
        mean: never 0: an accuracy in a bin is a share of few images.
        low, high: 95 % of the resamples lie between.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of answers can be believed.

    Attributes:
        ece: the expected calibration error, fraction in [0, 1].
        expected: that of a perfectly calibrated net, for comparison.
        loss: cross-entropy of the probabilities, in nats.
        confidence, accuracy: means over all images: the first above the second says too much.
    """

    count: int
    ece: float
    expected: ExpectedEce
    loss: float
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]

    @property
    def is_good(self) -> bool:
        """Whether a perfectly calibrated net would often show as large an error."""
        return self.ece <= self.expected.high

    def as_json(self) -> dict[str, Any]:
        """The calibration as plain values."""
        bins = [dict(found.__dict__) for found in self.bins]
        return {**self.__dict__, "expected": dict(self.expected.__dict__), "bins": bins}


def calibration_of(predictions: Predictions) -> Calibration:
    """Judge the probabilities of predictions by their true labels.

    Raises:
        ValueError: when there are no images.
    """
    if len(predictions) == 0:
        raise ValueError("a calibration needs at least one image")
    confidence, correct = predictions.confidence, predictions.correct
    bins = reliability(confidence, correct)
    ece = sum(found.count * abs((found.accuracy or 0.0) - (found.confidence or 0.0)) for found in bins) / len(correct)
    return Calibration(
        count=len(correct),
        ece=ece,
        expected=expected_ece(confidence),
        loss=loss_of_probabilities(predictions),
        confidence=float(confidence.mean()),
        accuracy=float(correct.mean()),
        bins=bins,
    )


def ece_of(predictions: Predictions) -> float:
    """The expected calibration error alone, with 15 bins of equal width."""
    confidence, correct = predictions.confidence, predictions.correct
    gap = np.bincount(_bins_of(confidence), correct - confidence, NUM_BINS)
    return float(np.abs(gap).sum() / len(correct))


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """The reliability diagram: 15 bins of equal width, each with its images, mean probability and accuracy.

    Args:
        confidence: the probability of each answer, [N]; exactly 1 belongs to the last bin.
        correct: whether it is right, [N].
    """
    place = _bins_of(confidence)
    count = np.bincount(place, minlength=NUM_BINS)
    sure, right = np.bincount(place, confidence, NUM_BINS), np.bincount(place, correct, NUM_BINS)
    return tuple(
        Bin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            int(count[number]),
            float(sure[number] / count[number]) if count[number] else None,
            float(right[number] / count[number]) if count[number] else None,
        )
        for number in range(NUM_BINS)
    )


def _bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return (np.ceil(confidence * NUM_BINS).astype(np.int64) - 1).clip(0, NUM_BINS - 1)


def expected_ece(confidence: NDArray[np.float64], num_resamples: int = _RESAMPLES, seed: int = 0) -> ExpectedEce:
    """The ECE of a perfectly calibrated net by resampling: each answer is right with the probability that it states.

    Args:
        confidence: the probability of each answer, [N].
    """
    place = _bins_of(confidence)
    order = np.argsort(place, kind="stable")
    confidence, ends = confidence[order], np.cumsum(np.bincount(place, minlength=NUM_BINS))
    rng = np.random.default_rng(seed)
    parts = []
    step = max(1, _AT_A_TIME // len(confidence))
    for begin in range(0, num_resamples, step):
        rows = min(step, num_resamples - begin)
        right = rng.random((rows, len(confidence)), np.float32) < confidence
        gaps = np.zeros(rows)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            if end > start:
                gaps += np.abs(right[:, start:end].sum(axis=1) - confidence[start:end].sum())
        parts.append(gaps / len(confidence))
    found = np.concatenate(parts)
    low, high = np.quantile(found, (0.025, 0.975))
    return ExpectedEce(float(found.mean()), float(low), float(high))


def calibration_as_json(predictions: dict[str, Predictions], temperature: Temperature) -> dict[str, Any]:
    """The content of calibration.json but for the reject option: every split before and after the temperature.

    Args:
        predictions: split -> its predictions, whose temperature this is.
    """
    splits = {}
    for name, found in predictions.items():
        raw = replace(found, temperature=1.0)
        bins = [dict(each.__dict__) for each in reliability(raw.confidence, raw.correct)]
        before = {"ece": ece_of(raw), "loss": loss_of_probabilities(raw), "bins": bins}
        splits[name] = {**calibration_of(found).as_json(), "without_temperature": before}
    facts = {"temperature": temperature.value, "fitted_on": temperature.count, "reason": temperature.reason}
    return {**facts, "splits": splits}


def ece_words(found: Mapping[str, Any]) -> str:
    """ "ECE 0.45%, if perfect 0.10% to 0.40%".

    Args:
        found: what `Calibration.as_json` gave.
    """
    expected = found["expected"]
    return f"ECE {found['ece']:.2%}, if perfect {expected['low']:.2%} to {expected['high']:.2%}"


def temperature_words(found: Mapping[str, Any]) -> str:
    """ "0.73, from 1,200 validation images", or 1 and why.

    Args:
        found: the content of calibration.json.
    """
    if found["fitted_on"]:
        return f"{found['temperature']:.3g}, from {found['fitted_on']:,} validation images"
    return f"1: {found['reason']}"
