"""The Python face: each function wires the rooms below together and computes nothing itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from torch import nn

from fovea.data.audit import DataFacts, describe
from fovea.data.catalog import CATALOG
from fovea.data.imageset import ImageSet, RawData
from fovea.data.load import is_known_data, read_raw, with_part
from fovea.data.options import ReadOptions
from fovea.errors import SettingsError
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.run import Run
from fovea.models.build import build_net, check_net, complete_model
from fovea.models.summary import Summary, summarize
from fovea.registry import unknown_name
from fovea.reporting.console import EpochLines, plan_lines, progress_stream, say_on
from fovea.reporting.figures import draw_samples, save_figure, write_figures
from fovea.reporting.progress import ProgressBar
from fovea.runfolder import create_run_folder
from fovea.settings import ModelSettings, Recipe, named_recipes, read_recipe, with_settings
from fovea.studies.evaluate import evaluate_other_data, evaluate_test_split
from fovea.studies.seeds import SeedStudy, run_seeds
from fovea.training.callbacks import as_callback
from fovea.training.run import Plan, plan_run, say_nothing, train_run

ARRAYS = "<arrays>"  # what config.yaml says of val_data or test_data that were arrays


@overload
def train(data: Any, *, seeds: None = None, **options: Any) -> Run: ...


@overload
def train(data: Any, *, seeds: int, **options: Any) -> SeedStudy: ...


def train(
    data: Any,
    *,
    model: str | list[Any] | nn.Module | None = None,
    val_data: Any = None,
    test_data: Any = None,
    callbacks: Sequence[Any] = (),
    seeds: int | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Run | SeedStudy:
    """Train a classifier, test it once, and keep everything in a run folder.

    Args:
        data: a catalog name ("mnist"), a path, a pair (images, labels), a recipe's name or file, or a Recipe.
        model: a name ("resnet20"), a layer list, or a module from float32 [B, C, H, W] to logits [B, K].
        val_data, test_data: data for validation and test; else both are cut from the training images.
        callbacks: `fovea.Callback`s, or functions of (state, metrics) called after each epoch.
        seeds: train so many times, with seeds seed, seed + 1 ...; the result is a SeedStudy.
        out: the folder that run folders are made in.
        name: of the run folder; None: <data>-<model>.
        verbose: write progress to stderr.
        settings: any setting of a recipe by its name: epochs=5, batch_size=128, lr=.01, patience=3, seed=1,
            augmentation="none", val_split=.2, image_size=64, device="cpu" ...

    Returns:
        The finished run (or the study of several seeds), read back from its folder.

    Raises:
        UserError: for data, settings or a model that cannot be used; nothing is written then.
        RunFailedError: when training broke off.
    """
    recipe, source = resolve_data(data)
    changes = dict(settings)
    if isinstance(model, nn.Module) and seeds is not None:
        raise SettingsError("seeds needs a model by name or layer list: a module of your own has but one start.")
    if model is not None and not isinstance(model, nn.Module):
        changes["model.name" if isinstance(model, str) else "model.layers"] = model
    for role, given in (("val_data", val_data), ("test_data", test_data)):
        if isinstance(given, str | Path):
            changes[role] = str(given)
        elif given is not None:
            changes[role] = ARRAYS
    recipe = with_settings(recipe, changes)
    raw = _read_all(recipe, source, val_data, test_data)
    recipe = _with_places(recipe, source)
    net = model if isinstance(model, nn.Module) else None
    users = [as_callback(callback) for callback in ([callbacks] if callable(callbacks) else callbacks)]

    def train_one(one: Recipe, parent: Path, run_name: str | None) -> Run:
        return _train_one(plan_run(one, raw, net), raw, parent, run_name, Path(out), users, verbose)

    if seeds is None:
        return train_one(recipe, Path(out), name)

    def make_folder() -> Path:
        plan_run(recipe, raw)  # a mistake shows before the study's folder is made
        return create_run_folder(Path(out), name or f"{_folder_name(raw, recipe.model.name)}-seeds")

    return run_seeds(recipe, seeds, make_folder, train_one)


def _train_one(
    plan: Plan,
    raw: RawData,
    parent: Path,
    run_name: str | None,
    out: Path,
    callbacks: list[Any],
    verbose: bool,
) -> Run:
    folder = create_run_folder(parent, run_name or _folder_name(raw, plan.recipe.model.name))
    stream = progress_stream()
    say = say_on(stream) if verbose else say_nothing
    for topic, line in [("run", str(folder)), *plan_lines(plan, raw.name, raw.form)]:
        say(topic, line)
    shown = [EpochLines(plan, stream)] if verbose else []
    try:
        train_run(plan, folder, out, [*shown, *callbacks], say)
    except BaseException:
        say("broken off", str(folder))
        raise
    run = Run(folder, plan.net if plan.own_net else None)
    write_figures(run)
    return run


def _folder_name(raw: RawData, model: str) -> str:
    return _file_name(f"{raw.name}-{model}")


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")[:100] or "run"


def resolve_data(data: Any) -> tuple[Recipe, Any]:
    """What DATA means: (recipe, where its images come from).

    Raises:
        SettingsError: when a name means both a data set and a recipe, or neither.
    """
    if isinstance(data, Recipe):
        return data, data.data.source
    if not isinstance(data, str | Path):
        return Recipe(), data
    text = str(data)
    if not text.strip():
        raise SettingsError("DATA is empty: name a data set, a path or a recipe.")
    recipes = named_recipes()
    is_file = Path(text).suffix in {".yaml", ".yml"}
    if text in recipes and is_known_data(text):
        raise SettingsError(f"{text!r} is both data and a recipe: write ./{text} for a folder, or {text}.yaml's path.")
    if is_file or text in recipes:
        recipe = read_recipe(Path(text) if is_file else recipes[text])
        return recipe, recipe.data.source
    if not is_known_data(text) and Path(text).name == text:
        raise unknown_name("data set or recipe", text, [*CATALOG, *recipes])
    return Recipe(), text


def _read_all(recipe: Recipe, source: Any, val_data: Any, test_data: Any) -> RawData:
    if source is None:
        raise SettingsError("This recipe names no data (it was trained on arrays): pass the arrays in Python.")
    options = read_options(recipe)
    raw = read_raw(source, options)
    given = {"val": val_data, "test": test_data}
    named = {"val": recipe.data.val_data, "test": recipe.data.test_data}
    for role in ("val", "test"):
        other = given[role] if given[role] is not None else named[role]
        if isinstance(other, str) and other == ARRAYS:
            raise SettingsError(f"The {role}_data of this recipe were arrays: pass them again in Python.")
        if other is not None:
            raw = with_part(raw, role, read_raw(other, options))
    return raw


def read_options(recipe: Recipe) -> ReadOptions:
    """How the data of a recipe is read, with a progress bar where there is a terminal."""
    data = recipe.data
    return ReadOptions(
        image_size=recipe.preprocessing.image_size,
        skip_bad=data.skip_bad,
        label_column=data.label_column,
        outside_paths=data.outside_paths,
        progress=ProgressBar(progress_stream()),
    )


def load_data(data: Any, **settings: Any) -> dict[str, ImageSet]:
    """Read data as training would, without training.

    Args:
        data: what `train` takes: a catalog name, a path, arrays.
        settings: image_size, label_column, skip_bad, outside_paths, as in a recipe.

    Returns:
        Part ("train", and where the data has them "val" and "test") -> its images, uint8 [N, H, W, C], and labels.

    Raises:
        UserError: for data that cannot be used.
    """
    return describe_data(data, **settings).sets


def describe_data(data: Any, **settings: Any) -> DataFacts:
    """What is in data: counts, shapes, value ranges, whether it is the published set.

    Args and errors: as `load_data`.
    """
    recipe, source = resolve_data(data)
    recipe = with_settings(recipe, settings)
    return describe(read_raw(source, read_options(recipe)))


def write_samples(facts: DataFacts, folder: Path) -> Path:
    """Draw some images of data as <folder>/<name>-samples.png."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"The folder {folder} cannot be made: {error}.") from None
    path = folder / f"{_file_name(facts.name)}-samples.png"
    save_figure(draw_samples(facts.sets), path)
    return path


def _with_places(recipe: Recipe, source: Any) -> Recipe:
    """The recipe with its data's places written in, absolute, so that config.yaml holds from any folder."""
    places = {"source": source, "val_data": recipe.data.val_data, "test_data": recipe.data.test_data}
    absolute = {name: data_place(place) for name, place in places.items() if isinstance(place, str | Path)}
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=absolute)})


def data_place(data: str | Path) -> str:
    """A catalog name as it is, a path made absolute."""
    return str(Path(data).expanduser().resolve()) if is_known_data(data) == "path" else str(data)


def load_run(path: str | Path, model: nn.Module | None = None) -> Run:
    """Read a run folder back, in a fresh process too.

    Args:
        model: the module that the run was trained with, where it was your own.

    Raises:
        DataError: when the folder is no finished run.
    """
    return Run(path, model)


def evaluate_run(path: str | Path, data: str | None = None, skip_bad: bool = False) -> tuple[Predictions, int]:
    """Evaluate a saved run on its own test images, or on other labelled data.

    Args:
        skip_bad: leave out images of `data` that cannot be decoded.

    Returns:
        The predictions, and how often this test set has been looked at.

    Raises:
        DataError: when the data is not there, has changed, or does not fit the run's classes.
    """
    run = Run(path)
    if data is not None and data_place(data) != run.recipe.data.source:
        options = read_options(run.recipe)
        size = run.model.preprocessor.image_shape[:2]
        raw = read_raw(data, replace(options, image_size=size, skip_bad=skip_bad or options.skip_bad))
        for note in raw.notes:
            say_on(progress_stream())("note", note)
        return evaluate_other_data(run, raw)
    recipe = run.recipe
    return evaluate_test_split(run, _read_all(recipe, recipe.data.source, None, None))


def summary(
    model: str | list[Any] | nn.Module = "small",
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
) -> Summary:
    """The table of a net: layer, output shape, parameters, multiply-adds of one image.

    Args:
        model: a name, a layer list or a module.
        image_shape: height, width, channels.

    Raises:
        ModelError: when the net does not fit such images.
    """
    if isinstance(model, nn.Module):
        check_net(model, image_shape, num_classes)
        return summarize(model, image_shape)
    settings = ModelSettings(name=model) if isinstance(model, str) else ModelSettings(layers=model)
    return summarize(build_net(complete_model(settings, image_shape), image_shape, num_classes, seed=0), image_shape)
