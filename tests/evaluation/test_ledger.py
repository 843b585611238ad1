"""The ledger of looks: who, when, after which choices; what may have been selected on test."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import bars

import fovea
from fovea.evaluation.ledger import Look, Looks, chosen_settings, flattery, read_looks, selection_warning
from fovea.reporting.blocks import Paragraph
from fovea.reporting.discipline import discipline_alerts, discipline_blocks
from fovea.settings import Recipe, with_settings

OPTIONS: dict[str, Any] = {"threads": 1, "verbose": False, "report": False, "model": "p4-dense"}


def look(right: int, **settings: Any) -> Look:
    return Look("t", "r", "train", 100, right, settings)


def test_settings_without_seeds_are_counted_and_changes_are_named() -> None:
    looks = Looks((look(90, a=1), look(91, a=1, **{"training.seed": 4}), look(92, a=2), look(90, a=1)))
    assert (len(looks), looks.num_choices) == (4, 2)
    assert looks.changes(0) is None
    assert looks.changes(1) == [("training.seed", None, 4)]
    assert looks.changes(2) == [("a", 1, 2), ("training.seed", 4, None)]
    assert "opened 4 times" in looks.words
    assert "2 different settings" in looks.words


def test_the_folds_of_a_study_are_one_choice_and_their_number_is_another() -> None:
    folds = [look(90, **{"data.fold": fold, "training.steps_per_epoch": fold[0] % 2 + 7}) for fold in ([1, 5], [2, 5])]
    assert Looks((*folds, look(90))).num_choices == 2
    assert Looks((*folds, look(90, **{"data.fold": [1, 3], "training.steps_per_epoch": 8}))).num_choices == 2


def test_the_best_of_several_settings_is_told_and_no_other() -> None:
    looks = Looks((look(90, a=1), look(94, a=2), look(92, a=3), look(91, a=3)))
    assert looks.chosen_among(94, 100) == 3
    assert looks.chosen_among(92, 100) == 0
    assert looks.chosen_among(94, 50) == 0  # on other images
    assert flattery(930, 1000, 20) == pytest.approx(math.sqrt(0.93 * 0.07 / 1000) * math.sqrt(2 * math.log(20)))
    assert flattery(930, 1000, 1) == 0.0


def test_lines_of_an_older_ledger_are_looks_of_unknown_settings() -> None:
    looks = Looks((Look("t", "old", "train", 100), look(90, a=1)))
    assert looks.num_choices == 2
    assert looks.changes(1) is None
    assert looks.chosen_among(90, 100) == 1


def test_places_hardware_and_defaults_are_no_choices() -> None:
    recipe = with_settings(Recipe(), {"source": "mnist", "threads": 2, "lr": 0.3, "layers": ["flatten", "dense 3"]})
    found = chosen_settings(recipe)
    assert found["optimizer.lr"] == 0.3
    assert found["model.layers"].startswith("sha256 ")
    assert not {"data.source", "training.threads", "schedule.name"} & set(found)


def test_runs_write_what_they_chose_and_the_best_of_them_is_warned_of(tmp_path: Path) -> None:
    bad = fovea.train(bars(150), epochs=1, lr=1e-6, name="bad", out=tmp_path, **OPTIONS)
    assert selection_warning(bad) is None
    good = fovea.train(bars(150), epochs=6, name="good", out=tmp_path, **OPTIONS)
    looks = read_looks(good)
    assert [entry.run for entry in looks.entries] == ["bad", "good"]
    changes = {name: (before, now) for name, before, now in looks.changes(1) or []}
    assert changes["training.epochs"] == (1, 6)
    assert "optimizer.lr" in changes
    assert "Of the 2 settings" in str(selection_warning(good))
    assert selection_warning(bad) is None
    study = fovea.train(bars(150), epochs=6, seeds=2, name="s", out=tmp_path, **OPTIONS)
    assert [entry.run for entry in read_looks(study.runs[0]).entries][2:] == ["s/seed-0", "s/seed-1"]
    alert = discipline_alerts(study.runs[1])[-1]
    assert "One of the 2 seeds of the study s" in alert.text
    assert "the figure to report is their mean" in alert.text
    words = [block.text for block in discipline_blocks(good) if isinstance(block, Paragraph)]
    assert "cannot show a difference under" in words[0]
    assert "opened 4 times" in words[2]
    assert read_looks(study.runs[0]).num_choices == 2  # other seeds are no other choices
    lines = [json.loads(line) for line in (tmp_path / "test_ledger.jsonl").read_text().splitlines()]
    assert lines[1]["correct"] == good.predictions().correct.sum()


def test_the_known_wrong_labels_of_a_published_set_are_facts_of_whole_test_sets_only(real_data: Path) -> None:
    call: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 1, **OPTIONS}
    whole = fovea.train("mnist", first_images=[200, 10_000], out="r", **call)
    assert whole.record["wrong_test_labels"] == 15
    assert whole.test_limits is not None
    assert whole.test_limits.ceiling == pytest.approx(0.9985)
    assert "wrong_test_labels" not in fovea.train("mnist", first_images=[200, 100], out="r", **call).record
