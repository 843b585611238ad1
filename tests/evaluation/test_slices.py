"""Weak slices: found where they were planted, silent elsewhere; measures against drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from fovea.data.guard import fit_profile
from fovea.evaluation.paired import holm
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.slices import (
    find_slices,
    measure_images,
    sharpness,
    slices_as_json,
    slices_of,
    stroke_width,
)


def answers(right: NDArray[np.bool_], labels: NDArray[np.int64] | None = None) -> Predictions:
    """Two-class predictions that are right where asked."""
    labels = np.zeros(len(right), np.int64) if labels is None else labels
    given = np.where(right, labels, 1 - labels)
    return Predictions(np.eye(2, dtype=np.float32)[given], labels, np.arange(len(right)), ("a", "b"))


def measured(*values: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    return {name: each.astype(np.float32) for name, each in zip(("brightness", "contrast"), values, strict=False)}


def test_a_planted_weak_slice_is_found_and_only_it() -> None:
    rng = np.random.default_rng(0)
    dark, other = rng.random(2000), rng.random(2000)
    right = rng.random(2000) < np.where(dark < 0.2, 0.9, 0.99)
    value = slices_as_json("test", find_slices(answers(right), measured(dark, other)))
    (weak,) = value["weak"]
    assert (weak["measure"], weak["part"]) == ("brightness", 0)
    assert len(value["tested"]) == 10
    inside = dark <= np.quantile(dark, 0.2)
    assert weak["accuracy"]["value"] == pytest.approx(right[inside].mean())
    assert weak["others"] == pytest.approx(right[~inside].mean())
    table = [[right[inside].sum(), (~right[inside]).sum()], [right[~inside].sum(), (~right[~inside]).sum()]]
    assert weak["p_value"] == pytest.approx(stats.fisher_exact(table).pvalue)
    assert weak["words"].startswith("darkest (up to 0.")


def test_of_a_net_that_is_equally_good_everywhere_few_runs_report_a_slice() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(60):
        tested = find_slices(answers(rng.random(300) < 0.9), measured(rng.random(300), rng.random(300)))
        alarms += any(each.adjusted_p_value < 0.05 for each in tested)
    assert alarms <= 8  # 3 are expected at most, 9 in one of 250 series


def test_what_the_classes_explain_is_told_beside() -> None:
    labels = np.repeat([0, 1], 300)
    rng = np.random.default_rng(2)
    right = rng.random(600) < np.where(labels == 0, 0.8, 0.99)
    weak = [each for each in find_slices(answers(right, labels), measured(labels + rng.random(600))) if each.is_weak]
    assert {each.part for each in weak} <= {0, 1, 2}
    assert weak[0].expected == pytest.approx(right[labels == 0].mean())  # the class, not the brightness


@pytest.mark.parametrize("right", [np.ones(500, np.bool_), np.zeros(500, np.bool_), np.arange(20) > 3])
def test_where_nothing_can_be_told_nothing_is_tested(right: NDArray[np.bool_]) -> None:
    assert find_slices(answers(right), measured(np.arange(len(right), dtype=np.float64))) == []


def test_equal_values_stay_together_and_a_constant_measure_has_no_slices() -> None:
    right = np.arange(500) % 10 > 0
    assert find_slices(answers(right), measured(np.full(500, 3.0))) == []
    steps = np.repeat([0.0, 1.0, 2.0], [400, 50, 50])
    counts = [each.accuracy.count for each in find_slices(answers(right), measured(steps))]
    assert sorted(counts) == [100, 400]


def test_holm_adjusts_step_by_step() -> None:
    # Holm 1979 by hand: 4 * .01, then 3 * .02, then 2 * .03 (not below the one before), then .04 (likewise).
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_the_stroke_width_is_that_of_drawn_strokes_and_near_that_of_the_distance_transform(width: int) -> None:
    grey = np.zeros((2, 32, 32), np.float32)
    grey[0, 2:30, 8 : 8 + width] = 255
    grey[1] = 255 - grey[0]  # dark on bright
    found = stroke_width(grey)
    assert found[0] == pytest.approx(found[1])
    by_hand = 2 * 28 * width / (2 * 28 + 2 * width)  # the area over half the edge, ends included
    assert found[0] == pytest.approx(by_hand, rel=0.06)
    inside = ndimage.distance_transform_edt(np.pad(grey[0], 1))[1:-1, 1:-1]
    assert found[0] == pytest.approx(2 * inside.max() - (width % 2), rel=0.3)  # the ridge is the half width


def test_blank_images_have_no_strokes_and_no_sharpness_and_blur_lowers_it() -> None:
    rng = np.random.default_rng(3)
    blank = np.full((1, 16, 16), 7, np.float32)
    assert stroke_width(blank)[0] == sharpness(blank)[0] == 0
    sharp = (rng.random((1, 32, 32)) * 255).astype(np.float32)
    blurred = ndimage.gaussian_filter(sharp, (0, 1.5, 1.5))
    assert sharpness(blurred)[0] < sharpness(sharp)[0] / 2
    assert sharpness(sharp * 0.5)[0] == pytest.approx(sharpness(sharp)[0], rel=1e-3)  # contrast is divided out


def test_shapes_and_strokes_are_measured_on_plain_backgrounds_and_colour_in_colour() -> None:
    rng = np.random.default_rng(4)
    photos = rng.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
    digits = np.zeros((30, 12, 12, 1), np.uint8)
    digits[:, 3:9, 5:7] = 200
    labels = np.arange(30) % 3
    for images, expected in (
        (photos, {"brightness", "contrast", "sharpness", "colour"}),
        (digits, {"brightness", "contrast", "sharpness", "ink_size", "stroke_width"}),
    ):
        profile = fit_profile(images, labels, 3, (images.shape[1:3],))
        found = measure_images(images, profile)
        assert set(found) == expected
        assert all(each.shape == (30,) for each in found.values())


def test_of_many_images_some_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (900, 6, 6, 1), dtype=np.uint8)
    right = images.mean(axis=(1, 2, 3)) > np.quantile(images.mean(axis=(1, 2, 3)), 0.2)
    profile = fit_profile(images, np.zeros(900, np.int64), 1, ((6, 6),))
    monkeypatch.setattr("fovea.evaluation.slices.MAX_MEASURED", 300)
    tested = slices_of(answers(right), images, profile)
    darkest = next(each for each in tested if each.measure == "brightness" and each.part == 0)
    assert darkest.is_weak
    assert 55 <= darkest.accuracy.count <= 65
