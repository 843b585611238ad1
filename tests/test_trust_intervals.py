"""The arithmetic of benchmarks/trust_intervals.py, against simulation and by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "trust_intervals.py"


@pytest.fixture(scope="module")
def trust() -> Any:
    if not PATH.exists():
        pytest.skip("benchmarks/ is not here: this is no clone")
    spec = importlib.util.spec_from_file_location("trust_intervals", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SIMULATIONS = 300
    return module


def test_the_exact_coverage_is_that_of_draws(trust: Any) -> None:
    held = trust.coverage(40)
    for place in (0, 250, 499):
        share = trust.SHARES[place]
        draws = np.random.default_rng(place).binomial(40, share, 4000)
        intervals = [stats.binomtest(int(x), 40).proportion_ci(0.95, "wilson") for x in np.unique(draws)]
        ends = dict(zip(np.unique(draws).tolist(), intervals, strict=True))
        simulated = np.mean([ends[x].low <= share <= ends[x].high for x in draws.tolist()])
        assert held[place] == pytest.approx(simulated, abs=0.015)


def test_answers_are_right_where_they_are_said_to_be(trust: Any) -> None:
    right = np.array([True, False, True])
    assert trust.answers(right).correct.tolist() == [True, False, True]


def test_a_real_difference_is_told_more_often_than_none(trust: Any) -> None:
    none, some = trust.told(100, 0.05, 0.05, 0), trust.told(100, 0.02, 0.2, 0)
    assert none[0] <= none[1] < 0.1
    assert some[0] > 0.8


def test_the_rule_is_stricter_than_the_t_test(trust: Any) -> None:
    for gain in (0.0, 2.0):
        found = trust.verdicts(5, gain, 0)
        assert found["rule"] <= found["t_test"]
    assert trust.verdicts(3, 5.0, 0)["rule"] == 0.0


def test_wilsons_interval_of_a_share_of_pairs_covers_and_the_bootstrap_does_not(trust: Any) -> None:
    found = trust.share_coverage(5)
    assert found["wilson"] > 0.93
    assert found["bootstrap"] < 0.9
