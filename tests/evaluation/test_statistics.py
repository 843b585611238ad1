"""Metrics, intervals and paired tests against scikit-learn, scipy and brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn import metrics as sk

from fovea.errors import DataError
from fovea.evaluation.findings import find_in_predictions
from fovea.evaluation.intervals import accuracy_score, mean_score, prediction_interval, standard_deviation
from fovea.evaluation.metrics import (
    accuracy,
    class_scores,
    confusion_matrix,
    constant_predictor_accuracy,
    cross_entropy,
    top_k_accuracy,
)
from fovea.evaluation.paired import _difference, mcnemar, paired_bootstrap, paired_over_seeds
from fovea.evaluation.predictions import Predictions, predictions_as_npz, read_predictions


def predictions(count: int = 300, num_classes: int = 7, seed: int = 0, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += np.float32(skill)
    return Predictions(logits, labels, np.arange(count), tuple("abcdefghij"[:num_classes]))


def answers(right: list[bool]) -> Predictions:
    """Two-class predictions that are right where asked."""
    logits = np.array([[1.0, 0.0] if yes else [0.0, 1.0] for yes in right], np.float32)
    return Predictions(logits, np.zeros(len(right), np.int64), np.arange(len(right)), ("a", "b"))


def test_metrics_agree_with_scikit_learn() -> None:
    found = predictions()
    assert accuracy(found).value == sk.accuracy_score(found.labels, found.predicted)
    assert np.array_equal(confusion_matrix(found), sk.confusion_matrix(found.labels, found.predicted))
    assert math.isclose(cross_entropy(found), sk.log_loss(found.labels, found.probabilities), rel_tol=1e-6)
    assert top_k_accuracy(found, 3).value == sk.top_k_accuracy_score(found.labels, found.logits, k=3)
    report = sk.classification_report(found.labels, found.predicted, output_dict=True)
    for index, score in enumerate(class_scores(found)):
        expected = report[str(index)]
        assert score.recall is not None
        assert (score.precision, score.recall.value, score.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )


def test_the_loss_agrees_with_torch() -> None:
    found = predictions()
    expected = F.cross_entropy(torch.from_numpy(found.logits), torch.from_numpy(found.labels))
    assert math.isclose(cross_entropy(found), float(expected), rel_tol=1e-5)


def test_a_class_without_images_has_no_recall() -> None:
    found = Predictions(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), np.arange(2), ("a", "b", "c"))
    assert class_scores(found)[2].recall is None


@pytest.mark.parametrize(("right", "count"), [(0, 20), (17, 20), (20, 20), (9960, 10000)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    score = accuracy_score(right, count)
    assert score.low is not None
    assert score.high is not None
    z, share = stats.norm.ppf(0.975), right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    assert (score.low, score.high) == pytest.approx((max(middle - half, 0), min(middle + half, 1)), abs=1e-9)
    assert score.as_json() == {"value": share, "low": score.low, "high": score.high, "count": count}


def test_an_interval_prints_with_its_count() -> None:
    assert str(accuracy_score(17, 20)) == "85.00% [63.96%, 94.76%] (20 images)"


def test_the_mean_over_seeds_has_students_interval() -> None:
    values = [0.991, 0.993, 0.994, 0.990]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    score = mean_score(values)
    assert (score.low, score.high) == pytest.approx(expected)
    assert (score.count, score.unit) == (4, "seeds")
    assert standard_deviation(values) == pytest.approx(np.std(values, ddof=1))
    assert mean_score([0.9]).low is None
    alike = mean_score([0.9, 0.9, 0.9])  # three times the same step: no interval, and not one of no width
    assert (alike.low, alike.high, alike.count) == (None, None, 3)


def exact_p_value(only_first: int, only_second: int) -> float:
    """The share of all coin sequences that are at least as uneven."""
    differing = only_first + only_second
    uneven = abs(only_first - only_second)
    return sum(abs(2 * sum(coins) - differing) >= uneven for coins in product((0, 1), repeat=differing)) / 2**differing


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 5), (3, 8), (1, 1), (6, 2), (5, 5), (0, 0)])
def test_mcnemar_agrees_with_counting_every_outcome(only_first: int, only_second: int) -> None:
    first = answers([True] * only_first + [False] * only_second + [True] * 10 + [False] * 3)
    second = answers([False] * only_first + [True] * only_second + [True] * 10 + [False] * 3)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(exact_p_value(only_first, only_second))
    if only_first != only_second:
        differing, fewer = only_first + only_second, min(only_first, only_second)
        expected = 2 * (stats.binom.cdf(fewer, differing, 0.5) - stats.binom.pmf(fewer, differing, 0.5) / 2)
        assert found.mid_p_value == pytest.approx(expected)
    assert found.mid_p_value <= found.p_value


def test_the_paired_bootstrap_agrees_with_scipys() -> None:
    first, second = predictions(seed=1, skill=1.0), predictions(seed=2, skill=1.6)
    found = paired_bootstrap(first, second)
    difference = second.correct.astype(float) - first.correct.astype(float)
    expected = stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.value == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.007)


def test_different_images_are_not_paired() -> None:
    first, second = predictions(), predictions(count=299)
    with pytest.raises(DataError, match="not made on the same images"):
        mcnemar(first, second)
    with pytest.raises(DataError, match="different classes"):
        paired_bootstrap(first, predictions(num_classes=6))


def test_predictions_survive_their_file_and_give_the_same_bytes(tmp_path) -> None:
    found = predictions()
    content = predictions_as_npz(found)
    assert content == predictions_as_npz(predictions())
    (tmp_path / "p.npz").write_bytes(content)
    again = read_predictions(tmp_path / "p.npz")
    assert np.array_equal(again.logits, found.logits)
    assert again.classes == found.classes
    (tmp_path / "p.npz").write_bytes(content[:-40])
    with pytest.raises(DataError, match=r"p\.npz cannot be read"):
        read_predictions(tmp_path / "p.npz")


def test_a_constant_answer_is_found_and_a_good_net_is_left_alone() -> None:
    always = answers([True] * 10)
    mixed = Predictions(always.logits, np.array([0] * 7 + [1] * 3), always.ids, always.classes)
    assert constant_predictor_accuracy(mixed) == 0.7
    assert [finding.id for finding in find_in_predictions(mixed, "val")] == ["constant-predictor"]
    assert find_in_predictions(always, "test") == []  # one true class: nothing can be told
    weak = predictions(count=30, num_classes=2, skill=0.1)
    assert [finding.id for finding in find_in_predictions(weak, "val")] == ["no-better-than-constant"]
    assert str(accuracy(weak, 0.8)) in find_in_predictions(weak, "val", 0.8)[0].cause
    assert find_in_predictions(predictions(skill=3.0), "val") == []


@pytest.mark.parametrize(
    ("count", "only_first", "only_second"),
    [
        (1000, 0.01, 0.0),
        (1000, 0.02, 0.005),
        (10_000, 0.004, 0.001),
        (100, 0.1, 0.05),
        (20, 0.3, 0.1),
        (144, 0.03, 0.0),
    ],
)
def test_the_interval_of_a_difference_holds_the_true_one_as_often_as_it_says(
    count: int, only_first: float, only_second: float
) -> None:
    draws = np.random.default_rng(0).multinomial(count, [only_first, only_second, 1 - only_first - only_second], 2000)
    intervals = [_difference(int(first), int(second), count, 0.95) for first, second, _ in draws]
    held = [score.low <= only_second - only_first <= score.high for score in intervals]  # type: ignore[operator]
    assert np.mean(held) > 0.935  # .95 less three standard errors of 2,000 draws


def test_where_the_exact_test_is_sure_the_interval_of_the_difference_leaves_out_zero() -> None:
    for only_first, only_second in product(range(12), repeat=2):
        outcomes = [True] * only_first + [False] * only_second
        first = answers(outcomes + [True] * 40)
        second = answers([not right for right in outcomes] + [True] * 40)
        found = mcnemar(first, second)
        difference = found.difference
        assert difference.low is not None
        assert difference.high is not None
        assert difference.value == pytest.approx(second.correct.mean() - first.correct.mean())
        assert difference.low < difference.value < difference.high
        if found.p_value < 0.05:
            assert difference.low > 0 or difference.high < 0


def test_a_prediction_interval_holds_one_more_draw_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.9, 0.01, (4000, 6))
    held = [prediction_interval(row[:5].tolist()).holds(row[5]) for row in draws]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_a_prediction_interval_is_students() -> None:
    values = [0.91, 0.93, 0.92, 0.95, 0.90]
    found = prediction_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), np.std(values, ddof=1) * np.sqrt(1 + 1 / 5))
    assert (found.low, found.high) == pytest.approx((low, high))
    cut = prediction_interval([0.9, 0.99], limits=(0.0, 1.0))
    assert (cut.low, cut.high) == (0.0, 1.0)
    alike = prediction_interval([0.9, 0.9])
    assert alike.low is None
    assert alike.holds(0.9) is None
    alone = prediction_interval([0.9])
    assert (alone.low, alone.holds(0.9)) == (None, None)


def test_the_paired_test_over_seeds_is_students() -> None:
    first, second = [0.90, 0.91, 0.92, 0.93], [0.93, 0.92, 0.96, 0.95]
    found, expected = paired_over_seeds(first, second), stats.ttest_rel(second, first)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))
    assert found.is_sure == (expected.pvalue < 0.05)
    assert found.num_lower == 0
    assert paired_over_seeds(second, first).num_lower == 4


def test_a_paired_test_without_spread_or_seeds() -> None:
    assert paired_over_seeds([0.5, 0.5], [0.5, 0.5]).p_value == 1.0
    alike = paired_over_seeds([0.5, 0.25], [0.75, 0.5])  # the same step twice: a sign test of two is sure of nothing
    assert (alike.p_value, alike.is_sure, alike.difference.low) == (0.5, False, None)
    assert paired_over_seeds([0.5], [0.75]).p_value is None
    with pytest.raises(ValueError, match="at least one seed"):
        paired_over_seeds([], [])
