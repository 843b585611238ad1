"""The records of the published programs, and their settings to the letter."""

from __future__ import annotations

from typing import Any

import pytest

import fovea
from fovea.listing import descriptions
from fovea.models.build import build_net, complete_model
from fovea.models.summary import summarize
from fovea.recipefile import named_recipes, read_recipe
from fovea.settings import flat_settings
from fovea.studies.published import parse_record, program_names, read_program

RAW = {"rescale": 1 / 255, "featurewise_center": False, "featurewise_std_normalization": False, "preset": "none"}
ADAM = {"optimizer.name": "adam", "optimizer.lr": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
ADAM |= {"schedule.name": "constant", "warmup_fraction": 0.0}
WHOLE = {
    "validation": "test",
    "keep": "last",
    "patience": None,
    "stop_at": None,
    "loss_clip": 1e-7,
    "first_images": None,
}
WHOLE |= {"steps_per_epoch": None, "weight_decay": 0.0, "label_smoothing": 0.0, "ema_decay": 0.0, "tta": "none"}
SHIFTED = {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": None, "fill_mode": None}
PLAIN = {"rotation_range": None, "zoom_range": None, "width_shift_range": None, "height_shift_range": None}
# Recipe -> what its source says. Keras of 2017 has epsilon 1e-8, and takes the nearest pixel in its generator.
SETTINGS: dict[str, dict[str, Any]] = {
    "p0-same-fit-twice": {
        **WHOLE, **RAW, **ADAM, **SHIFTED, "source": "mnist", "first_images": [80, 20], "rotation_range": 10.0,
        "zoom_range": [2.0, 0.1], "model.name": "p0", "epochs": 100, "batch_size": 16, "steps_per_epoch": 5,
    },
    "p1-digit-recognizer": {
        **WHOLE, **RAW, **SHIFTED, "source": "digit-recognizer", "test_split": 0.1, "stratify": False, "split_seed": 3,
        "rotation_range": 10.0, "zoom_range": 0.1, "interpolation": "nearest", "model.name": "p1",
        "optimizer.name": "rmsprop", "optimizer.lr": 0.001, "rho": 0.9, "epsilon": 1e-8, "schedule.name": "plateau",
        "plateau_monitor": "val_accuracy", "plateau_patience": 4, "plateau_factor": 0.5, "plateau_min_delta": 1e-4,
        "plateau_min_lr": 1e-5, "plateau_cooldown": 0, "epochs": 40, "batch_size": 100,
    },
    "p2-cifar10-first": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "cifar10", "model.name": "p2-first", "epochs": 5, "batch_size": 1000,
    },
    "p2-cifar10-edited": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "cifar10", "model.name": "p2-edited", "epochs": 10,
        "batch_size": 1000,
    },
    "p2-cifar10-answer": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "cifar10", "model.name": "p2-answer", "epochs": 5, "batch_size": 500,
    },
    "p3-translation-off": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "mnist", "model.name": "p3", "optimizer.lr": 0.0005,
        "epsilon": 1e-8, "epochs": 20, "batch_size": 64, "training.seed": 1,
    },
    "p3-translation-on": {
        **WHOLE, **RAW, **ADAM, **SHIFTED, "rotation_range": None, "zoom_range": None, "interpolation": "nearest",
        "source": "mnist", "model.name": "p3", "optimizer.lr": 0.0005, "epsilon": 1e-8, "epochs": 20, "batch_size": 64,
        "steps_per_epoch": 937, "training.seed": 1,
    },
    "p4-fashion-dense": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "fashion-mnist", "rescale": 1.0, "model.name": "p4-dense",
        "epochs": 5, "batch_size": 32, "loss_clip": None,
    },
    "p4-fashion-conv": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "fashion-mnist", "model.name": "p4-conv", "epochs": 5,
        "batch_size": 32,
    },
    "p4-fashion-conv1": {
        **WHOLE, **RAW, **ADAM, **PLAIN, "source": "fashion-mnist", "model.name": "p4-conv1", "epochs": 20,
        "batch_size": 32,
    },
}  # fmt: skip


def test_the_ten_programs_are_these() -> None:
    assert program_names() == sorted(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipe_has_the_settings_of_its_source(name: str) -> None:
    found = flat_settings(read_recipe(named_recipes()[name]))
    for setting, value in SETTINGS[name].items():
        paths = [path for path in found if path == setting or path.split(".")[1:] == [setting]]
        assert [found[path] for path in paths] == [value], setting


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "layers"),
    [
        ("p3-translation-on", (28, 28, 1), 35_445_522, [6_656, 1_638_656, 819_328, 32_915_784, 63_168, 1_930]),
        ("p4-fashion-conv", (28, 28, 1), 243_786, [640, 36_928, 204_928, 1_290]),
        ("p4-fashion-conv1", (28, 28, 1), 693_962, [320, 692_352, 1_290]),
    ],
)
def test_a_net_has_the_parameters_of_the_published_table(
    name: str, shape: tuple[int, int, int], parameters: int, layers: list[int]
) -> None:
    model = complete_model(read_recipe(named_recipes()[name]).model, shape)
    table = summarize(build_net(model, shape, 10, seed=0), shape)
    assert table.parameters == parameters
    assert [row.parameters for row in table.rows if row.parameters] == layers
    published = {one.figure: one.value for one in read_program(name).record.published}
    assert published["parameters"] == parameters


def test_every_published_figure_of_the_cifar_question_shows_its_fault() -> None:
    """Loss / (1 - accuracy) lies near -ln(1e-7) = 16.12, whatever the accuracy is."""
    ratios = []
    for name in ("p2-cifar10-first", "p2-cifar10-edited"):
        figures = {(one.figure, one.epoch): one.value for one in read_program(name).record.published}
        epochs = [epoch for figure, epoch in figures if figure == "val_loss"]
        ratios += [figures["val_loss", epoch] / (1 - figures["val_accuracy", epoch]) for epoch in epochs]
    assert len(ratios) == 7
    assert all(15.7 < ratio < 16.0 for ratio in ratios)


def test_the_list_of_recipes_shows_what_was_published() -> None:
    found = descriptions("recipes")
    assert "Published: test accuracy, last epoch 71.26%; test loss, last epoch 0.8221." in found["p2-cifar10-answer"]
    assert "about 89.00%" in found["p4-fashion-dense"]
    assert "not measured" not in "".join(found[name] for name in SETTINGS)


def test_an_unknown_program_gets_the_nearest_name_and_the_choices() -> None:
    with pytest.raises(fovea.SettingsError, match=r"Did you mean 'p2-cifar10-first'\? Choices: p0-same-fit-twice, p1-"):
        read_program("p2-cifar10-frist")


def test_a_recipe_of_no_program_says_so() -> None:
    with pytest.raises(fovea.SettingsError, match=r"mnist-fast is of no published program.*fovea train mnist-fast"):
        read_program("mnist-fast")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"published": [{"figure": "val_acc", "value": 0.5}]}, "published.0.figure: Input should be 'val_accuracy'"),
        ({"published": [{"figure": "val_loss", "value": 1, "epoch": 0}]}, "published.0.epoch"),
        (
            {"published": [{"figure": "val_loss", "value": 1, "beside": "x"}]},
            "'x', which `beside` lacks",
        ),
        ({"teeches": "x"}, "teeches: Extra inputs are not permitted"),
        ({"program": "P9"}, "program: Input should be"),
        ({"program": "P0"}, "has a fit `before`"),
        ({"against": "nobody"}, "the recipe 'nobody', which there is not"),
    ],
)
def test_a_record_that_cannot_be_read_names_its_mistake(change: dict[str, Any], reason: str) -> None:
    values = {"program": "P2", "asked": "?", "teaches": "!", "published": []} | change
    with pytest.raises(fovea.SettingsError, match="In the record of here") as caught:
        parse_record(values, "here")
    assert reason in str(caught.value)
