"""Score: a figure with its interval, its count and its unit. Nothing is printed without one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """A figure and how far to believe it.

    Attributes:
        value: the figure; an accuracy is a fraction in [0, 1].
        low, high: the ends of its interval; None where one value alone gives none.
        count: how many of `unit` it rests on.
        unit: "images" or "seeds".
        confidence: of the interval, such as .95.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    unit: str = "images"
    confidence: float = 0.95

    def as_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "count"}."""
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count}

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2%} ({self.count:,} {self.unit}, no interval)"
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}] ({self.count:,} {self.unit})"

    def _repr_html_(self) -> str:
        interval = "no interval"
        if self.low is not None and self.high is not None:
            interval = f"{percent(self.confidence)} interval {self.low:.2%} to {self.high:.2%}"
        return f"<b>{self.value:.2%}</b> <small>({interval}, {self.count:,} {escape(self.unit)})</small>"

    def __float__(self) -> float:
        return self.value


def percent(share: float) -> str:
    """A level of confidence: 95%, 99.9%."""
    return f"{share * 100:g}%"


@lru_cache(maxsize=4096)  # SciPy computes a p-value along with it, and the same counts come up again and again
def accuracy_score(num_correct: int, count: int, confidence: float = 0.95) -> Score:
    """An accuracy with Wilson's score interval.

    Source: Wilson, JASA 22 (1927); recommended for small counts and shares near 1 by Brown, Cai and DasGupta,
    Statistical Science 16 (2001).

    Raises:
        ValueError: when count is 0 or num_correct is outside 0..count.
    """
    from scipy.stats import binomtest

    interval = binomtest(num_correct, count).proportion_ci(confidence, method="wilson")
    return Score(num_correct / count, float(interval.low), float(interval.high), count, "images", confidence)


def mean_score(values: Sequence[float], confidence: float = 0.95) -> Score:
    """The mean of accuracies over seeds with Student's t interval, cut to [0, 1].

    One value alone has none, nor have equal ones: accuracies of few images come in steps, and the same step twice is no
    certainty.
    """
    mean = float(np.mean(values))
    if not has_spread(values):
        return Score(mean, None, None, len(values), "seeds", confidence)
    half = student_quantile(len(values), confidence) * standard_deviation(values) / math.sqrt(len(values))
    return Score(mean, max(mean - half, 0.0), min(mean + half, 1.0), len(values), "seeds", confidence)


@dataclass(frozen=True)
class PredictionInterval:
    """Where one more figure of the same kind is to be expected, given some of them.

    Attributes:
        value: the mean of those that were measured.
        low, high: the ends; None where one figure alone, or equal ones, give none.
        count: how many were measured.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    confidence: float = 0.95

    def holds(self, figure: float, rounding: float = 0.0) -> bool | None:
        """Whether a figure, known to +- `rounding`, may lie inside; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low - rounding <= figure <= self.high + rounding

    def as_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "count"}."""
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count}


def prediction_interval(
    values: Sequence[float], confidence: float = 0.95, limits: tuple[float, float] = (-math.inf, math.inf)
) -> PredictionInterval:
    """mean +- t(k - 1) * s * sqrt(1 + 1 / k): one more draw lies in it, for draws of a normal distribution.

    Wider than the interval of the mean: it holds a single published figure, not the average of many.
    Source: Hahn and Meeker, "Statistical intervals", 1991, chapter 4.

    Args:
        limits: between which such a figure lies at all; the interval is cut to them.
    """
    mean, count = float(np.mean(values)), len(values)
    if not has_spread(values):
        return PredictionInterval(mean, None, None, count, confidence)
    factor = student_quantile(count, confidence) * math.sqrt(1 + 1 / count)
    half = factor * standard_deviation(values)
    return PredictionInterval(mean, max(mean - half, limits[0]), min(mean + half, limits[1]), count, confidence)


def student_quantile(count: int, confidence: float) -> float:
    """How many standard errors a two-sided Student's t interval of `count` values reaches."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, count - 1))


def has_spread(values: Sequence[float]) -> bool:
    """Whether values differ by more than rounding: without that, or with one value, a t interval has no width."""
    return len(values) > 1 and standard_deviation(values) > 1e-12 * max(map(abs, values))


def standard_deviation(values: Sequence[float]) -> float:
    """The sample standard deviation (n - 1); nan for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
