"""val_split 0: every training image trains; what validation would have told is said to be missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Arrays, bars
from tests.machine import Machine

import fovea
from fovea import api
from fovea.errors import SettingsError
from fovea.evaluation.views import Views, fit_views
from fovea.settings import EvaluationSettings

QUICK = {"val_split": 0, "epochs": 2, "model": "p4-dense", "batch_size": 32, "verbose": False}


@pytest.fixture
def data(toy: Arrays) -> tuple[Arrays, Arrays]:
    return toy, bars(40, seed=9)


def test_all_images_train_and_nothing_is_measured_on_validation(data: tuple[Arrays, Arrays]) -> None:
    run = fovea.train(data, **QUICK)
    split = json.loads((run.path / "split.json").read_text())["splits"]
    assert split["train"]["count"] == 150
    assert "val" not in split
    assert "val_" not in (run.path / "metrics.csv").read_text()
    assert run.val_accuracy is None
    assert run.as_json()["val_accuracy"] is None
    assert run.result["best_epoch"] == 2
    assert run.result["chosen_by"] == "being the last"
    assert not (run.path / "predictions-val.npz").exists()
    assert run.findings[-1]["id"] == "no-validation"
    assert "none: val_split 0" in run._repr_html_()
    assert fovea.load_run(run.path).test_accuracy == run.test_accuracy


def test_the_terminal_says_what_is_lost(data: tuple[Arrays, Arrays], capsys: pytest.CaptureFixture[str]) -> None:
    fovea.train(data, **{**QUICK, "verbose": True})
    shown = " ".join(capsys.readouterr().err.split())
    assert "the last epoch's weights are kept, no curve can tell overfitting" in shown
    assert "0 validation" in shown
    assert "weights of epoch 2 kept: the last epoch's, train_accuracy" in shown


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"test": False}, "nothing would be measured"),
        ({"patience": 3}, "callbacks.monitor val_accuracy"),
        ({"stop_at": 0.9, "stop_monitor": "val_accuracy"}, "callbacks.stop_monitor val_accuracy"),
        ({"schedule": "plateau"}, "plateau_monitor val_loss"),
    ],
)
def test_what_needs_validation_is_refused(data: tuple[Arrays, Arrays], settings: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        fovea.train(data, **{**QUICK, **settings})
    assert not Path("runs").exists()


def test_training_figures_may_choose_where_they_are_named(data: tuple[Arrays, Arrays]) -> None:
    run = fovea.train(data, **{**QUICK, "monitor": "train_loss", "patience": 5})
    assert run.result["chosen_by"] == "train_loss"
    losses = run.history["train_loss"]
    assert run.result["best_epoch"] == 1 + int(np.argmin(losses))


def test_a_run_that_was_broken_off_ends_with_the_same_bytes(
    data: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fovea.train(data, name="whole", **QUICK)
    calls = []

    def stop_in_the_second_epoch(state: object, metrics: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    stop_in_the_second_epoch.__name__ = "nobody"
    with pytest.raises(KeyboardInterrupt):
        fovea.train(data, name="half", callbacks=[stop_in_the_second_epoch], **QUICK)
    half = fovea.train(data, resume="runs/half", callbacks=[stop_in_the_second_epoch], verbose=False)
    for name in ("metrics.csv", "best.safetensors", "predictions-test.npz"):
        assert (half.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_study_of_seeds_has_no_validation_figure_either(data: tuple[Arrays, Arrays]) -> None:
    study = fovea.train(data, seeds=2, **QUICK)
    found = study.as_json()
    assert study.val_accuracy is None
    assert found["val_accuracy"] is None
    assert [entry["val_accuracy"] for entry in found["seeds"]] == [None, None]
    assert found["test_accuracy"]["count"] == 2


@pytest.mark.usefixtures("undrawn")
def test_report_figures_and_comparison_do_without_it(data: tuple[Arrays, Arrays]) -> None:
    run = fovea.train(data, name="without", **QUICK)
    other = fovea.train(data, name="with", **{**QUICK, "val_split": 0.2})
    page = api.write_reports([run.path]).read_text()
    assert "There were no validation images" in page
    assert api.write_reports([run.path, other.path]).is_file()


def test_without_validation_every_image_is_looked_at_again() -> None:
    settings = EvaluationSettings(tta="shift", tta_fraction=0.2)
    assert fit_views(settings, None) == Views("shift", 1.0, None)


def test_views_and_a_budget_work_without_it(data: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    quick = {name: value for name, value in QUICK.items() if name != "epochs"}
    run = fovea.train(data, **quick, tta="shift", tta_fraction=0.2, budget=20)
    assert run.result["tta"] == {"views": "shift", "fraction": 1.0, "margin": None}
