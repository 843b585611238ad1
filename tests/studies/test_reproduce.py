"""fovea reproduce, end to end on images that take a second."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import fovea
from fovea.cli import app
from fovea.data.imageset import ImageSet
from fovea.evaluation.intervals import PredictionInterval
from fovea.evaluation.stored import StoredRun
from fovea.programs import same_training
from fovea.runfolder import resume_command
from fovea.settings import Recipe, with_settings
from fovea.settings import test_mark as mark_of
from fovea.studies.answers import halvings, lowest_epoch
from fovea.studies.beside import augmented
from fovea.studies.published import read_program
from fovea.studies.twice import _few_images
from tests.conftest import bars

FAST: dict[str, Any] = {"epochs": 2, "threads": 1, "batch_size": 50, "verbose": False}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Grey images of 12x12, with test images of their own."""
    path = tmp_path_factory.mktemp("data") / "set.npz"
    (images, labels), (test_images, test_labels) = bars(150, side=12), bars(60, side=12, seed=1)
    np.savez(path, x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)
    return str(path)


def shell(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", *arguments])


def small(source: str, *more: str) -> list[str]:
    return ["--epochs", "2", "--set", "threads=1", "--set", f"source={source}", "--set", "batch_size=50", *more]


def test_seeds_are_added_to_what_is_there_and_read_back(source: str) -> None:
    one = fovea.reproduce("p4-fashion-conv1", seeds=1, source=source, **FAST)
    weights = Path("runs/p4-fashion-conv1/seed-0/best.safetensors")
    before = weights.stat().st_mtime_ns, weights.read_bytes()
    three = fovea.reproduce("p4-fashion-conv1", seeds=3, source=source, **FAST)
    assert (one.seeds, three.seeds) == ((0,), (0, 1, 2))
    assert (weights.stat().st_mtime_ns, weights.read_bytes()) == before
    two = fovea.reproduce("p4-fashion-conv1", seeds=2, source=source, **FAST)
    assert two.seeds == (0, 1)
    assert [path.name for path in Path("runs").iterdir() if path.is_dir()] == ["p4-fashion-conv1"]
    other = fovea.reproduce("p4-fashion-conv1", seeds=1, source=source, lr=0.01, **FAST)
    assert other.study == Path("runs/p4-fashion-conv1-2")
    assert "lr=0.01" in other.changed


def test_a_study_that_was_broken_off_goes_on_by_the_same_call(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fovea.reproduce("p2-cifar10-first", seeds=2, source=source, out="whole", **FAST)

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fovea.studies.beside.log_event", fail)  # after the first epoch's extra evaluation
        with pytest.raises(KeyboardInterrupt):
            fovea.reproduce("p2-cifar10-first", seeds=2, source=source, out="broken", **FAST)
    study = Path("broken/p2-cifar10-first")
    for folder in (study, study / "seed-0"):  # fovea train --resume would leave the extra evaluation out
        assert resume_command(folder) == "type the fovea reproduce command again"
    again = fovea.reproduce("p2-cifar10-first", seeds=2, source=source, out="broken", **FAST)
    for name in ("best.safetensors", "metrics.csv", "beside-unscaled.csv"):
        for seed in (0, 1):
            one, two = (found.study / f"seed-{seed}" / name for found in (whole, again))
            assert one.read_bytes() == two.read_bytes()


def test_the_extra_evaluation_changes_nothing_of_the_run(source: str) -> None:
    found = fovea.reproduce("p2-cifar10-answer", seeds=1, source=source, **FAST)
    plain = fovea.train("p2-cifar10-answer", source=source, **FAST)
    fovea.reproduce("p4-fashion-dense", seeds=1, source=source, **FAST)
    dense = fovea.train("p4-fashion-dense", source=source, **FAST)
    for one, two in (
        (found.study / "seed-0", plain.path),
        (Path("runs/p4-fashion-dense/seed-0"), dense.path),
    ):
        for name in ("best.safetensors", "metrics.csv", "predictions-test.npz", "last/epoch-0002/tensors.safetensors"):
            assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_extra_evaluation_is_of_the_same_weights_on_another_scale(source: str) -> None:
    fovea.reproduce("p4-fashion-dense", seeds=1, source=source, **FAST)
    run = fovea.load_run("runs/p4-fashion-dense/seed-0")
    loss, accuracy = (Path(run.path) / "beside-divided.csv").read_text().splitlines()[-1].split(",")[1:]
    images = np.load(source)["x_test"]
    net = run.model.net.eval()
    with torch.inference_mode():
        logits = net(torch.from_numpy(images[:, None] / np.float32(255)))
    labels = torch.from_numpy(np.load(source)["y_test"])
    assert float(accuracy) == pytest.approx(float((logits.argmax(1) == labels).float().mean()), abs=0.02)
    assert float(loss) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), abs=0.01)


def test_the_shell_prints_the_table_and_the_answer(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (60, 80, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        done = shell("p2-cifar10-first", "--seeds", "2", *small(source))
        assert done.exit_code == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) < width
    text = " ".join(done.stdout.split())
    assert "P2, p2-cifar10-first: 2 seeds, 2 epochs" in text
    assert "The test images are the validation images: validated on test, nothing chosen by it." in text
    assert "Not as published: epochs=2, batch_size=50." in text
    assert "test accuracy, unscaled, epoch 1 44.89%" in text
    assert "epoch 3" not in text
    assert "9 published figures left out: not trained so far." in text
    # Of six, those that came out equal for both seeds, on so few images, have no interval to lie in.
    assert re.search(r"\d of [2-6] published figures lie inside", text)
    assert "-ln(1e-07) = 16.12" in text
    assert "The same weights after the last epoch: on test images of 0 to 255 loss" in text
    assert "The cure, one scale for both, gives" in text


def test_json_holds_every_figure_and_the_answer(source: str) -> None:
    done = shell("p4-fashion-conv", "--seeds", "1", *small(source), "--set", "model=p4-conv1", "--json")
    found = json.loads(done.stdout)
    assert found["program"] == "P4"
    assert found["selected_on_test"] is False
    assert found["changed"] == ["name=p4-conv1", "epochs=2", "batch_size=50"]
    assert [one["figure"] for one in found["figures"]] == ["val_accuracy", "val_loss", "parameters"]
    assert found["figures"][0]["reason"] == "not as many epochs as published"
    assert found["figures"][2]["inside"] is False  # another net on smaller images
    assert found["answer"]["lowest_epochs"] == [2]


def test_two_programs_in_one_folder_are_compared_in_pairs(source: str) -> None:
    settings = {**FAST, "source": source, "model": "p4-dense", "steps_per_epoch": 2}
    alone = fovea.reproduce("p3-translation-on", seeds=2, **settings)
    assert "reproduce p3-translation-off into the same folder" in " ".join(alone.answer.lines)
    found = fovea.reproduce("p3-translation-off", seeds=2, **settings)
    assert set(found.answer.facts["mcnemar"]) == {"1", "2"}
    runs = {
        name: [StoredRun(f"runs/{name}/seed-{seed}") for seed in (1, 2)]
        for name in ("p3-translation-off", "p3-translation-on")
    }
    gains = [
        on.history["val_accuracy"][-1] - off.history["val_accuracy"][-1]
        for off, on in zip(runs["p3-translation-off"], runs["p3-translation-on"], strict=True)
    ]
    assert found.answer.facts["gain"]["differences"] == pytest.approx(gains)
    again = fovea.reproduce("p3-translation-on", seeds=2, **settings)
    assert again.answer.facts["gain"] == found.answer.facts["gain"]


def test_mistakes_get_one_message_and_write_nothing(source: str) -> None:
    done = shell("p2-cifar10-frist")
    assert done.exit_code == 2
    assert "Did you mean 'p2-cifar10-first'" in done.stderr
    assert shell("mnist-fast").exit_code == 2
    assert "expected 1 or more" in shell("p4-fashion-conv1", "--seeds", "0").stderr
    done = shell("p4-fashion-conv1", "--set", "first_images=7", "--set", f"source={source}")
    assert (done.exit_code, "first_images" in done.stderr) == (2, True)
    assert not Path("runs").exists()


def test_halvings_and_the_lowest_epoch_are_counted_from_1() -> None:
    assert halvings([0.1, 0.1, 0.05, 0.05, 0.025]) == [2, 4]
    assert lowest_epoch([0.5, 0.3, 0.3, 0.4]) == 2


def test_augmented_images_are_drawn_anew_each_epoch_and_alike_each_time(toy_set: ImageSet) -> None:
    settings = with_settings(Recipe(), {"augmentation": "digits"}).augmentation
    from fovea.data.augment import complete_augmentation

    settings = complete_augmentation(settings, "digits")
    first, again, next_one = (augmented(toy_set, settings, 0, epoch) for epoch in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, next_one.images)
    assert first.images.dtype == np.uint8
    assert first.images.shape == toy_set.images.shape


@pytest.mark.parametrize(
    ("settings", "mark"),
    [
        ({}, None),
        ({"validation": "test"}, "selected on test"),
        ({"validation": "test", "monitor": "train_loss"}, "validated on test, nothing chosen by it"),
        ({"validation": "test", "keep": "last"}, "validated on test, nothing chosen by it"),
        ({"validation": "test", "keep": "last", "schedule": "plateau"}, "selected on test"),
        ({"validation": "test", "keep": "last", "patience": 3}, "selected on test"),
        ({"validation": "test", "keep": "last", "stop_at": 0.99}, "validated on test, nothing chosen by it"),
        ({"validation": "test", "keep": "last", "stop_at": 0.99, "stop_monitor": "val_acc"}, "selected on test"),
    ],
)
def test_the_mark_says_whether_the_test_images_chose(settings: dict[str, Any], mark: str | None) -> None:
    assert mark_of(with_settings(Recipe(), settings)) == mark


@pytest.mark.usefixtures("undrawn")
def test_a_marked_run_says_so_wherever_its_figure_stands(source: str) -> None:
    done = CliRunner().invoke(
        app, ["train", source, "--model", "p4-dense", *small(source)[:4], "--set", "validation=test", "--name", "one"]
    )
    assert "60 test images; 3 classes" in done.stderr
    assert "the validation images are the test images, as the settings ask: selected on test" in " ".join(
        done.stderr.split()
    )
    assert ", 95% interval, selected on test" in done.stdout
    assert "validation accuracy" not in done.stdout
    run = fovea.load_run("runs/one")
    assert run.as_json()["selected_on_test"] is True
    assert run.result["selected_on_test"] is True
    assert run.model.card.metrics is not None
    assert run.model.card.metrics["selected_on_test"] is True
    assert repr(run).endswith("selected on test)")
    assert "selected on test" in run._repr_html_()
    assert "selected on test" in run.write_report().read_text(encoding="utf-8")
    judged = CliRunner().invoke(app, ["evaluate", "runs/one"])
    assert "selected on test" in judged.stdout
    study = fovea.train(source, model="p4-dense", seeds=2, validation="test", name="two", **FAST)
    assert study.as_json()["selected_on_test"] is True
    assert "selected on test" in study._repr_html_()


def test_an_unmarked_run_says_nothing(source: str) -> None:
    run = fovea.train(source, model="p4-dense", **FAST)
    assert run.mark is None
    assert "selected_on_test" not in run.as_json()
    assert not math.isnan(run.val_accuracy.value)


def test_the_program_that_fits_twice_says_what_the_first_fit_is_worth(source: str) -> None:
    settings = {**FAST, "source": source, "first_images": [60, 12], "model": "p4-dense"}
    settings.pop("batch_size")
    found = fovea.reproduce("p0-same-fit-twice", seeds=2, **settings)
    runs = {name: fovea.load_run(f"runs/p0-same-fit-twice{name}/seed-1") for name in ("", "-first", "-continued")}
    second = runs["-continued"].recipe
    assert (second.training.batch_size, second.training.steps_per_epoch) == (12, 5)  # a fifth of the images
    assert second.model.weights == str(runs["-first"].path.resolve())
    assert second.optimizer.start == "continued"
    assert runs["-first"].recipe.training.batch_size == 32
    assert runs["-first"].recipe.training.steps_per_epoch == 2
    assert runs["-first"].recipe.augmentation.rotation_range == 0
    assert runs[""].recipe.model.weights is None
    assert found.trainings_a_seed == 3
    assert [path.parts[1] for path in sorted(Path("runs").glob("*/seed-0/beside-augmented.csv"))] == [
        "p0-same-fit-twice",
        "p0-same-fit-twice-continued",
    ]
    facts = found.answer.facts
    assert (facts["count"], facts["all_count"]) == (12, 60)
    images = np.load(source)["x_test"]
    right = runs["-continued"].predict(images).predicted == np.load(source)["y_test"]
    assert facts["all"]["continued"][1] == pytest.approx(float(right.mean()))
    gain = facts["all"]["continued"][1] - facts["all"]["fresh"][1]
    assert facts["earlier_training"]["differences"][1] == pytest.approx(gain)
    times = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("best.safetensors")}
    again = fovea.reproduce("p0-same-fit-twice", seeds=2, **settings)
    assert again.as_json() == found.as_json()
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("best.safetensors")} == times


def test_the_error_bar_of_few_images_is_wide() -> None:
    assert "17 right are 85% [64.0%, 94.8%], 20 right are 100% [83.9%, 100.0%]; they overlap" in _few_images(20)
    assert "they can be told apart" in _few_images(2000)


def test_hardware_that_was_asked_for_makes_another_training_and_what_was_derived_does_not() -> None:
    first, second = (with_settings(Recipe(), {"precision": precision}) for precision in ("bf16", "fp32"))
    assert same_training(first, second)
    assert not same_training(first, second, {"precision": "fp32"})


@pytest.mark.usefixtures("few_digits")
def test_a_figure_is_known_to_half_its_last_digit_and_one_that_is_about_is_not_judged() -> None:
    record = read_program("p2-cifar10-first").record
    loss = next(figure for figure in record.published if figure.figure == "val_loss")
    assert record.rounding(loss) == pytest.approx(0.005)
    interval = PredictionInterval(9.0, 8.9, 9.1, 5)
    assert interval.holds(9.104) is False
    assert interval.holds(9.104, rounding=0.005) is True
    dense = fovea.reproduce("p4-fashion-dense", seeds=2, epochs=1, source="digits", verbose=False)
    assert all(one.inside is None for one in dense.comparisons if one.figure.about)
