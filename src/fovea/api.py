"""The Python face: each function wires the rooms below together and computes nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from torch import nn

from fovea.budget import Budget, clock, parse_seconds
from fovea.comparisons import read_comparison
from fovea.data.audit import DataFacts, audit, describe
from fovea.data.imageset import ImageSets, RawData
from fovea.data.load import read_raw
from fovea.data.preprocess import ImageFunction
from fovea.errors import ModelError, SettingsError
from fovea.evaluation.ledger import Looks
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import StoredRun
from fovea.files import file_name, make_out, write_text
from fovea.grades import Beginning, Request, begin
from fovea.models.build import build_net, check_net, complete_model
from fovea.models.summary import Summary, summarize
from fovea.netsource import find_net, keras_model
from fovea.programs import Wanted, reproduce_program
from fovea.reporting.datapage import data_report
from fovea.reporting.figures import FIGURES, ON_DEMAND, named_runs, write_figure
from fovea.reporting.page import render
from fovea.reporting.pictures import draw_samples
from fovea.reporting.style import save_figure
from fovea.reporting.terminal import progress_stream, say_on
from fovea.reporting.write import (
    write_comparison,
    write_curves_of_runs,
    write_recipes_report,
    write_run_report,
    write_study_report,
)
from fovea.runfolder import (
    COMPARISON,
    SEEDS,
    check_target,
    create_run_folder,
    is_unfinished,
    resume_command,
    update_manifest,
)
from fovea.runs import Given, new_run, new_study, resume_run
from fovea.runview import Run, finished_run
from fovea.settings import ARRAYS, ModelSettings, with_settings
from fovea.sources import data_place, read_all, read_options, read_to_judge, resolve_data
from fovea.studies.evaluate import evaluate_other_data, evaluate_test_split
from fovea.studies.published import read_program
from fovea.studies.reproduce import Reproduction
from fovea.studies.seeds import FoldStudy, SeedStudy, members_of, read_study, seeds_of
from fovea.training.callbacks import Callback, as_callback
from fovea.training.checkpoint import plain_state
from fovea.training.plan import Own
from fovea.training.stopwatch import Stopwatch, running


@overload
def train(data: Any = None, *, seeds: None = None, folds: None = None, **options: Any) -> Run: ...


@overload
def train(data: Any = None, *, folds: int, **options: Any) -> FoldStudy[Run]: ...


@overload
def train(data: Any = None, *, seeds: int, **options: Any) -> SeedStudy[Run]: ...


def train(
    data: Any = None,
    *,
    model: Any = None,
    val_data: Any = None,
    test_data: Any = None,
    preprocessing_function: ImageFunction | None = None,
    callbacks: Sequence[Any] = (),
    seeds: int | None = None,
    folds: int | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    start_from: str | Path | None = None,
    resume: str | Path | None = None,
    force: bool = False,
    autotune: bool = False,
    profile: bool | Stopwatch = False,
    grade: str | None = None,
    budget: str | float | Budget | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Run | SeedStudy[Run]:
    """Train a classifier, test it once, and keep everything in a run folder.

    Args:
        data: a catalog name ("mnist"), a path, a pair (images, labels), a recipe's name or file, or a Recipe.
        model: a name ("resnet20"), a layer list, a module from float32 [B, C, H, W] to logits [B, K], a Keras file
            ("model.keras": its net, with fresh weights), or a Keras model, whose weights are the start.
        val_data, test_data: data for validation and test; else both are cut from the training images.
        preprocessing_function: of each image, float32 [H, W, C] in 0..255, to one of its shape; before rescaling.
        callbacks: `fovea.Callback`s, or functions of (state, metrics) called after each epoch.
        seeds: train so many times, with seeds seed, seed + 1 ...; the result is a SeedStudy.
        folds: train so many times, each time with another fold of the training images for validation; a FoldStudy.
        out: the folder that run folders are made in; None: runs.
        name: of the run folder; None: <data>-<model>.
        start_from: a run folder or a model file whose net is trained on, from its weights; a new run, whose config.yaml
            says where it comes from. `weights=` takes the weights alone; without either, weights are fresh.
        resume: the folder of a run (or of a study of seeds) that was broken off: go on in it with its settings. What
            YAML cannot hold is passed again: arrays as data, a module of your own, a preprocessing_function, callbacks.
            Of a finished run the result is returned.
        force: go on although the data, torch or the threads have changed; the bytes may differ then.
        autotune: measure which way of computing each convolution is the fastest here; the choices go into config.yaml.
        profile: measure where the time of the run goes; `run.profile` tells it.
        grade: "fast", "standard" or "best": which of the data set's recipes is trained; for other data, for how long.
        budget: "90s", "5m", "1h" or seconds: how long it may take from this call to the last prediction.
        verbose: write progress to stderr.
        settings: any setting of a recipe by its name: epochs=5, batch_size=128, lr=.01, patience=3, seed=1,
            augmentation="none", val_split=.2, image_size=64, device="cpu" ...

    Returns:
        The finished run (or the study of several seeds), read back from its folder.

    Raises:
        UserError: for data, settings or a model that cannot be used; nothing is written then.
        RunFailedError: when training broke off.
    """
    began = clock()
    source = find_net(model, start_from, settings)
    brought = Own(source.net, preprocessing_function, source.origin)
    own = Given(brought, _as_callbacks(callbacks), verbose, began)
    several = seeds is not None or folds is not None
    if profile and (resume is not None or several):
        raise SettingsError("profile measures one run from its beginning: it goes with no seeds, folds or resume.")
    if resume is not None:
        fresh: dict[str, Any] = {"seeds": seeds, "folds": folds, "out": out, "name": name, "from": start_from}
        fresh |= {"model": None if model is source.net else model, "autotune": autotune or None}
        fresh |= {"grade": grade, "budget": budget}
        _refuse_beside_resume(fresh)
        return resume_run(Path(resume), own, data, val_data, test_data, settings, force)
    if several and source.has_one_start:
        raise SettingsError("seeds needs a model that starts anew each time: a module or a Keras model has one start.")
    _check_fresh(data, force)
    members = members_of(seeds, folds, settings, val_data is not None)
    for note in source.notes:
        own.say("note", note)
    parts = {role: given for role, given in (("val_data", val_data), ("test_data", test_data)) if given is not None}
    changes = _changes(source.settings, folds, parts)
    if budget is not None and not isinstance(budget, Budget):
        budget = Budget(parse_seconds(budget), began)
    request = Request(changes, parts, brought, budget, several, autotune, began)
    with running(profile if isinstance(profile, Stopwatch) else Stopwatch() if profile else None):
        return _train_fresh(begin(data, grade, request), members, Path("runs" if out is None else out), name, own)


def _check_fresh(data: Any, force: bool) -> None:
    if data is None:
        raise SettingsError("DATA is missing: name a data set, a path or a recipe; or a run with --resume.")
    if force:
        raise SettingsError("--force belongs to --resume: there is nothing to force in a new run.")


def _changes(given: Mapping[str, Any], folds: int | None, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, with those that arguments of their own stand for."""
    changes = {**given, **({} if folds is None else {"fold": (1, folds)})}
    return changes | {role: str(part) if isinstance(part, str | Path) else ARRAYS for role, part in parts.items()}


def _as_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """A user's callbacks; what cannot be saved is refused before anything is written."""
    is_one = callable(callbacks) or isinstance(callbacks, Callback) or not isinstance(callbacks or (), Iterable)
    given = [callbacks] if is_one else callbacks or ()
    users = tuple(as_callback(callback) for callback in given)
    for callback in users:
        plain_state(callback)
    return users


def _refuse_beside_resume(options: Mapping[str, Any]) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise SettingsError(f"--resume goes on in place, with the settings of the run: leave out {', '.join(given)}.")


def _train_fresh(
    beginning: Beginning, members: tuple[str, int] | None, parent: Path, name: str | None, own: Given
) -> Run | SeedStudy[Run]:
    """A run or a study in a folder of its own, which is made once everything has been checked."""
    recipe, plan, raw = beginning.recipe, beginning.plan, beginning.raw
    unit, count = members or ("", 0)
    name = name or file_name(f"{raw.name}-{plan.recipe.model.name}") + (f"-{unit}s" if unit else "")
    numbers = seeds_of(recipe, count, unit) if unit else ()
    folder = create_run_folder(parent, name)
    if folder.name != name and is_unfinished(parent / name):
        own.say("note", f"{parent / name} is not finished; to go on with it instead: {resume_command(parent / name)}")
    if not unit:
        return new_run(plan, raw, folder, own)
    return new_study(recipe, numbers, plan, raw, folder, own, unit)


def reproduce(
    program: str | Path,
    *,
    seeds: int = 5,
    out: str | Path | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Reproduction:
    """Train a published program again and hold it against what was published.

    The trainings are a study of seeds in <out>/<program>: what is there already, with the same settings, is read back
    or gone on with, and seeds that are missing are added.

    Args:
        program: the name of a recipe such as "p2-cifar10-first", or a recipe's file.
        seeds: how many trainings; five and more give an interval worth having.
        out: the folder that studies are made in; None: runs.
        verbose: write progress to stderr.
        settings: as in `train`; what differs from the program is told.

    Returns:
        Each published figure with the 95 % prediction interval of the seeds, and the answer to what was asked.

    Raises:
        UserError: for a name that is no program, and for settings or data that cannot be used.
        RunFailedError: when training broke off; the same call goes on.
    """
    parent = Path("runs" if out is None else out)
    return reproduce_program(Wanted(read_program(str(program)), seeds, parent, settings, verbose))


def load_data(data: Any, **settings: Any) -> ImageSets:
    """Read data as training would, without training.

    Args:
        data: what `train` takes: a catalog name, a path, arrays.
        settings: image_size, label_column, skip_bad, outside_paths, as in a recipe.

    Returns:
        Part ("train", and where the data has them "val" and "test") -> its images, uint8 [N, H, W, C], and labels.

    Raises:
        UserError: for data that cannot be used.
    """
    return ImageSets(describe_data(data, **settings).sets)


def describe_data(data: Any, **settings: Any) -> DataFacts:
    """What is in data: counts, shapes, value ranges, whether it is the published set.

    Args and errors: as `load_data`.
    """
    return describe(_read_data(data, settings))


def audit_data(data: Any, **settings: Any) -> DataFacts:
    """What is in data and what is wrong with it: its `problems` and `near`-duplicates (docs/audit.md).

    Args and errors: as `load_data`.
    """
    return audit(_read_data(data, settings))


def _read_data(data: Any, settings: Mapping[str, Any]) -> RawData:
    recipe, source = resolve_data(data)
    recipe = with_settings(recipe, settings)
    return read_raw(recipe.data.source if source is None else source, read_options(recipe))


def write_data_page(facts: DataFacts, folder: Path) -> Path:
    """Write what an audit found as a page: <folder>/data-<name>.html."""
    path = make_out(folder) / f"data-{file_name(facts.name)}.html"
    write_text(check_target(path), render(data_report(facts)))
    return path


def write_samples(facts: DataFacts, folder: Path) -> Path:
    """Draw some images of data as <folder>/<name>-samples.png."""
    path = make_out(folder) / f"{file_name(facts.name)}-samples.png"
    save_figure(draw_samples(facts.sets), path)
    return path


def load_run(
    path: str | Path, model: nn.Module | None = None, preprocessing_function: ImageFunction | None = None
) -> Run:
    """Read a run folder back, in a fresh process too.

    Args:
        model: the module that the run was trained with, where it was your own.
        preprocessing_function: the one that it was trained with; only its answers for images need it.

    Raises:
        DataError: when the folder is no finished run.
    """
    return Run(path, model, preprocessing_function)


def write_reports(paths: Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write the report of a run, of a study of seeds, or of several runs held against each other.

    Args:
        paths: run folders; or one folder of a study.
        output: the page; None: report.html in the folder, or compare-....html beside the first of several.

    Raises:
        DataError: when a folder is no finished run, or a file of it is missing or damaged.
        RunFailedError: when the page cannot be written.
    """
    place = None if output is None else Path(output)
    if len(paths) > 1:
        return write_comparison([finished_run(path) for path in paths], place)
    folder = Path(paths[0])
    if (folder / COMPARISON).is_file():
        return write_recipes_report(read_comparison(folder), place)
    if (folder / SEEDS).is_file():
        return write_study_report(read_study(folder, finished_run), place)
    return write_run_report(finished_run(folder), place)


def write_run_figures(
    paths: Sequence[str | Path],
    names: Sequence[str],
    out: str | Path | None = None,
    form: str = "png",
    normalize: bool = False,
) -> list[Path]:
    """Draw figures of runs by their names.

    Args:
        paths: run folders. The curves of several go into one figure, their other figures into a folder each.
        names: of `fovea.reporting.figures.FIGURES`, or "all": those that every run has.
        out: the folder; None: the run folder, and for the curves of several the folder of the first.
        form: "png" or "svg".
        normalize: of the confusion matrix: shares instead of counts.

    Raises:
        SettingsError: for an unknown figure or form.
    """
    runs = named_runs([finished_run(path) for path in paths])
    wanted = [name for name in names if name != "all" and FIGURES[name]]
    if "all" in names:
        wanted = [name for name in FIGURES if name in wanted or name not in ON_DEMAND]
    place = None if out is None else make_out(Path(out))
    written = []
    if len(runs) > 1 and "curves" in wanted:
        wanted.remove("curves")
        written.append(write_curves_of_runs(runs, place, form))
    for name, run in runs.items():
        folder = run.path if place is None else place if len(runs) == 1 else make_out(place / file_name(name))
        drawn = [write_figure(run, figure, folder, form, normalize) for figure in wanted]
        if place is None:
            update_manifest(folder, [file.name for file in drawn])
        written += drawn
    return written


def evaluate_run(path: str | Path, data: str | None = None, skip_bad: bool = False) -> tuple[Predictions, Looks]:
    """Evaluate a saved run on its own test images, or on other labelled data.

    Args:
        skip_bad: leave out images of `data` that cannot be decoded.

    Returns:
        The predictions, and all looks at this test set.

    Raises:
        DataError: when the data is not there, has changed, or does not fit the run's classes.
    """
    run = StoredRun(path)
    if data is not None and data_place(data) != run.recipe.data.source:
        options = read_options(run.recipe)
        size = run.model.preprocessor.image_shape[:2]
        raw = read_to_judge(data, replace(options, image_size=size, skip_bad=skip_bad or options.skip_bad))
        for note in raw.notes:
            say_on(progress_stream())("note", note)
        return evaluate_other_data(run, raw)
    recipe = run.recipe
    return evaluate_test_split(run, read_all(recipe, recipe.data.source))


def summary(
    model: Any = "small",
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
) -> Summary:
    """The table of a net: layer, output shape, parameters, multiply-adds of one image.

    Args:
        model: a name, a layer list, a module, a Keras file or a Keras model.
        image_shape: height, width, channels; of a Keras model its own are taken.

    Raises:
        ModelError: when the net does not fit such images, or the shape is none.
    """
    keras = keras_model(model)
    if keras is not None:
        model, image_shape, num_classes = keras.layers, keras.image_shape, keras.num_classes
    if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
        raise ModelError(f"image_shape is {image_shape}: expected height, width, channels, such as (28, 28, 1).")
    if isinstance(model, nn.Module):
        check_net(model, image_shape, num_classes)
        return summarize(model, image_shape)
    settings = ModelSettings(name=model) if isinstance(model, str) else ModelSettings(layers=model)
    return summarize(build_net(complete_model(settings, image_shape), image_shape, num_classes, seed=0), image_shape)
