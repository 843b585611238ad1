"""Recipes: frozen, checked, YAML both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fovea.assignments import parse_assignments
from fovea.errors import SettingsError
from fovea.recipefile import named_recipes, read_recipe, recipe_as_yaml
from fovea.settings import SETTING_PATHS, Recipe, setting_path, with_settings
from fovea.single import KERAS_ARGUMENTS


def test_a_bare_name_reaches_its_section() -> None:
    recipe = with_settings(Recipe(), {"lr": 0.5, "epochs": 3, "optimizer": "adam", "data.val_split": 0.2})
    assert (recipe.optimizer.lr, recipe.training.epochs, recipe.optimizer.name) == (0.5, 3, "adam")
    assert recipe.data.val_split == 0.2


def test_a_model_by_name_and_a_layer_list_replace_each_other() -> None:
    listed = with_settings(Recipe(), {"layers": ["flatten", "dense 2"]})
    assert listed.model.name == "layers"
    named = with_settings(listed, {"model": "lenet5"})
    assert (named.model.name, named.model.layers) == ("lenet5", None)


def test_a_changed_setting_takes_back_what_was_derived_from_it() -> None:
    derived = {"augmentation": "digits", "rotation_range": 10.0, "optimizer": "muon", "lr": 0.05, "batch_size": 32}
    config = with_settings(Recipe(), {**derived, "steps_per_epoch": 41, "layers": ["flatten"], "initializer": "dirac"})
    changed = with_settings(
        config, {"augmentation": "none", "optimizer": "adam", "batch_size": 64, "model": "lenet5", "cval": 3}
    )
    assert changed.augmentation.rotation_range is None
    assert changed.augmentation.cval == 3
    assert (changed.optimizer.lr, changed.training.steps_per_epoch) == (None, None)
    assert (changed.model.name, changed.model.layers, changed.model.initializer) == ("lenet5", None, None)
    kept = with_settings(config, {"epochs": 3})
    assert (kept.augmentation.rotation_range, kept.optimizer.lr, kept.training.steps_per_epoch) == (10.0, 0.05, 41)


def test_names_of_other_tools_are_understood() -> None:
    assert setting_path("learning_rate") == "optimizer.lr"
    assert setting_path("validation_split") == "data.val_split"


def test_an_unknown_name_is_answered_with_names_of_its_form() -> None:
    with pytest.raises(SettingsError, match=r"Did you mean 'optimizer\.momentum'"):
        setting_path("optimizer.momentun")
    with pytest.raises(SettingsError) as caught:
        setting_path("momentun")
    assert "optimizer.momentum" not in str(caught.value)
    assert {path.split(".")[1] for path in SETTING_PATHS.values()} - set(SETTING_PATHS) <= {"name"}


def test_what_keras_names_lead_to_exists_and_none_of_them_is_taken() -> None:
    for name, here in KERAS_ARGUMENTS.items():
        assert name not in SETTING_PATHS
        if re.fullmatch(r"[a-z]+(_[a-z]+)*", here) and here != "none":
            assert here in SETTING_PATHS, name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, ["Unknown setting 'epoch'", "Did you mean 'epochs'"]),
        ({"validation_data": 1}, ["Unknown setting 'validation_data'", "Keras' validation_data here: val_data."]),
        ({"class_weight": {0: 2}}, ["Keras' class_weight here: none."]),
        ({"epochs": 0}, ["training.epochs = 0", "greater than or equal to 1"]),
        ({"val_split": 1.0}, ["data.val_split = 1.0", "less than 1"]),
        ({"lr": float("nan")}, ["optimizer.lr", "finite"]),
        ({"lr": "fast"}, ["optimizer.lr = 'fast'", "number"]),
        ({"monitor": "val_acuracy"}, ["callbacks.monitor", "Did you mean 'val_accuracy'"]),
        ({"fill_mode": "mirror"}, ["augmentation.fill_mode", "nearest"]),
        ({"epochs": 0, "lr": -1}, ["training.epochs", "optimizer.lr"]),
        ({"brightness_range": 1.2}, ["augmentation.brightness_range = 1.2: expected two factors of at least 0"]),
        ({"brightness_range": [-1, 1]}, ["expected two factors of at least 0, such as [0.8, 1.2]."]),
        ({"zoom_range": -0.2}, ["augmentation.zoom_range = -0.2: expected a number from 0 to 1, z for"]),
        ({"zoom_range": 2}, ["or two factors of at least 0."]),
        ({"zoom_range": [0.5]}, ["augmentation.zoom_range = [0.5]: expected two factors"]),
        ({"width_shift_range": -3}, ["expected a number of at least 0 (below 1 a fraction of the side, else pixels)"]),
        ({"height_shift_range": []}, ["augmentation.height_shift_range = []: expected", "or a list of numbers."]),
        ({"width_shift_range": [1, "a"]}, ["augmentation.width_shift_range = [1, 'a']: expected"]),
        ({"width_shift_range": True}, ["augmentation.width_shift_range = True: expected"]),
        ({"patience": False}, ["callbacks.patience = False: expected a number, or null, not yes or no"]),
        ({"batch_size": True}, ["training.batch_size = True: expected a number"]),
        ({"ema_decay": False}, ["training.ema_decay = False: expected a number, not yes or no"]),
        ({"tta": False}, ["evaluation.tta = False", "'none', 'flip'"]),
    ],
)
def test_a_bad_setting_names_itself_and_what_was_expected(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        with_settings(Recipe(), changes)
    for word in words:
        assert word in str(caught.value)


def test_yaml_reads_on_and_off_as_truth_and_choices_get_their_words_back() -> None:
    changed = with_settings(Recipe(), parse_assignments(["fast_ops=off"]))
    assert changed.training.fast_ops == "off"
    assert with_settings(Recipe(), {"fast_ops": True, "horizontal_flip": True}).augmentation.horizontal_flip is True


def test_a_shift_keeps_its_kind_for_an_int_is_not_read_as_a_float_is() -> None:
    for given, kept in [(3, 3), ("3", 3), (3.0, 3.0), ("0.25", 0.25), ([1, 4], (1.0, 4.0)), (1, 1), (1.0, 1.0)]:
        found = with_settings(Recipe(), {"width_shift_range": given}).augmentation.width_shift_range
        assert found == kept
        assert type(found) is type(kept)


def test_the_higher_number_of_a_pair_may_come_first() -> None:
    found = with_settings(Recipe(), {"zoom_range": [2.0, 0.1], "brightness_range": [1.2, "0.8"]}).augmentation
    assert (found.zoom_range, found.brightness_range) == ((2.0, 0.1), (1.2, 0.8))


def test_keras_old_metric_names_are_understood() -> None:
    recipe = with_settings(Recipe(), {"monitor": "val_acc", "stop_monitor": "acc"})
    assert (recipe.callbacks.monitor, recipe.callbacks.stop_monitor) == ("val_accuracy", "train_accuracy")


def test_a_recipe_survives_yaml_and_its_record_is_left_out(tmp_path: Path) -> None:
    recipe = with_settings(Recipe(), {"zoom_range": (0.5, 2.0), "image_size": 32, "layers": ["flatten", "dense 2"]})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_as_yaml(recipe, {"why": "because"}), encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["record"] == {"why": "because"}
    assert read_recipe(path) == recipe


def test_an_unknown_section_or_setting_in_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizr: {lr: 1}\ntraining: {epoch: 3}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"recipe.yaml.*'optimizr', did you mean 'optimizer'") as caught:
        read_recipe(path)
    assert "'training.epoch', did you mean 'epochs'" in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1", "just words", "\x00", "a: " + "[" * 3000 + "]" * 3000])
def test_what_is_no_recipe_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"recipe\.yaml"):
        read_recipe(path)


def test_assignments_are_read_as_yaml() -> None:
    assert parse_assignments(["lr=1e-2", "test=false", "zoom_range=[0.5, 2]"]) == {
        "lr": "1e-2",
        "test": False,
        "zoom_range": [0.5, 2],
    }
    with pytest.raises(SettingsError, match="key=value"):
        parse_assignments(["lr"])
    assert parse_assignments(["test=false"], given={"test": False, "lr": 0.1}) == {"test": False, "lr": 0.1}
    with pytest.raises(SettingsError, match="test is given twice, as False and as True"):
        parse_assignments(["test=true"], given={"test": False})
    with pytest.raises(SettingsError, match=r"optimizer\.lr is given twice, as 0\.1 and as 0\.2"):
        parse_assignments(["lr=0.1", "optimizer.lr=0.2"])


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        Recipe().training.epochs = 3  # type: ignore[misc]


def test_every_named_recipe_reads_and_says_what_it_is() -> None:
    assert named_recipes()
    for path in named_recipes().values():
        assert read_recipe(path).description
