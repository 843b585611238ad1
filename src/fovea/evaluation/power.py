"""What so many test images can show: the least difference that a paired test tells, and how many images tell one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

LEVEL = 0.05  # p below it counts
POWER = 0.8
_ASSUMED = " to a net that differs on as many as this one gets wrong"


def least_difference(num_differing: int, level: float = LEVEL) -> int:
    """The least |b - c| that the exact McNemar test tells where b + c images differ; images.

    Of fewer than six differing images none is enough at 5 %, so that six (2 / 2^6 = .031) are the least of all.
    """
    from scipy.stats import binom

    fewest = math.floor(1 - math.log2(level)) + 1  # 2 / 2^k < level
    differing = max(num_differing, fewest)
    most_minority = int(binom.ppf(level / 2, differing, 0.5)) - 1  # P(X <= it) < level / 2
    return differing - 2 * most_minority


def smallest_difference(num_images: int, num_differing: int, level: float = LEVEL) -> float:
    """The same as a share of the test images: no smaller difference of two accuracies can be told, in [0, 1]."""
    return min(least_difference(num_differing, level) / num_images, 1.0)


def mcnemar_power(num_images: float, only_first: float, only_second: float, level: float = LEVEL) -> float:
    """How often McNemar's test tells two nets apart: a probability, 0 where they do not differ.

    Source: Connor, Biometrics 43 (1987), the unconditional normal approximation; the test is the one without continuity
    correction, which mid-p follows. The exact test finds a little less.

    Args:
        only_first, only_second: the shares of images that one alone answers rightly.
    """
    from scipy.stats import norm

    share, gain = only_first + only_second, abs(only_second - only_first)
    if gain == 0:
        return 0.0
    rest = math.sqrt(max(share - gain**2, 0.0))
    surplus = gain * math.sqrt(num_images) - norm.ppf(1 - level / 2) * math.sqrt(share)
    if rest == 0:
        return float(surplus > 0)
    return float(norm.cdf(surplus / rest))


def images_needed(only_first: float, only_second: float, power: float = POWER, level: float = LEVEL) -> int | None:
    """How many test images show a difference in so many of 100 tries; None where there is none to show.

    n = (z(1 - level / 2) sqrt(share) + z(power) sqrt(share - gain^2))^2 / gain^2, where share = b + c, gain = |c - b|,
    both as shares. Source: Connor, Biometrics 43 (1987); also Miettinen, Biometrics 24 (1968).

    Args:
        only_first, only_second: the shares of images that one alone answers rightly.
    """
    from scipy.stats import norm

    share, gain = only_first + only_second, abs(only_second - only_first)
    if gain < 1e-12:
        return None
    z_level, z_power = float(norm.ppf(1 - level / 2)), float(norm.ppf(power))
    root = z_level * math.sqrt(share) + z_power * math.sqrt(max(share - gain**2, 0.0))
    return math.ceil(root**2 / gain**2)


@dataclass(frozen=True)
class SetLimits:
    """How far a figure of a test set can go at all.

    Attributes:
        num_images: of the test set.
        smallest_difference: to another net, that a paired test can tell at the 5 % level; it is assumed that the two
            differ on as many images as this net gets wrong.
        wrong_labels: test labels that are known to be wrong; None where nothing is known.
    """

    num_images: int
    smallest_difference: float
    wrong_labels: int | None = None

    @property
    def ceiling(self) -> float | None:
        """1 - e / n: accuracies above it cannot be told from 1; None where nothing is known of the labels."""
        return None if self.wrong_labels is None else 1 - self.wrong_labels / self.num_images

    @property
    def words(self) -> str:
        """Both limits in a line."""
        least = f"{self.smallest_difference * 100:.2f} points"
        text = f"{self.num_images:,} test images cannot show a difference under {least}{_ASSUMED}"
        return f"{text}; {self.label_words}" if self.label_words else text

    @property
    def label_words(self) -> str:
        """What wrong labels hide; nothing where nothing is known of them."""
        if self.wrong_labels is None:
            return ""
        hidden = self.wrong_labels / self.num_images * 100
        return (
            f"{self.wrong_labels:,} test labels are known to be wrong: accuracies within {hidden:.2f} points of 100% "
            "cannot be told apart"
        )

    def as_json(self) -> dict[str, Any]:
        """The limits as plain values."""
        return {
            "images": self.num_images,
            "smallest_difference": self.smallest_difference,
            "wrong_labels": self.wrong_labels,
            "ceiling": self.ceiling,
        }


def limits_of(num_right: int, num_images: int, wrong_labels: int | None = None) -> SetLimits:
    """The limits of a test set for a net that gets so many right.

    Args:
        wrong_labels: known of the set.
    """
    return SetLimits(num_images, smallest_difference(num_images, num_images - num_right), wrong_labels)
