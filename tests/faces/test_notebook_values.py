"""What a notebook hands over: NumPy's numbers, tensors as they come, one callback, runs as paths; and what it asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import bars

import fovea
from fovea.errors import DataError, ModelError, SettingsError
from fovea.settings import Recipe, with_settings

NET = ["flatten", "dense classes"]


def train(data: Any = None, **options: Any) -> Any:
    plain = {"model": NET, "epochs": 1, "report": False, "audit": False, "verbose": False, "threads": 1}
    return fovea.train(bars(60) if data is None else data, **{**plain, **options})


@pytest.fixture
def run() -> Any:
    return train(name="one")


def test_numpys_numbers_and_arrays_and_paths_are_settings(tmp_path: Any) -> None:
    recipe = with_settings(
        Recipe(),
        {
            "width_shift_range": np.float32(0.5),
            "height_shift_range": np.array([1, 2]),
            "zoom_range": np.array([0.5, 1.5]),
            "brightness_range": np.array([0.5, 1.5]),
            "horizontal_flip": np.True_,
            "image_size": np.int64(8),
            "epochs": np.int64(3),
            "weights": tmp_path,
        },
    )
    augmentation = recipe.augmentation
    assert augmentation.width_shift_range == 0.5
    assert augmentation.height_shift_range == (1, 2)
    assert augmentation.zoom_range == augmentation.brightness_range == (0.5, 1.5)
    assert augmentation.horizontal_flip is True
    assert recipe.preprocessing.image_size == (8, 8)
    assert recipe.training.epochs == 3
    assert recipe.model.weights == str(tmp_path)
    with pytest.raises(SettingsError, match="expected a number"):
        with_settings(Recipe(), {"lr": np.True_})


def test_tensors_are_taken_as_they_come(run: Any) -> None:
    images, labels = bars(60)
    tensor = torch.tensor(images, dtype=torch.float32) / 255
    rows = [image.clone().requires_grad_() for image in tensor]
    forms = [tensor.clone().requires_grad_(), rows]
    expected = run.predict(images).predicted
    for form in (*forms, tensor.to(torch.bfloat16)):
        assert np.array_equal(run.predict(form).predicted, expected)
    assert len(fovea.load_data((rows, [torch.tensor(label) for label in labels]))["train"]) == 60
    assert len(fovea.load_data((tensor.to(torch.bfloat16), labels))["train"]) == 60


def test_a_mask_is_not_dropped_without_a_word(run: Any) -> None:
    images, labels = bars(60)
    nothing_hidden = np.ma.array(images)
    assert np.array_equal(run.predict(nothing_hidden).predicted, run.predict(images).predicted)
    hidden = np.ma.array(images, mask=np.zeros(images.shape, bool))
    hidden[3, :2] = np.ma.masked
    for use in (lambda: run.predict(hidden), lambda: fovea.load_data((hidden, labels))):
        with pytest.raises(DataError, match=r"values are masked.*array\.filled\(0\)"):
            use()


def test_one_callback_none_and_keras_names_of_metrics() -> None:
    seen: list[Any] = []

    class Watch(fovea.Callback):
        def on_epoch(self, state: Any, metrics: Any) -> None:
            seen.append((metrics["val_acc"], "acc" in metrics, metrics.get("nothing"), dict(metrics)))
            with pytest.raises(SettingsError, match=r"Did you mean .val_accuracy."):
                metrics["val_acurracy"]
            metrics["val_accuracy"] = 0.0  # its own copy

    found = train(callbacks=Watch())
    assert seen[0][:3] == (found.history["val_accuracy"][0], True, None)
    assert set(seen[0][3]) < set(found.history)
    assert found.history["val_accuracy"] == found.history.get("val_acc")
    assert "val_acc" in found.history
    assert found.history.get("nothing", 1) == 1
    train(callbacks=None)


@pytest.mark.parametrize("count", ["2", 2.0, [0, 1]], ids=str)
def test_a_number_of_trainings_that_is_none_is_refused(count: Any) -> None:
    for name in ("seeds", "folds"):
        with pytest.raises(SettingsError, match=f"{name} is .*expected how many trainings"):
            train(**{name: count})


def test_a_preprocessing_function_that_is_none_or_gives_no_numbers_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ModelError, match="expected a function of one image"):
        train(preprocessing_function="brighter")
    for bad in (np.nan, np.inf):
        with pytest.raises(ModelError, match="returned NaN or infinite values"):
            train(preprocessing_function=lambda image, bad=bad: image + bad)
    assert not (tmp_path / "runs").exists()


def test_a_run_stands_for_its_folder(run: Any) -> None:
    assert fovea.load_run(run).path == run.path
    assert fovea.load_model(run).path == run.path / "best.safetensors"
    for options in ({"model": None, "start_from": run}, {"weights": run.path}):
        assert Path(train(**options).recipe.model.weights).resolve() == run.path.resolve()


def test_a_set_is_evaluated_where_it_has_the_runs_classes_and_size(run: Any) -> None:
    images, labels = bars(30, seed=1)
    found = run.evaluate(fovea.load_data((images, labels))["train"])
    assert np.array_equal(found.predicted, run.predict(images).predicted)
    with pytest.raises(DataError, match="takes an ImageSet"):
        run.evaluate((images, labels))
    two = labels > 0  # 1 and 2 would be counted as 0 and 1
    with pytest.raises(DataError, match=r"classes 1, 2 .* the run 0, 1, 2"):
        run.evaluate(fovea.load_data((images[two], labels[two]))["train"])
    with pytest.raises(DataError, match=r"images of \(4, 8, 1\)"):
        run.evaluate(fovea.load_data((images[:, :4], labels))["train"])


def test_the_shape_of_a_summary_is_height_width_channels() -> None:
    for shape in ((8, 8), 8):
        with pytest.raises(ModelError, match="expected height, width, channels"):
            fovea.summary(NET, shape)  # type: ignore[arg-type]


def test_a_training_with_gradients_switched_off_by_the_notebook_learns_the_same(run: Any) -> None:
    with torch.no_grad():
        again = train()
    assert (again.path / "best.safetensors").read_bytes() == (run.path / "best.safetensors").read_bytes()


def test_a_training_takes_gradients_whatever_mode_it_is_called_in(tmp_path: Path) -> None:
    images, labels = bars(40)
    few = {"epochs": 1, "report": False, "verbose": False}
    for name, mode in (("no_grad", torch.no_grad()), ("inference", torch.inference_mode())):
        with mode:
            run = fovea.train((images, labels), out=tmp_path / name, **few)
        assert (run.path / "manifest.json").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated")
def test_a_torchscript_module_is_refused_in_one_line(tmp_path: Path) -> None:
    script = torch.jit.trace(torch.nn.Flatten(), torch.zeros(1, 1, 8, 8))
    with pytest.raises(SettingsError, match=r"TorchScript.*the module that it was made from"):
        fovea.train(bars(40), model=script, out=tmp_path, verbose=False)
    assert not any(tmp_path.iterdir())
