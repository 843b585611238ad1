"""Are the intervals right? Wilson's coverage, the paired tests' false alarms and power, the rule for recipes.

    python benchmarks/trust.py intervals

Coverage is an exact sum over the binomial distribution; the rest are simulations through the functions that Fovea uses.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fovea.evaluation.intervals import accuracy_score
from fovea.evaluation.paired import mcnemar, outperformance, paired_over_seeds
from fovea.evaluation.power import images_needed, mcnemar_power
from fovea.evaluation.predictions import Predictions
from fovea.studies.recipes_compared import ArmPair

SIMULATIONS = 2000
COUNTS = (100, 1_000, 10_000)
SHARES = np.linspace(0.5, 0.999, 500)
# (images, share that only the first gets right, share that only the second gets right)
NO_DIFFERENCE = ((100, 0.05, 0.05), (1_000, 0.01, 0.01), (10_000, 0.0025, 0.0025), (10_000, 0.03, 0.03))
DIFFERENCES = ((0.03, 0.08), (0.01, 0.02), (0.002, 0.004), (0.03, 0.036))


def coverage(count: int) -> NDArray[np.float64]:
    """How often the 95 % interval of an accuracy of `count` images holds the true share, for each of `SHARES`."""
    lowest = int(stats.binom.ppf(1e-12, count, SHARES[0]))
    rights = np.arange(lowest, count + 1)
    scores = [accuracy_score(int(right), count) for right in rights]
    low, high = np.array([score.low for score in scores]), np.array([score.high for score in scores])
    return np.array([stats.binom.pmf(rights[(low <= share) & (share <= high)], count, share).sum() for share in SHARES])


def answers(right: NDArray[np.bool_]) -> Predictions:
    """Predictions of two classes that are right where they are said to be."""
    logits = np.zeros((len(right), 2), np.float32)
    logits[np.arange(len(right)), (~right).astype(int)] = 1
    return Predictions(logits, np.zeros(len(right), np.int64), np.arange(len(right)), ("a", "b"))


def told(count: int, only_first: float, only_second: float, seed: int) -> tuple[float, float]:
    """In what share of simulations the exact test, and its mid-p form, tell two nets apart at 5 %."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, [only_first, only_second, 1 - only_first - only_second], SIMULATIONS)
    exact = mid = 0
    for first, second, _ in draws.tolist():
        one, other = np.ones(count, bool), np.ones(count, bool)
        other[:first] = False
        one[first : first + second] = False
        found = mcnemar(answers(one), answers(other))
        exact, mid = exact + (found.p_value < 0.05), mid + (found.mid_p_value < 0.05)
    return exact / SIMULATIONS, mid / SIMULATIONS


def verdicts(num_seeds: int, gain: float, seed: int) -> dict[str, float]:
    """In what share of simulations recipes whose differences have mean `gain` standard deviations are told apart."""
    rng = np.random.default_rng(seed)
    by_test = by_rule = 0
    for _ in range(SIMULATIONS):
        differences = rng.normal(gain, 1.0, num_seeds).tolist()
        test = paired_over_seeds([0.0] * num_seeds, differences)
        pair = ArmPair("a", "b", test, test.p_value, outperformance(differences), ())
        by_test, by_rule = by_test + test.is_sure, by_rule + (pair.verdict in ("better", "worse"))
    return {"t_test": by_test / SIMULATIONS, "rule": by_rule / SIMULATIONS}


def share_coverage(num_seeds: int) -> dict[str, float]:
    """Mean coverage, over true P in .05 to .95, of Wilson's interval of P(better) and of a percentile bootstrap."""
    wins = np.arange(num_seeds + 1)
    scores = [outperformance([1.0] * w + [-1.0] * (num_seeds - w)) for w in wins.tolist()]
    ends = {"wilson": [(score.low, score.high) for score in scores]}
    ends["bootstrap"] = [tuple(stats.binom.ppf([0.025, 0.975], num_seeds, w / num_seeds) / num_seeds) for w in wins]
    found = {}
    for name, pairs in ends.items():
        low, high = np.array(pairs).T
        shares = np.linspace(0.05, 0.95, 181)
        held = [stats.binom.pmf(wins[(low <= p + 1e-12) & (p - 1e-12 <= high)], num_seeds, p).sum() for p in shares]
        found[name] = float(np.mean(held))
    return found


def main(data: Path | None = None) -> dict[str, Any]:
    """Measure all of it; no data set is needed.

    Returns:
        "coverage", "false_alarms", "power", "recipes", "probability_coverage", and the "figures" for the table.
    """
    covered = {}
    for count in COUNTS:
        held = coverage(count)
        place = int(held.argmin())
        covered[str(count)] = {
            "mean": float(held.mean()), "minimum": float(held[place]), "minimum_at": float(SHARES[place]),
        }  # fmt: skip
    alarms = [
        dict(zip(("images", "only_first", "only_second", "exact", "mid_p"), (*case, *told(*case, seed)), strict=True))
        for seed, case in enumerate(NO_DIFFERENCE)
    ]
    powers = []
    for seed, (first, second) in enumerate(DIFFERENCES):
        count = images_needed(first, second)
        assert count is not None
        exact, mid = told(count, first, second, 100 + seed)
        formula = mcnemar_power(count, first, second)
        powers.append(
            {
                "only_first": first,
                "only_second": second,
                "images": count,
                "formula": formula,
                "exact": exact,
                "mid_p": mid,
            }
        )
    recipes = [
        {"seeds": seeds, "gain_in_deviations": gain, **verdicts(seeds, gain, seeds)}
        for seeds in (3, 5, 10)
        for gain in (0.0, 1.0, 2.0)
    ]
    return {
        "simulations": SIMULATIONS,
        "coverage": covered,
        "false_alarms": alarms,
        "power": powers,
        "recipes": recipes,
        "probability_coverage": {str(seeds): share_coverage(seeds) for seeds in (5, 10, 29)},
        "figures": figures(covered, alarms, powers, recipes),
    }


def figures(
    covered: dict[str, Any], alarms: list[dict[str, Any]], powers: list[dict[str, Any]], recipes: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was asked beside what was measured; simulations may miss by three standard errors."""
    error = 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)
    power_error = 3 * math.sqrt(0.8 * 0.2 / SIMULATIONS)
    rows = [
        {
            "name": f"coverage of the 95 % interval of {int(count):,} images, mean over p in [.5, .999] (exact)",
            "asked": "94 to 96 %",
            "measured": f"{one['mean']:.1%}, at least {one['minimum']:.1%} (p = {one['minimum_at']:g})",
            "reached": 0.94 <= one["mean"] <= 0.96,
        }
        for count, one in covered.items()
    ]
    still = [one["rule"] for one in recipes if not one["gain_in_deviations"]]
    for name, found in (
        ("false alarms of the exact McNemar test", [one["exact"] for one in alarms]),
        ("false alarms by mid-p", [one["mid_p"] for one in alarms]),
        ("false alarms of the rule for recipes, 3, 5 and 10 seeds", still),
    ):
        measured = f"{min(found):.1%} to {max(found):.1%}"
        asked = f"at most 5 % and {error:.1%} of simulation error"
        rows.append({"name": name, "asked": asked, "measured": measured, "reached": max(found) <= 0.05 + error})
    misses = [abs(one["mid_p"] - one["formula"]) for one in powers]
    shown = ", ".join(f"{one['mid_p']:.1%} (exact test {one['exact']:.1%})" for one in powers)
    asked = f"the formula's 80 %, within {power_error:.1%}"
    rows.append({"name": "power by mid-p", "asked": asked, "measured": shown, "reached": max(misses) <= power_error})
    return rows
