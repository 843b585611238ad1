"""Paired comparisons: two nets on the same images. What both get right or both get wrong says nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError
from fovea.evaluation.intervals import Score
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
