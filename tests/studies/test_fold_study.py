"""Folds: each training image judges once; the study is a study of seeds in all else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold
from typer.testing import CliRunner

import fovea
from fovea import api
from fovea.cli import app
from fovea.data.split import cut_folds, make_split
from fovea.errors import DataError, SettingsError
from fovea.evaluation.intervals import accuracy_score
from fovea.reporting.console import result_lines
from fovea.settings import DataSettings
from fovea.studies.seeds import SeedStudy
from tests.conftest import Arrays, bars

QUICK = {"epochs": 2, "model": "p4-dense", "batch_size": 32, "verbose": False}


@pytest.fixture
def data(toy: Arrays) -> tuple[Arrays, Arrays]:
    return toy, bars(40, seed=9)


def test_the_folds_are_scikit_learns_and_cover_every_image_once() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 21])
    folds = cut_folds(np.arange(101), labels, 5, DataSettings(split_seed=7))
    expected = StratifiedKFold(5, shuffle=True, random_state=7).split(labels, labels)
    assert [fold.tolist() for fold in folds] == [held.tolist() for _, held in expected]
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(101))


def test_an_image_alone_in_its_class_is_in_no_fold() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2])
    folds = cut_folds(np.arange(21), labels, 2, DataSettings())
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(20))


def test_a_single_fold_is_a_setting() -> None:
    labels = {"train": np.arange(100) % 4, "test": np.arange(8) % 4}
    split, _ = make_split(labels, DataSettings(fold=(2, 5)))
    assert np.array_equal(split.indices["val"], cut_folds(np.arange(100), labels["train"], 5, DataSettings())[1])
    assert np.array_equal(np.sort(np.concatenate([split.indices["train"], split.indices["val"]])), np.arange(100))
    for bad in ((0, 5), (6, 5), (1, 1)):
        with pytest.raises(SettingsError, match=r"data\.fold"):
            fovea.train((np.zeros((9, 4, 4)), np.arange(9) % 3), fold=bad)
    with pytest.raises(SettingsError, match="fold would leave the validation images of this data unused"):
        make_split({**labels, "val": np.arange(4)}, DataSettings(fold=(1, 5)))
    with pytest.raises(SettingsError, match="too few for 5 folds"):
        make_split({**labels, "train": np.arange(4) % 2}, DataSettings(fold=(1, 5)))


def test_mean_spread_and_pooled_answers(data: tuple[Arrays, Arrays]) -> None:
    study = fovea.train(data, folds=3, confidence=0.9, **QUICK)
    assert isinstance(study, fovea.FoldStudy)
    held = [run.split.indices["val"] for run in study.runs]
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(150))
    assert [run.recipe.data.fold for run in study.runs] == [(1, 3), (2, 3), (3, 3)]
    assert {run.recipe.training.seed for run in study.runs} == {0}
    right = sum(int(run.predictions("val").correct.sum()) for run in study.runs)
    assert study.out_of_fold == accuracy_score(right, 150, 0.9)
    tests = [run.test_accuracy.value for run in study.runs]
    assert study.test_accuracy.value == pytest.approx(np.mean(tests))
    assert study.test_accuracy.low is None
    assert study.standard_deviation == pytest.approx(np.std(tests, ddof=1))
    found = study.as_json()
    assert found["out_of_fold_accuracy"]["count"] == 150
    assert [entry["fold"] for entry in found["folds"]] == [1, 2, 3]
    shown = result_lines(study)
    assert f"{study.out_of_fold}, 90% interval, each by a net not trained on it; they chose its epoch" in shown
    assert "points from fold to fold" in shown
    page = api.write_reports([study.path]).read_text()
    assert "no error of their mean follows" in page
    assert "the 90% interval speaks of other images" in page
    assert "95% interval" not in page
    of_seeds = SeedStudy(study.path.parent, study.seeds, study.runs)
    for pair in ((of_seeds, study), (study, of_seeds)):  # folds are no paired seeds
        with pytest.raises(SettingsError, match=r"folds cannot be compared\. .* --seeds, or compare single runs"):
            fovea.compare(*pair)
    with pytest.raises(DataError, match="fold-1, fold-2, fold-3"):
        fovea.load_run(study.path)


def test_a_fold_of_the_study_is_trained_again_from_its_settings(data: tuple[Arrays, Arrays]) -> None:
    study = fovea.train(data, folds=2, **QUICK)
    alone = fovea.train(data, **study.runs[1].settings | {"verbose": False})
    for name in ("best.safetensors", "predictions-val.npz", "split.json"):
        assert (alone.path / name).read_bytes() == (study.runs[1].path / name).read_bytes()


def test_a_study_that_was_broken_off_goes_on(data: tuple[Arrays, Arrays]) -> None:
    data = (bars(151), data[1])  # the folds have epochs of 7 and of 8 batches
    quick = {**QUICK, "batch_size": 16}
    whole = fovea.train(data, folds=4, name="whole", **quick)
    assert {run.recipe.training.steps_per_epoch for run in whole.runs} == {7, 8}
    ends = []

    class Breaks(fovea.Callback):
        def on_epoch(self, state: object, metrics: object) -> None:
            ends.append(1)
            if len(ends) == 3:  # in the second fold, after its first epoch
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fovea.train(data, folds=4, name="half", callbacks=[Breaks()], **quick)
    half = fovea.train(data, resume="runs/half", callbacks=[Breaks()], verbose=False)
    assert half.out_of_fold == whole.out_of_fold
    for one, other in zip(half.runs, whole.runs, strict=True):
        assert (one.path / "best.safetensors").read_bytes() == (other.path / "best.safetensors").read_bytes()
    finished = fovea.train(data, resume="runs/half", verbose=False)
    assert finished.out_of_fold == whole.out_of_fold


def test_changed_data_are_noticed_before_the_next_fold(data: tuple[Arrays, Arrays]) -> None:
    ends = []

    class Breaks(fovea.Callback):
        def on_epoch(self, state: object, metrics: object) -> None:
            ends.append(1)
            if len(ends) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fovea.train(data, folds=2, name="half", callbacks=[Breaks()], **QUICK)
    (images, labels), test = data
    other = images.copy()
    other[0] = 0
    with pytest.raises(SettingsError, match="images have changed"):
        fovea.train(((other, labels), test), resume="runs/half", callbacks=[Breaks()], verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "two folds or more"),
        ({"folds": 3, "seeds": 2}, "two studies"),
        ({"folds": 3, "val_split": 0.2}, "leave val_split out"),
        ({"folds": 3, "fold": (1, 3)}, "leave fold out"),
        ({"folds": 3, "profile": True}, "profile"),
    ],
)
def test_what_contradicts_folds_is_refused(toy: Arrays, options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fovea.train(toy, **{**QUICK, **options})
    assert not Path("runs").exists()


def test_the_shell_face() -> None:
    images, labels = bars(60)
    np.savez("bars.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    command = ["train", "bars.npz", "--folds", "2", "--model", "p4-dense", "--epochs", "1", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["run"] == "runs/bars-p4-dense-folds"
