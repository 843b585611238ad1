"""Paired comparisons: two nets on the same images, or two recipes on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError
from fovea.evaluation.intervals import Score, accuracy_score, standard_deviation, student_quantile
from fovea.evaluation.predictions import Predictions


@dataclass(frozen=True)
class McNemarResult:
    """The exact test of "both are equally often right".

    Attributes:
        only_first, only_second: images that one alone got right.
        p_value: two-sided; `mid_p_value` is the less conservative variant.
        difference: accuracy(second) - accuracy(first) with Bonett's and Price's interval (Journal of Educational and
            Behavioral Statistics 37, 2012), recommended by Fagerland, Lydersen and Laake (Statistics in Medicine 33,
            2014). Where it leaves out 0 and p_value is not small, the exact test is the more careful of the two.
    """

    only_first: int
    only_second: int
    p_value: float
    mid_p_value: float
    difference: Score


def check_same_images(first: Predictions, second: Predictions) -> None:
    """Refuse to pair predictions of different images.

    Raises:
        DataError: when ids, true labels or class order differ.
    """
    if first.classes != second.classes:
        raise DataError(f"The two have different classes or class orders: {first.classes} and {second.classes}.")
    same = len(first) == len(second) and np.array_equal(first.ids.astype(str), second.ids.astype(str))
    if not same or not np.array_equal(first.labels, second.labels):
        raise DataError(
            f"The two were not made on the same images ({len(first):,} and {len(second):,}): a paired test needs the "
            "same ids and labels in the same order."
        )


def mcnemar(first: Predictions, second: Predictions, confidence: float = 0.95) -> McNemarResult:
    """Exact McNemar test on the images where the two differ.

    Source: McNemar, Psychometrika 12 (1947); exact binomial form and mid-p as in Fagerland, Lydersen and Laake,
    BMC Medical Research Methodology 13 (2013).

    Raises:
        DataError: when the images are not the same.
    """
    from scipy.stats import binom, binomtest

    check_same_images(first, second)
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    differing = only_first + only_second
    difference = _difference(only_first, only_second, len(first), confidence)
    if differing == 0:
        return McNemarResult(0, 0, 1.0, 1.0, difference)
    p_value = float(binomtest(only_first, differing).pvalue)
    mid_p_value = max(p_value - float(binom.pmf(only_first, differing, 0.5)), 0.0)
    if only_first == only_second:  # both tails meet in the middle, whose mass then counts once
        mid_p_value = 1.0 - float(binom.pmf(only_first, differing, 0.5)) / 2
    return McNemarResult(only_first, only_second, p_value, mid_p_value, difference)


def _difference(only_first: int, only_second: int, count: int, confidence: float) -> Score:
    """A Wald interval with one more image on either side, cut to [-1, 1]."""
    from scipy.stats import norm

    first, second = (only_first + 1) / (count + 2), (only_second + 1) / (count + 2)
    middle = second - first
    half = float(norm.ppf((1 + confidence) / 2)) * math.sqrt((first + second - middle**2) / (count + 2))
    value = (only_second - only_first) / count
    return Score(value, max(middle - half, -1.0), min(middle + half, 1.0), count, "images", confidence)


def paired_bootstrap(
    first: Predictions,
    second: Predictions,
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Score:
    """accuracy(second) - accuracy(first) with a percentile interval from resampling images.

    An image contributes -1, 0 or 1, so resampling images is drawing from a multinomial of those three.
    Source: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.

    Raises:
        DataError: when the images are not the same.
    """
    check_same_images(first, second)
    difference: NDArray[np.int64] = second.correct.astype(np.int64) - first.correct.astype(np.int64)
    count = len(difference)
    shares = np.bincount(difference + 1, minlength=3) / count
    draws = np.random.default_rng(seed).multinomial(count, shares, size=num_resamples)
    means = (draws[:, 2] - draws[:, 0]) / count
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Score(float(difference.mean()), float(low), float(high), count, "images", confidence)


@dataclass(frozen=True)
class SeedsTest:
    """Two recipes, trained with the same seeds.

    Attributes:
        differences: second - first, one a seed.
        difference: their mean with Student's t interval; None for its ends where there is one seed, or no spread.
        p_value: of the two-sided paired t test of "no difference"; None for one seed. Where all differences are the
            same, no spread stands against their mean: then of the sign test, 2 / 2^k for k seeds.
    """

    differences: tuple[float, ...]
    difference: Score
    p_value: float | None

    @property
    def is_sure(self) -> bool:
        """Whether the two can be told apart at the 5 % level."""
        return self.p_value is not None and self.p_value < 0.05

    @property
    def num_lower(self) -> int:
        """On how many seeds the second is lower."""
        return sum(difference < 0 for difference in self.differences)

    def as_json(self) -> dict[str, Any]:
        """The test as plain values."""
        facts = {"difference": self.difference.as_json(), "p_value": self.p_value, "num_lower": self.num_lower}
        return {**facts, "differences": list(self.differences)}


def paired_over_seeds(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> SeedsTest:
    """Paired t test over seeds: does the second recipe differ from the first?

    Not Wilcoxon's signed ranks: with five seeds its smallest two-sided p is 2 / 2^5 = .0625, so that no difference,
    however large, would pass at 5 %. Source: Student, Biometrika 6 (1908).

    Args:
        first, second: one figure a seed, in the same order.

    Raises:
        ValueError: when they are not equally many, or none.
    """
    from scipy.stats import t

    differences = tuple(float(b) - float(a) for a, b in zip(first, second, strict=True))
    count = len(differences)
    if count == 0:
        raise ValueError("a paired test needs at least one seed")
    mean = float(np.mean(differences))
    if count == 1:
        return SeedsTest(differences, Score(mean, None, None, 1, "seeds", confidence), None)
    error = standard_deviation(differences) / math.sqrt(count)
    if error < 1e-12:  # accuracies of few images come in steps: the same step again and again is no certainty
        p_value = 1.0 if abs(mean) < 1e-12 else 2 * 0.5**count
        return SeedsTest(differences, Score(mean, None, None, count, "seeds", confidence), p_value)
    half = student_quantile(count, confidence) * error
    p_value = float(2 * t.sf(abs(mean) / error, count - 1))
    return SeedsTest(differences, Score(mean, mean - half, mean + half, count, "seeds", confidence), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted so that one of them is below 5 % by chance in at most 5 % of cases.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return adjusted


def outperformance(differences: Sequence[float], confidence: float = 0.95) -> Score:
    """P(second > first): in what share of trainings the second recipe does better; a tie counts half.

    Source: Bouthillier et al., MLSys 2021 (arXiv 2103.03098). They take a percentile bootstrap, which has no width
    where one recipe wins on every seed; Wilson's interval is right for few pairs too. Ties count against the end that
    they would help.

    Args:
        differences: second - first, one a seed; at least one.
    """
    wins, ties, count = sum(d > 0 for d in differences), sum(d == 0 for d in differences), len(differences)
    low, high = accuracy_score(wins, count, confidence).low, accuracy_score(wins + ties, count, confidence).high
    return Score((wins + ties / 2) / count, low, high, count, "seeds", confidence)
