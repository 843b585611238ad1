"""Confident learning: against a plain reading of its rule; planted errors; the CSV that training reads back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from typer.testing import CliRunner

import fovea
from fovea.cli import app
from fovea.data.load import read_raw
from fovea.settings import Recipe, with_settings
from fovea.studies import label_errors
from fovea.studies.folds import out_of_fold_logits
from fovea.studies.label_errors import confident_suspects, find_label_errors
from tests.conftest import Arrays, bars


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "_MOST_EPOCHS", 3)
    monkeypatch.setattr(label_errors, "NUM_FOLDS", 2)


def planted(count: int = 300) -> tuple[Arrays, np.ndarray]:
    """Bars, of which six have the label of the next class."""
    images, labels = bars(count)
    wrong = np.arange(20, count, count // 6)[:6]
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + 1) % 3
    return (images, labels), wrong


def test_the_suspects_are_those_of_the_rule() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4)).astype(np.float32) * 2
    labels = rng.integers(0, 3, 200)  # no image bears label 3
    p = softmax(logits.astype(np.float64), axis=1)
    expected, count = {}, 0
    thresholds = {c: p[labels == c, c].mean() for c in range(3)}
    for row, given in enumerate(labels.tolist()):
        is_low = p[row, given] < thresholds[given]
        count += is_low and any(p[row, c] >= thresholds[c] for c in range(3) if c != given)
        best = max(range(3), key=lambda c: p[row, c])
        if is_low and best != given:
            expected[row] = (p[row, given], best)
    found = confident_suspects(logits, labels)
    assert found.estimated_errors == count > 10
    assert found.rows.tolist() == sorted(expected, key=lambda row: expected[row][0])
    assert found.suggested.tolist() == [expected[row][1] for row in found.rows.tolist()]
    assert np.allclose(found.p_given, p[found.rows, labels[found.rows]])
    assert len(found.listed(200)) == 4
    assert np.array_equal(found.listed(10_000).rows, found.rows[: 2 * count])


def test_planted_errors_lead_the_list_and_no_test_image_is_looked_at() -> None:
    data, wrong = planted()
    raw = read_raw((data, (np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 0]))))
    found = find_label_errors(Recipe(), raw)
    assert found.agreement.count == 300
    assert set(found.indices.tolist()) <= set(range(300))
    assert set(wrong[:5].tolist()) <= set(found.indices.tolist())
    assert len(found) <= 6 == round(0.02 * 300)
    for place, row in enumerate(found.indices.tolist()):
        if row in wrong:
            assert found.suspects.suggested[place] == row % 3
    finding = found.finding()
    assert finding is not None
    assert (finding.id, finding.severity) == ("label-errors", "warning")


def test_images_that_would_be_the_test_are_not_judged() -> None:
    data, _ = planted()
    assert find_label_errors(Recipe(), read_raw(data)).agreement.count == 240
    judged = find_label_errors(Recipe(), read_raw(data), "test")
    assert (judged.agreement.count, judged.num_trainings, judged.part) == (60, 1, "train")


def test_each_image_is_answered_by_a_net_that_has_not_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def remember(recipe: Recipe, raw: object, split: object) -> np.ndarray:
        seen.append(split.indices)
        return split.indices["val"][:, None].astype(np.float32)

    monkeypatch.setattr("fovea.studies.folds.held_out_logits", remember)
    folds = [np.array([0, 3]), np.array([1]), np.array([2, 5])]
    found = out_of_fold_logits(Recipe(), read_raw(planted()[0]), folds, lambda number, of: None, np.array([4]))
    assert found[:, 0].tolist() == [0, 3, 1, 2, 5]
    for indices in seen:
        assert sorted([*indices["train"], *indices["val"]]) == [0, 1, 2, 3, 4, 5]
        assert 4 in indices["train"]


def test_the_command_writes_what_training_reads_back(tmp_path: Path) -> None:
    (images, labels), _ = planted()
    np.savez("bars.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=np.arange(9) % 3)
    shown = CliRunner().invoke(app, ["data", "bars.npz", "--labels", "--out", "found", "--json"])
    assert shown.exit_code == 3, shown.stderr  # the test images are training images
    found = json.loads(shown.stdout)
    assert "label-errors" in [finding["id"] for finding in found["findings"]]
    listed = found["label_errors"]["train"]
    assert listed["csv"] == "found/labels-bars.csv"
    page = Path(listed["page"]).read_text()
    assert page.count("data:image/png") == len(listed["list"])
    with Path(listed["csv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["part", "id", "index", "given", "suggested", "p_given", "p_suggested", "action"]
    with Path("marked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "action": "fix"} for row in rows)
    run = fovea.train("bars.npz", label_fixes="marked.csv", epochs=1, model="p4-dense", verbose=False)
    assert run.record["label_fixes"] == {"changed": len(rows), "excluded": 0}
    again = CliRunner().invoke(app, ["data", "bars.npz", "--labels", "--out", "found"])
    assert "found/labels-bars-2.csv" in again.stdout  # marks that someone made are not lost
    assert "labels    300 training labels judged out of fold" in again.stdout


def test_labels_are_judged_as_they_come() -> None:
    with pytest.raises(fovea.UserError, match="leave label_fixes out"):
        find_label_errors(with_settings(Recipe(), {"label_fixes": "x.csv"}), read_raw(planted()[0]))


def test_large_images_are_made_smaller_and_small_sets_train_longer() -> None:
    raw = read_raw((np.zeros((6, 100, 200, 3), np.uint8), np.arange(6) % 2))
    recipe = label_errors.quick_recipe(Recipe(), raw, 6)
    assert recipe.preprocessing.image_size == (32, 64)
    assert recipe.model.name == "airbench-tiny"
    assert recipe.training.epochs == 3
