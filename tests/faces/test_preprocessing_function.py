"""A preprocessing_function of the user's own: applied everywhere, named in the run, asked for where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import bars
from tests.faces.test_train import shell

import fovea
from fovea.recipefile import read_recipe, read_record

QUICK: dict[str, Any] = {"epochs": 2, "threads": 1, "verbose": False, "augmentation": "none"}
NAME = f"{__name__}.inverted"


def inverted(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """White becomes black; written into the image itself, which is allowed."""
    np.subtract(255, image, out=image)
    return image


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run, read by many tests."""
    options = {**QUICK, "report": False, "out": tmp_path_factory.mktemp("runs")}
    return fovea.train(bars(150), preprocessing_function=inverted, name="own", **options)


def test_training_on_what_it_makes_is_training_on_images_made_so_before(run: fovea.Run) -> None:
    images, labels = bars(150)
    plain = fovea.train((255 - images, labels), name="plain", **QUICK)
    for split in ("val", "test"):
        assert np.array_equal(run.predictions(split).logits, plain.predictions(split).logits)
    new, _ = bars(10, seed=2)
    assert np.array_equal(run.predict(new).logits, plain.predict(255 - new).logits)


def test_the_run_says_that_its_yaml_alone_cannot_repeat_it(run: fovea.Run) -> None:
    config = run.path / "config.yaml"
    assert read_recipe(config).preprocessing.function == NAME
    assert any("config.yaml alone cannot repeat this run" in line for line in read_record(config)["derived"])
    with pytest.raises(fovea.SettingsError, match=f"preprocessing_function {NAME}, which YAML cannot hold: pass it"):
        fovea.train(bars(150), name="again", verbose=False, **run.settings)
    again = fovea.train(bars(150), preprocessing_function=inverted, name="again", verbose=False, **run.settings)
    assert (again.path / "best.safetensors").read_bytes() == (run.path / "best.safetensors").read_bytes()


def test_who_answers_for_images_has_to_pass_it_again(run: fovea.Run, tmp_path: Path) -> None:
    new, _ = bars(10, seed=2)
    expected = run.predict(new).logits
    missing = f"was trained with the preprocessing_function {NAME}, which no file holds"
    with pytest.raises(fovea.ModelError, match=missing):
        fovea.load_model(run.path)
    with pytest.raises(fovea.ModelError, match=missing):
        fovea.load_run(run.path).predict(new)
    assert fovea.load_run(run.path).test_accuracy == run.test_accuracy
    with pytest.raises(fovea.ModelError, match=f"was trained with {NAME}, not with the preprocessing_function"):
        fovea.load_model(run.path, preprocessing_function=np.sqrt)
    for model in (
        fovea.load_model(run.path, preprocessing_function=inverted),
        fovea.load_run(run.path, preprocessing_function=inverted),
    ):
        assert np.array_equal(model.predict(new).logits, expected)
    np.save(tmp_path / "new.npy", new)
    told = shell("predict", str(run.path), str(tmp_path / "new.npy"))
    assert told.exit_code == 2
    assert "pass it again in Python" in " ".join(told.stderr.split())


def test_a_run_without_one_takes_none() -> None:
    run = fovea.train(bars(150), **QUICK)
    with pytest.raises(fovea.ModelError, match="was trained without a preprocessing_function"):
        fovea.load_model(run.path, preprocessing_function=inverted)


def test_what_is_no_image_of_the_same_shape_is_refused_before_anything_is_written() -> None:
    with pytest.raises(fovea.ModelError, match=r"returned float32 of shape \(8, 8\) for an image of shape \(8, 8, 1\)"):
        fovea.train(bars(150), preprocessing_function=lambda image: image[..., 0], **QUICK)
    with pytest.raises(fovea.ModelError, match=r"returned object of shape \(\)"):
        fovea.train(bars(150), preprocessing_function=lambda image: None, **QUICK)
    assert not Path("runs").exists()


def test_every_seed_of_a_study_has_it() -> None:
    study = fovea.train(bars(150), preprocessing_function=inverted, seeds=2, **QUICK)
    for run in study.runs:
        assert read_recipe(run.path / "config.yaml").preprocessing.function == NAME
        assert run.predict(bars(3)[0]).logits.shape == (3, 3)


@pytest.mark.usefixtures("undrawn")
def test_the_report_shows_the_call_that_passes_it(run: fovea.Run) -> None:
    page = run.write_report().read_text(encoding="utf-8")
    assert "preprocessing_function=inverted" in page


def test_keras_has_no_layer_for_it_and_is_given_the_net_without(run: fovea.Run, tmp_path: Path) -> None:
    refused = shell("export", str(run.path), str(tmp_path / "own.keras"))
    assert refused.exit_code == 2
    assert f"Keras has no layer for preprocessing_function ({NAME})" in " ".join(refused.stderr.split())
    done = shell("export", str(run.path), str(tmp_path / "own.keras"), "--without-preprocessing")
    assert done.exit_code == 0, done.stderr
    assert "as the net sees them" in done.stderr
