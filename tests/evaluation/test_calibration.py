"""Calibration and the reject option, against brute force, torch and simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fovea.evaluation.calibration import (
    HIGHEST,
    MIN_IMAGES,
    Temperature,
    calibration_as_json,
    calibration_of,
    ece_of,
    ece_words,
    expected_ece,
    fit_temperature,
    loss_of_probabilities,
    reliability,
    temperature_words,
)
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.reject import (
    answered_above,
    area_under_risk,
    coverage_curve,
    reject_as_json,
    threshold_for,
)


def calibrated(count: int, num_classes: int = 5, seed: int = 0, spread: float = 2.0) -> Predictions:
    """Logits whose softmax is the truth: each label is drawn with the probabilities."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(count, num_classes)) * spread).astype(np.float32)
    found = Predictions(logits, np.zeros(count, np.int64), np.arange(count), tuple("abcdefghij"[:num_classes]))
    draws = rng.random((count, 1))
    labels = (found.probabilities.cumsum(axis=1) < draws).sum(axis=1).clip(0, num_classes - 1)
    return replace(found, labels=labels.astype(np.int64))


def of_confidence(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Predictions:
    """Two-class predictions with these probabilities of the answer, in [.5, 1]."""
    with np.errstate(divide="ignore"):
        logits = np.stack([np.log(confidence), np.log1p(-confidence)], axis=1).clip(-1e4, None).astype(np.float32)
    return Predictions(logits, np.where(right, 0, 1).astype(np.int64), np.arange(len(right)), ("a", "b"))


def brute_ece(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """As Guo et al. write it: bins (m / 15, (m + 1) / 15]."""
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += inside.sum() / len(right) * abs(right[inside].mean() - confidence[inside].mean())
    return float(total)


def test_the_ece_is_that_of_the_formula() -> None:
    found = replace(calibrated(700), temperature=0.6)
    assert ece_of(found) == pytest.approx(brute_ece(found.confidence, found.correct), abs=1e-12)
    assert calibration_of(found).ece == pytest.approx(ece_of(found), abs=1e-12)
    bins = reliability(found.confidence, found.correct)
    assert sum(each.count for each in bins) == 700
    assert all(each.low < (each.confidence or 1) <= each.high for each in bins if each.count)


def test_probabilities_of_exactly_1_and_on_a_bins_edge_have_their_bin() -> None:
    bins = reliability(np.array([1.0, 1.0, 0.6, 10 / 15]), np.array([True, False, True, True]))
    assert [each.count for each in bins] == [0] * 8 + [1, 1, 0, 0, 0, 0, 2]
    assert bins[-1].accuracy == 0.5
    certain = of_confidence(np.ones(4), np.array([True, True, True, False]))
    found = calibration_of(certain)
    assert found.ece == pytest.approx(0.25)
    assert found.expected.high == 0  # an answer that is certain is always right, if it is calibrated
    assert not found.is_good


def test_the_temperature_is_the_one_that_torch_finds_and_a_grid_confirms() -> None:
    found = replace(calibrated(400, seed=3), logits=calibrated(400, seed=3).logits * 2.5)
    fitted = fit_temperature(found)
    inverse = torch.ones(1, dtype=torch.float64, requires_grad=True)
    logits, labels = torch.from_numpy(found.logits).double(), torch.from_numpy(found.labels)
    optimizer = torch.optim.LBFGS([inverse], lr=0.5, max_iter=200, tolerance_grad=1e-10)

    runner_up = logits.topk(2).indices[:, 1]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits * inverse, labels) + F.cross_entropy(logits * inverse, runner_up) * 0.5 / 400
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fitted.value == pytest.approx(1 / float(inverse.detach()), rel=1e-4)
    best = loss_of_probabilities(replace(found, temperature=fitted.value))
    for temperature in np.linspace(0.1, 10, 100).tolist():
        assert loss_of_probabilities(replace(found, temperature=temperature)) >= best - 1e-4


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_logits_that_were_scaled_are_scaled_back_and_no_answer_changes(scale: float) -> None:
    true = calibrated(20_000, seed=5)
    found = replace(true, logits=true.logits * np.float32(scale))
    fitted = fit_temperature(found)
    assert fitted.value == pytest.approx(scale, rel=0.03)  # below 1 too: under-confident, as label smoothing makes nets
    mended = replace(found, temperature=fitted.value)
    assert np.array_equal(mended.predicted, found.predicted)
    assert np.array_equal(mended.correct, found.correct)
    assert calibration_of(mended).is_good
    assert scale == 1.0 or not calibration_of(found).is_good


def test_where_nothing_can_be_learnt_the_temperature_stays_1_and_the_reason_is_told() -> None:
    sure = np.full(200, 0.9)
    few = MIN_IMAGES - 1
    cases = {
        "no validation images": None,
        f"{few} validation images are too few": of_confidence(sure[:few], np.arange(few) > 20),
    }
    for reason, found in cases.items():
        fitted = fit_temperature(found)
        assert (fitted.value, fitted.count) == (1.0, 0)
        assert reason in fitted.reason


def test_few_mistakes_or_none_ask_for_no_certainty() -> None:
    """The net is as sure as if it had made half a mistake more."""
    for count in (100, 1000):
        for mistakes in (0, 1):
            found = of_confidence(np.full(count, 0.9), np.arange(count) >= mistakes)
            fitted = fit_temperature(found)
            mended = replace(found, temperature=fitted.value)
            assert fitted.count == count
            assert 1 - mended.confidence[0] == pytest.approx((mistakes + 0.5) / (count + 0.5), rel=0.01)
    sure = calibrated(500, seed=8, spread=8.0)
    labels = sure.predicted
    least = int(np.argmin(sure.confidence))
    labels[least] = (labels[least] + 1) % 5  # one mistake, of the least sure answer: it alone would ask for T near 0
    assert 0.2 < fit_temperature(replace(sure, labels=labels)).value < 1.0


def test_all_answers_wrong_make_the_net_as_unsure_as_allowed() -> None:
    fitted = fit_temperature(of_confidence(np.full(200, 0.9), np.zeros(200, np.bool_)))
    assert fitted.value == pytest.approx(HIGHEST, rel=1e-3)


def test_the_expected_ece_is_that_of_answers_that_are_right_as_often_as_they_say() -> None:
    confidence = calibrated(500).confidence
    rng = np.random.default_rng(7)
    direct = [brute_ece(confidence, rng.random(500) < confidence) for _ in range(400)]
    found = expected_ece(confidence)
    assert found.mean == pytest.approx(np.mean(direct), rel=0.05)
    assert found.low == pytest.approx(np.quantile(direct, 0.025), rel=0.15)
    assert found.high == pytest.approx(np.quantile(direct, 0.975), rel=0.15)
    inside = np.mean([found.low <= each <= found.high for each in direct])
    assert 0.9 < inside < 0.99
    assert expected_ece(confidence) == found  # the same bytes in equal runs


def test_calibration_json_holds_each_split_before_and_after() -> None:
    found = {
        "val": replace(calibrated(300), temperature=0.5),
        "test": replace(calibrated(200, seed=1), temperature=0.5),
    }
    value = calibration_as_json(found, Temperature(0.5, 300))
    assert value["temperature"] == 0.5
    test = value["splits"]["test"]
    raw = replace(found["test"], temperature=1.0)
    assert test["without_temperature"]["ece"] == pytest.approx(brute_ece(raw.confidence, raw.correct))
    assert test["loss"] == pytest.approx(F.cross_entropy(*_torch(found["test"], 0.5)).item(), rel=1e-5)
    assert "300 validation images" in temperature_words(value)
    assert ece_words(test).startswith(f"ECE {test['ece']:.2%}, if perfect ")
    assert "no validation images" in temperature_words(calibration_as_json(found, fit_temperature(None)))


def _torch(found: Predictions, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(found.logits) / temperature, torch.from_numpy(found.labels)


def test_a_threshold_answers_the_share_that_it_was_chosen_for() -> None:
    chosen = calibrated(1000, seed=2)
    for share in (1.0, 0.95, 0.8, 0.001):
        threshold = threshold_for(chosen, share)
        answered = (chosen.confidence >= threshold).sum()
        assert math.ceil(share * 1000) <= answered <= math.ceil(share * 1000) + 2  # the cut to six decimals
    measured = calibrated(800, seed=3)
    found = answered_above(measured, 0.8, threshold_for(chosen, 0.8))
    given = measured.confidence >= found.threshold
    assert found.coverage.value == pytest.approx(given.mean())
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(measured.correct[given].mean())
    assert found.accuracy.value > measured.correct.mean()
    assert answered_above(measured, 0.8, 1.1).accuracy is None


def test_accuracy_against_coverage_is_that_of_the_surest_answers() -> None:
    found = calibrated(300, seed=4)
    coverage, accuracy = coverage_curve(found)
    order = np.argsort(-found.confidence, kind="stable")
    for count in (1, 7, 150, 300):
        assert coverage[count - 1] == pytest.approx(count / 300)
        assert accuracy[count - 1] == pytest.approx(found.correct[order[:count]].mean())
    risks = [1 - found.correct[order[:count]].mean() for count in range(1, 301)]
    assert area_under_risk(found) == pytest.approx(np.mean(risks))


def test_answers_of_one_probability_stand_in_no_order() -> None:
    right = np.array([False, True, True, True])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        accuracy = coverage_curve(of_confidence(np.ones(4), right[order]))[1]
        assert accuracy.tolist() == pytest.approx([0.75] * 4)
    assert area_under_risk(of_confidence(np.full(4, 0.9), np.ones(4, np.bool_))) == 0
    assert area_under_risk(of_confidence(np.full(4, 0.9), np.zeros(4, np.bool_))) == 1


def test_without_validation_images_there_are_no_thresholds_but_the_curve() -> None:
    found = calibrated(20, seed=6)
    value = reject_as_json(None, found, same_images=False)
    assert value["thresholds"] == []
    assert [each["coverage"] for each in value["curve"]] == pytest.approx([n / 20 for n in range(1, 21)])
    value = reject_as_json(found, found, same_images=True)
    assert len(value["thresholds"]) == 5
    assert value["chosen_on_the_same_images"]
