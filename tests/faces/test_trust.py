"""How far to believe single answers, from training to every face: temperature, thresholds, slices, neighbours."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import Arrays, bars, shell
from torch import nn

import fovea
from fovea.evaluation.calibration import ece_of
from fovea.evaluation.gallery import read_gallery
from fovea.evaluation.intervals import accuracy_score
from fovea.evaluation.predictions import arrays_as_npz, read_predictions
from fovea.reporting.figures import class_counts_of
from fovea.reporting.style import new_figure
from fovea.reporting.trust_figures import _draw_bins
from fovea.reporting.trust_sections import _verdict, neighbour_blocks, trust_sections
from fovea.runfolder import write_manifest
from fovea.runview import Run

OPTIONS: dict[str, Any] = {"epochs": 2, "threads": 1, "verbose": False, "report": False, "val_split": 0.25}


def noisy_bars(count: int, seed: int = 0) -> Arrays:
    """Bars of which one in ten has another label: they cannot all be answered rightly."""
    images, labels = bars(count, seed=seed)
    wrong = np.random.default_rng(seed + 1).random(count) < 0.1
    return images, np.where(wrong, (labels + 1) % 3, labels)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """600 images: 360 train, 120 validation, 120 test."""
    folder = tmp_path_factory.mktemp("trust")
    images, labels = noisy_bars(600)
    np.savez(folder / "set.npz", x=images, y=labels)
    return fovea.train(str(folder / "set.npz"), out=folder / "runs", model="p4-dense", **OPTIONS)


def test_the_temperature_is_fitted_on_validation_and_changes_no_answer(run: Run) -> None:
    assert run.calibration is not None
    assert run.calibration["fitted_on"] == 120
    assert run.temperature == run.calibration["temperature"] != 1
    raw, found = read_predictions(run.path / "predictions-test.npz"), run.predictions("test")
    assert raw.temperature == 1
    assert np.array_equal(raw.logits, found.logits)
    assert np.array_equal(raw.predicted, found.probabilities.argmax(axis=1))
    test = run.calibration["splits"]["test"]
    assert test["ece"] == pytest.approx(ece_of(found))
    assert test["without_temperature"]["ece"] == pytest.approx(ece_of(raw))
    assert run.calibration["splits"]["val"]["loss"] < run.calibration["splits"]["val"]["without_temperature"]["loss"]


def test_every_face_gives_the_same_probabilities(run: Run) -> None:
    images, _ = bars(20, seed=5)
    model = fovea.load_model(run.path / "best.safetensors")
    found = model.predict(images)
    assert model.card.temperature == run.temperature
    expected = torch.softmax(torch.from_numpy(found.logits).double() / run.temperature, 1).numpy()
    assert np.allclose(found.probabilities, expected)
    assert np.allclose(run.predict(images).probabilities, expected)
    np.save("new.npy", images)
    rows = list(csv.DictReader(io.StringIO(shell("predict", run.path, "new.npy").stdout)))
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-5)
    with (run.path / "predictions-test.csv").open(newline="") as file:
        stored = [float(row["probability"]) for row in csv.DictReader(file)]
    assert stored == pytest.approx(run.predictions("test").confidence.tolist(), abs=1e-5)


def test_an_exported_net_gives_the_same_probabilities(run: Run) -> None:
    pytest.importorskip("h5py")
    from tests.faces.test_keras_commands import probabilities

    assert shell("export", run.path, "net.keras").exit_code == 0
    images, _ = bars(20, seed=5)
    with torch.no_grad():
        model = fovea.load_model(run.path)
        logits = model.model.net(model.preprocessor.to_input(torch.from_numpy(images[:, None]).float()))
    found = probabilities(Path("net.keras"), images[..., None])
    assert np.abs(found - torch.softmax(logits / run.temperature, 1).numpy()).max() < 1e-5


def test_answers_below_the_threshold_stay_without_a_label(run: Run) -> None:
    images, _ = noisy_bars(40, seed=9)
    np.save("new.npy", images)
    confidence = fovea.load_model(run.path).predict(images).confidence
    threshold = float(np.median(confidence))
    done = shell("predict", run.path, "new.npy", "--min-confidence", threshold, "--top-k", 2)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    sure = confidence >= threshold
    assert [row["label"] != "" for row in rows] == sure.tolist()
    assert [row["label_2"] != "" for row in rows] == sure.tolist()
    assert all(row["probability"] for row in rows)
    assert f"{(~sure).sum()} of 40 images are left without a label" in done.stderr
    lines = shell("predict", run.path, "new.npy", "--min-confidence", threshold, "--format", "jsonl").stdout
    found = [json.loads(line) for line in lines.splitlines()]
    assert [each["label"] is not None for each in found] == sure.tolist()
    assert all(each["top_k"][0]["label"] for each in found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min-confidence", "1.5"], "expected a probability, 0 to 1"),
        (["--min-confidence", "nan"], "expected a probability, 0 to 1"),
        (["--min-confidence", ".9", "--submission", "out.csv"], "leave one of them out"),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(run: Run, options: list[str], words: str) -> None:
    np.save("new.npy", bars(3)[0])
    done = shell("predict", run.path, "new.npy", *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not Path("out.csv").exists()


def test_evaluate_shows_the_calibration_on_its_images(run: Run) -> None:
    assert run.calibration is not None
    own = json.loads(shell("evaluate", run.path, "--json").stdout)["ece"]
    assert own["value"] == pytest.approx(run.calibration["splits"]["test"]["ece"], abs=1e-6)
    images, labels = noisy_bars(80, seed=3)
    np.savez("other.npz", x=images, y=labels)
    other = json.loads(shell("evaluate", run.path, "--data", "other.npz", "--json").stdout)["ece"]
    assert other["count"] == 80
    assert 0 <= other["expected"]["low"] <= other["expected"]["high"] <= 1
    assert "calibration    ECE " in shell("evaluate", run.path, "--data", "other.npz").stdout
    assert run.as_json()["ece"]["value"] == run.calibration["splits"]["test"]["ece"]


def test_thresholds_are_chosen_on_validation_and_measured_on_test(run: Run) -> None:
    assert run.calibration is not None
    reject = run.calibration["reject"]
    assert reject["split"] == "test"
    assert not reject["chosen_on_the_same_images"]
    val, test = run.predictions("val").confidence, run.predictions("test")
    for each in reject["thresholds"]:
        assert (val >= each["threshold"]).mean() >= each["share"]
        given = test.confidence >= each["threshold"]
        assert each["coverage"]["value"] == pytest.approx(given.mean())
        assert each["accuracy"]["value"] == pytest.approx(test.correct[given].mean())


def test_mistakes_lie_beside_training_images_of_the_run(run: Run) -> None:
    gallery = run.gallery
    count = min(30, int((~run.predictions("test").correct).sum()))
    assert count > 3
    assert gallery.neighbours.shape == (count, 3, 8, 8, 1)
    assert gallery.neighbour_labels.shape == (count, 3)
    with np.load(run.recipe.data.source or "") as data:
        images = data["x"][run.split.indices["train"]]
    for neighbour in gallery.neighbours.reshape(-1, 8, 8):
        assert (images == neighbour).all(axis=(1, 2)).any()


def test_equal_runs_leave_equal_bytes(run: Run, tmp_path: Path) -> None:
    again = fovea.train(run.recipe.data.source, out=tmp_path, model="p4-dense", **OPTIONS)
    for name in ("calibration.json", "slices.json", "examples.npz", "best.safetensors", "result.json"):
        one, other = (run.path / name).read_bytes(), (again.path / name).read_bytes()
        assert one == other or name == "result.json", name
    assert again.result["temperature"] == run.result["temperature"]


@pytest.mark.pictures
def test_the_page_says_how_far_to_believe_an_answer(run: Run, tmp_path: Path) -> None:
    page = run.write_report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<h2 id="calibration-title">Calibration</h2>' in page
    assert "fitted on 120 validation images" in page
    assert "Reliability diagram of 120 test images" in page
    assert "If unsure answers are left out" in page
    assert "What the net was reminded of" in page
    assert "Where it is weak" not in page  # 120 images with random labels: silence


@pytest.mark.usefixtures("undrawn")
def test_a_weak_slice_stands_on_the_page_and_in_the_terminal(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "weak"))
    value = json.loads((folder / "slices.json").read_text())
    score = {"value": 0.9, "low": 0.8, "high": 0.95, "count": 24}
    weak = {"words": "darkest (up to 9 levels)", "accuracy": score, "others": 0.99, "expected": 0.98, "p_value": 1e-4}
    (folder / "slices.json").write_text(json.dumps({**value, "weak": [weak]}))
    write_manifest(folder)
    assert shell("report", folder).exit_code == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Where it is weak" in page
    assert "darkest (up to 9 levels)" in page
    from fovea.reporting.console import result_lines

    assert "weak on              darkest (up to 9 levels): 90.00%, others 99.00%" in result_lines(Run(folder))


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_an_older_fovea_still_has_its_report(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "older"))
    for name in ("calibration.json", "slices.json"):
        (folder / name).unlink()
    with np.load(folder / "examples.npz") as archive:
        older = {name: archive[name] for name in archive.files if not name.startswith("neighbour")}
    (folder / "examples.npz").write_bytes(arrays_as_npz(older))
    result = json.loads((folder / "result.json").read_text())
    result.pop("temperature")
    (folder / "result.json").write_text(json.dumps(result))
    write_manifest(folder)
    assert len(read_gallery(folder / "examples.npz").neighbours) == 0
    assert Run(folder).temperature == 1
    assert shell("report", folder).exit_code == 0
    done = shell("report", folder, "--figure", "calibration")
    assert done.exit_code == 2
    assert "has no calibration.json" in done.stderr


@pytest.mark.pictures
def test_saliency_is_drawn_on_demand_and_refused_where_the_net_is_not_here(run: Run, tmp_path: Path) -> None:
    assert not (run.path / "saliency.png").exists()
    assert shell("report", run.path, "--figure", "saliency", "--out", tmp_path).exit_code == 0
    assert (tmp_path / "saliency.png").is_file()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    own = fovea.train(noisy_bars(150), model=net, out=tmp_path, name="own", **OPTIONS)
    done = shell("report", own.path, "--figure", "saliency")
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert "module" in done.stderr


def test_images_above_64_pixels_have_saliency_too(tmp_path: Path) -> None:
    images, labels = bars(60)
    large = np.repeat(np.repeat(images, 9, axis=1), 9, axis=2)
    flat = ["maxpool 9", "flatten", "dense classes"]
    found = fovea.train((large, labels), model=flat, out=tmp_path, **(OPTIONS | {"lr": 1e-9, "epochs": 1}))
    assert found.gallery.neighbours.shape[2:] == (64, 64, 1)
    assert "64 pixels" in found.plot_saliency().get_suptitle()


def test_what_is_said_of_probabilities_is_what_the_images_show() -> None:
    judged: dict[str, Any] = {"ece": 0.05, "expected": {"low": 0.01, "high": 0.06}, "count": 400, "accuracy": 0.9}
    assert "show nothing wrong with the probabilities" in _verdict(judged | {"confidence": 0.95})
    bad = judged | {"ece": 0.07}
    assert "too sure of itself" in _verdict(bad | {"confidence": 0.97})
    assert "less sure than it could be" in _verdict(bad | {"confidence": 0.83})
    assert "too sure of some answers and not sure enough of others" in _verdict(bad | {"confidence": 0.9})


def test_the_intervals_of_the_reliability_diagram_have_the_level_of_the_run() -> None:
    axes = new_figure(4, 4).subplots()
    _draw_bins(axes, [{"count": 20, "accuracy": 0.9, "confidence": 0.88}], "red", "", 0.9)
    score = accuracy_score(18, 20, 0.9)
    assert list(axes.get_lines()[0].get_ydata()) == [score.low, score.high]


def one_class(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Arrays:
    return images[labels == 1], labels[labels == 1]


HARD: dict[str, Any] = {
    "a test set of one class": {"test_data": one_class(*bars(60, seed=2))},
    "20 test images": {"test_data": bars(20, seed=2)},
    "a class with no test image": {"test_data": tuple(each[bars(60)[1] < 2] for each in bars(60, seed=2))},
    "two classes": {"data": bars(150, num_classes=2)},
    "all wrong": {"test_data": (bars(60)[0], (bars(60)[1] + 1) % 3), "epochs": 12},
    "validation on test": {"validation": "test"},
    "no test": {"test": False},
}


@pytest.mark.parametrize("name", HARD)
def test_hard_cases_are_judged_and_shown(name: str, tmp_path: Path) -> None:
    options = OPTIONS | {"epochs": 8, "model": "p4-dense"} | HARD[name]
    if name == "validation on test":
        options.pop("val_split")
    found = fovea.train(options.pop("data", bars(150)), out=tmp_path, **options)
    assert found.calibration is not None
    judged = found.calibration["splits"][found.judged_by]
    assert 0 <= judged["ece"] <= 1
    assert found.temperature == 1
    reason = "the validation images are the test images" if name == "validation on test" else "too few, it takes 100"
    assert reason in found.calibration["reason"]
    assert found.calibration["reject"]["chosen_on_the_same_images"] == (name in ("validation on test", "no test"))
    assert found.slices is not None
    assert found.slices["weak"] == []
    (section,) = trust_sections(found)
    assert section.title == "Calibration"
    assert "on the same images, which flatters them" in str(section) or name not in ("validation on test", "no test")
    num_images = len(bars(150)[0]) + (0 if "test_data" not in HARD[name] else len(HARD[name]["test_data"][0]))
    assert class_counts_of(found).sum() == num_images  # images that validate and test count once
    assert len(neighbour_blocks(found, found.predictions(found.judged_by))) == bool(len(found.gallery.mistakes))
