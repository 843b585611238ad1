"""How many images show what: against tables, brute force and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fovea.evaluation.paired import holm, outperformance
from fovea.evaluation.power import images_needed, least_difference, limits_of, mcnemar_power, smallest_difference


@pytest.mark.parametrize("differing", [6, 7, 10, 20, 30, 31, 50, 100, 200, 400])
def test_the_least_difference_is_the_first_that_the_exact_test_tells(differing: int) -> None:
    sure = [
        differing - 2 * minority
        for minority in range(differing // 2 + 1)
        if stats.binomtest(minority, differing).pvalue < 0.05
    ]
    assert least_difference(differing) == min(sure)


def test_fewer_than_six_differing_images_tell_nothing() -> None:
    assert stats.binomtest(0, 5).pvalue > 0.05
    assert [least_difference(differing) for differing in (0, 3, 5)] == [6, 6, 6]
    assert smallest_difference(20, 3) == 0.3
    assert smallest_difference(4, 0) == 1.0


@pytest.mark.parametrize(("only_first", "only_second"), [(0.01, 0.02), (0.002, 0.004), (0.03, 0.08)])
def test_so_many_images_tell_a_difference_in_eight_of_ten_tries(only_first: float, only_second: float) -> None:
    count = images_needed(only_first, only_second)
    assert count is not None
    assert mcnemar_power(count, only_first, only_second) == pytest.approx(0.8, abs=0.001)
    shares = [only_first, only_second, 1 - only_first - only_second]
    first, second, _ = np.random.default_rng(0).multinomial(count, shares, 4000).T
    differing = first + second
    exact = np.minimum(1, 2 * stats.binom.cdf(np.minimum(first, second), differing, 0.5))
    mid = exact - stats.binom.pmf(first, differing, 0.5)
    assert np.mean(mid < 0.05) == pytest.approx(0.8, abs=0.025)  # three standard errors are .019
    assert 0.74 < np.mean(exact < 0.05) <= np.mean(mid < 0.05)


def test_no_difference_takes_no_number_of_images() -> None:
    assert images_needed(0.02, 0.02) is None
    assert mcnemar_power(1000, 0.02, 0.02) == 0.0
    assert images_needed(0.02, 0.0) == images_needed(0.0, 0.02)


def test_the_limits_say_both_in_words() -> None:
    limits = limits_of(9_950, 10_000, 15)
    assert limits.smallest_difference == least_difference(50) / 10_000
    assert limits.ceiling == pytest.approx(0.9985)
    assert "cannot show a difference under 0.16 points to a net that differs on as many" in limits.words
    assert "within 0.15 points of 100%" in limits.words
    assert limits_of(9_950, 10_000).ceiling is None
    assert "labels" not in limits_of(9_950, 10_000).words


def test_holm_is_holms() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    rng = np.random.default_rng(0)
    false_alarms = [min(holm(rng.random(4).tolist())) < 0.05 for _ in range(4000)]
    assert np.mean(false_alarms) == pytest.approx(0.05, abs=0.011)


def test_the_share_of_wins_counts_ties_half_and_against_its_ends() -> None:
    five = outperformance([0.1, 0.2, 0.1, 0.3, 0.1])
    low = stats.binomtest(5, 5).proportion_ci(0.95, "wilson").low
    assert (five.value, five.low, five.high) == (1.0, pytest.approx(low), pytest.approx(1.0))
    tied = outperformance([0.1, 0.0, 0.0, -0.1])
    assert tied.value == 0.5
    assert (tied.low, tied.high) == (
        pytest.approx(stats.binomtest(1, 4).proportion_ci(0.95, "wilson").low),
        pytest.approx(stats.binomtest(3, 4).proportion_ci(0.95, "wilson").high),
    )
    assert outperformance([0.1] * 3).low < 0.5 < outperformance([0.1] * 4).low  # type: ignore[operator]
