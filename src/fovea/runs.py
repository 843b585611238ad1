"""Runs in their folders: begun, gone on with after a stop, carried to their end; one alone, or one a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fovea.afterwards import keep_examples, keep_slices, write_time_profile
from fovea.budget import Budget, clock
from fovea.data.guard import profile_from_json
from fovea.data.imageset import RawData
from fovea.data.prepare import prepare_splits
from fovea.data.preprocess import preprocessor_from_json
from fovea.data.split import split_from_json
from fovea.display import Say, say_nothing
from fovea.doctor import add_findings
from fovea.errors import SettingsError
from fovea.evaluation.stored import StoredRun
from fovea.files import read_json, remove_partial
from fovea.models.zoo import MODELS
from fovea.recipefile import read_config, read_record
from fovea.reporting.console import EpochLines, plan_lines
from fovea.reporting.figures import write_figures
from fovea.reporting.terminal import progress_stream, say_on
from fovea.reporting.write import write_run_report, write_study_report
from fovea.runfolder import (
    COMPARISON,
    INPUT_PROFILE,
    SEEDS,
    create_run_folder,
    is_finished,
    is_husk,
    ledger_folder,
    locked,
    remove_husk,
    write_manifest,
)
from fovea.runview import Run
from fovea.settings import Recipe, with_fields
from fovea.sources import read_all, with_places
from fovea.studies.seeds import (
    SeedStudy,
    alike_in_all_folds,
    begin_study,
    of_any_fold,
    read_study,
    run_seeds,
    study_plan,
    study_unit,
)
from fovea.training import stopwatch
from fovea.training.callbacks import Callback
from fovea.training.checkpoint import Checkpoint
from fovea.training.dataaudit import audit_run
from fovea.training.plan import Own, Plan, plan_run, with_pace
from fovea.training.records import recipe_digest, record_end, told
from fovea.training.resume import (
    check_changes,
    check_given,
    check_plan,
    check_settings,
    data_changes,
    environment_changes,
    find_start,
    fingerprints,
    mend_folder,
    resumed_recipe,
    update_config,
)
from fovea.training.run import begin_run, run_writer, train_run


def _nobody(plan: Plan, folder: Path) -> Sequence[Callback]:
    return ()


@dataclass(frozen=True, eq=False)
class Given:
    """What a call brings along that no folder holds: a module, a function for images, callbacks of the user's own."""

    own: Own = field(default_factory=Own)
    callbacks: tuple[Callback, ...] = ()
    verbose: bool = True
    began: float = field(default_factory=clock)  # what a budget counts from
    watch: Callable[[Plan, Path], Sequence[Callback]] = _nobody  # who watches a run and changes nothing of it

    @property
    def say(self) -> Say:
        """Writes a line that the user should see."""
        return say_on(progress_stream()) if self.verbose else say_nothing


def new_run(plan: Plan, raw: RawData, folder: Path, given: Given, changes: Sequence[str] = ()) -> Run:
    """Train in an empty run folder.

    Args:
        changes: what has changed since the study began that the run belongs to.
    """
    with locked(folder):
        with told(folder, given.say), stopwatch.phase("saving", "metrics and results"):
            begin_run(plan, folder, changes)
        return _carry_through(plan, raw, folder, given)


def new_study(
    recipe: Recipe,
    seeds: tuple[int, ...],
    plan: Plan,
    raw: RawData,
    folder: Path,
    given: Given,
    unit: str = "seed",
) -> SeedStudy[Run]:
    """Train once for each seed (or fold), in run folders below an empty folder; `plan` is that of the first."""
    recipe = alike_in_all_folds(recipe, plan.recipe) if unit == "fold" else recipe
    with locked(folder):
        with told(folder, given.say):
            # First: a folder with config.yaml and without seeds.json is a single run.
            begin_study(folder, seeds, recipe_digest(plan.recipe), unit)
            begin_run(plan, folder)
        return _carry_study(_Study(folder, recipe, seeds, {}, [], False), raw, given)


def resume_run(
    folder: Path,
    given: Given,
    data: Any = None,
    val_data: Any = None,
    test_data: Any = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Run | SeedStudy[Run]:
    """Go on with a run or a study that was broken off; a finished one is read back.

    Args:
        data, val_data, test_data: where the images are now; None: where they were.
        settings: of the hardware only, and save_seconds.
        force: go on although the bytes may differ.

    Raises:
        UserError: when the folder is no run, another process trains in it, or it cannot go on as it began.
        RunFailedError: when training broke off.
    """
    settings = settings or {}
    _check_folder(folder)
    check_given(settings)
    if is_finished(folder):
        return _finished(folder, given)
    with locked(folder):
        if is_finished(folder):  # by the process that held the lock a moment ago
            return _finished(folder, given)
        saved, record = read_config(folder / "config.yaml")
        recipe, changes = resumed_recipe(saved, record, settings)
        more, notes = environment_changes(folder)
        changes += more
        check_changes(folder, changes, force)
        for note in notes:
            given.say("note", note)
        recipe, read = _source_now(recipe, data, val_data, test_data)
        if not _is_study(folder):
            return _go_on(folder, recipe, read, given, changes, force)
        if given.own.net is not None:
            raise SettingsError(f"{folder} is a study of seeds, which has no module of your own: leave out model.")
        seeds, digest = study_plan(folder)
        check_settings(folder, digest, saved)
        if study_unit(folder) == "fold":
            recipe = of_any_fold(recipe, record["images"]["train"])
        remove_partial(folder)
        return _carry_study(_Study(folder, recipe, seeds, settings, changes, force), read(), given)


def _source_now(recipe: Recipe, data: Any, val_data: Any, test_data: Any) -> tuple[Recipe, Callable[[], RawData]]:
    """The recipe with the places where its images are now, and what reads them."""
    parts = {"val_data": val_data, "test_data": test_data}
    parts = {role: given for role, given in parts.items() if given is not None}
    places = {role: str(given) for role, given in parts.items() if isinstance(given, str | Path)}
    if str(data).endswith((".yaml", ".yml")) or isinstance(data, Recipe):
        raise SettingsError("--resume goes on with the settings of the run: leave the recipe out.")
    source = recipe.data.source if data is None else data
    recipe = with_places(with_fields(recipe, "data", **places), source)
    return recipe, lambda: read_all(recipe, source, **parts)


def _finished(folder: Path, given: Given) -> Run | SeedStudy[Run]:
    given.say("finished", f"{folder}: nothing is left to do")
    if _is_study(folder):
        return read_study(folder, lambda path: Run(path, function=given.own.function))
    return Run(folder, given.own.net, given.own.function)


def _is_study(folder: Path) -> bool:
    return (folder / SEEDS).is_file()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(f"There is no run folder {folder} (looked for it from {Path.cwd()}).")
    if not (folder / "config.yaml").is_file():
        reason = "it has no config.yaml"
        if (folder / COMPARISON).is_file():
            reason = "it is a comparison: the command that began it goes on"
        if is_husk(folder):
            reason = "it was stopped before training began: train anew, nothing was lost"
        raise SettingsError(f"{folder} holds no run to go on with: {reason}.")


def _go_on(
    folder: Path, recipe: Recipe, read: Callable[[], RawData], given: Given, changes: list[str], force: bool
) -> Run:
    """Go on with one run, whose lock is held.

    Args:
        recipe: the settings to go on with; those that the run began with stand in its folder.
        changes: what is known to differ from when it began.
    """
    saved, record = read_config(folder / "config.yaml")
    _check_net(folder, saved, given)
    found = find_start(folder)
    if found.checkpoint is not None:
        check_settings(folder, found.checkpoint.recipe_sha256, saved)
        check_plan(folder, found.checkpoint, saved)
    raw = read()
    split, has_begun = split_from_json(read_json(folder / "split.json")), found.checkpoint is not None
    plan = plan_run(recipe, raw, given.own, split, has_begun=has_begun)
    changes = changes + data_changes(plan.splits, record)
    check_changes(folder, changes, force)
    plan = _with_what_was_fitted(plan, folder)
    mend_folder(folder, found, run_writer(plan, folder), changes)
    update_config(folder, recipe.data)
    for reason in found.skipped:
        given.say("skipped", f"a newer state: {reason}")
    _say_forced(changes, given)
    start = found.checkpoint
    audit_run(plan, folder, given.say)  # where it was stopped before; a budget is planned after it
    plan = _paced_again(plan, start, given, record)
    place = f"going on after {start.place}" if start and start.step else "from the beginning"
    return _carry_through(plan, raw, folder, given, start, recipe_digest(saved), [("resume", place)])


def _paced_again(plan: Plan, start: Checkpoint | None, given: Given, record: Mapping[str, Any]) -> Plan:
    """The plan, held to what is left of its budget: the time of earlier processes counts."""
    training = plan.recipe.training
    step, before = (0, 0.0) if start is None else (start.step, start.seconds)
    if training.budget_seconds is None or training.plan is None or step >= training.plan[-1][1]:
        return plan
    budget = record.get("budget")
    used = budget.get("used_before_training") if isinstance(budget, Mapping) else None
    before += used if isinstance(used, int | float) else 0.0
    return with_pace(plan, Budget(training.budget_seconds, given.began - before))


def _with_what_was_fitted(plan: Plan, folder: Path) -> Plan:
    """The plan with the run's own preprocessing, which changed data would have fitted in another way."""
    preprocessor = preprocessor_from_json(read_json(folder / "preprocess.json"))
    classes = read_json(folder / "classes.json")
    if list(plan.splits.sets["train"].classes) != classes:
        raise SettingsError(f"The classes of the data are not those that {folder} began with: train a new run.")
    return replace(
        plan,
        preprocessor=preprocessor.with_function(plan.preprocessor.function, str(folder)),
        profile=profile_from_json(read_json(folder / INPUT_PROFILE)),
    )


def _say_forced(changes: list[str], given: Given) -> None:
    for change in changes:
        given.say("forced", f"{change}: the bytes may differ from those of an uninterrupted run")


def _check_net(folder: Path, saved: Recipe, given: Given) -> None:
    named = saved.model.layers is not None or saved.model.name in MODELS
    if given.own.net is None and not named:
        raise SettingsError(
            f"{folder} was trained with a module of your own ({saved.model.name}): pass it again in Python, "
            "fovea.train(resume=..., model=...)."
        )
    if given.own.net is not None and type(given.own.net).__name__ != saved.model.name:
        raise SettingsError(
            f"{folder} was trained with the model {saved.model.name}, not with a {type(given.own.net).__name__}."
        )


def _carry_through(
    plan: Plan,
    raw: RawData,
    folder: Path,
    given: Given,
    start: Checkpoint | None = None,
    recipe_sha256: str | None = None,
    notes: Sequence[tuple[str, str]] = (),
) -> Run:
    """Train from `start` to the end; figures and manifest make the run finished."""
    say = given.say
    for topic, line in [("run", str(folder)), *plan_lines(plan, raw.name, raw.form), *notes]:
        say(topic, line)
    watchers = [*given.watch(plan, folder), *([EpochLines(plan, progress_stream())] if given.verbose else [])]
    ledger = ledger_folder(folder)
    try:
        train_run(
            plan,
            folder,
            ledger,
            given.callbacks,
            say,
            watchers=watchers,
            start=start,
            recipe_sha256=recipe_sha256,
        )
        if recipe_sha256 is not None:  # gone on with, perhaps by force, on images that have changed
            update_config(folder, plan.recipe.data, fingerprints(plan.splits))
        add_findings(folder, plan.splits.sets, plan.recipe, say)
        run = Run(folder, plan.net if plan.own_net else None, plan.preprocessor.function)
        with stopwatch.phase("rest", "report"):
            keep_examples(plan, run)
            keep_slices(plan, run)
            if plan.recipe.evaluation.report:
                draw_run(run)
        write_time_profile(folder)
        write_manifest(folder)
    except BaseException as error:  # Ctrl-C too: the log says how the run ended, the terminal how it goes on
        record_end(folder, error, say)
        raise
    return run


def draw_run(run: StoredRun) -> None:
    """Draw the figures and write the page of a run."""
    write_figures(run)
    write_run_report(run)


@dataclass(frozen=True, eq=False)
class _Study:
    """What all the runs of a study share.

    Attributes:
        recipe: the settings of runs that have not begun.
        given_settings: of the hardware, given now.
        changes: what has changed since the study began.
    """

    folder: Path
    recipe: Recipe
    seeds: tuple[int, ...]
    given_settings: Mapping[str, Any]
    changes: list[str]
    force: bool


def _carry_study(study: _Study, raw: RawData, given: Given) -> SeedStudy[Run]:
    """Train, go on with or read back the run of each seed; the lock of the study is held."""
    beginnings = [copy.deepcopy(callback.state_dict()) for callback in given.callbacks]

    def train_one(recipe: Recipe, run_folder: Path) -> Run:
        if is_finished(run_folder):
            return Run(run_folder, function=given.own.function)
        for callback, state in zip(given.callbacks, beginnings, strict=True):
            if callback.state_dict() != state:  # what it counted in the run before
                callback.load_state_dict(copy.deepcopy(state))
        if (run_folder / "config.yaml").is_file():
            return _go_on_in_study(study, run_folder, raw, given)
        return _begin_in_study(study, recipe, run_folder, raw, given)

    found = run_seeds(study.recipe, study.seeds, study.folder, train_one)
    with told(study.folder, given.say):
        if study.recipe.evaluation.report:
            write_study_report(found)
        write_manifest(study.folder)
    return found


def _go_on_in_study(study: _Study, run_folder: Path, raw: RawData, given: Given) -> Run:
    with locked(run_folder):
        saved, record = read_config(run_folder / "config.yaml")
        recipe, changes = resumed_recipe(saved, record, study.given_settings)
        more, _ = environment_changes(run_folder)
        changes = list(dict.fromkeys([*study.changes, *changes, *more]))
        here = study.recipe.data.model_copy(update={"fold": recipe.data.fold})  # where the images are now
        recipe = recipe.model_copy(update={"data": here})
        check_changes(run_folder, changes, study.force)
        return _go_on(run_folder, recipe, lambda: raw, given, changes, study.force)


def _begin_in_study(study: _Study, recipe: Recipe, run_folder: Path, raw: RawData, given: Given) -> Run:
    with told(study.folder, given.say):
        plan, changes = _plan_in_study(study, recipe, run_folder, raw, given)
    return new_run(plan, raw, create_run_folder(study.folder, run_folder.name), given, changes)


def _plan_in_study(
    study: _Study, recipe: Recipe, run_folder: Path, raw: RawData, given: Given
) -> tuple[Plan, list[str]]:
    """The plan of a run of a study, and what has changed since the study began."""
    remove_husk(run_folder)
    first = split_from_json(read_json(study.folder / "split.json"))
    by_fold = study_unit(study.folder) == "fold"
    plan = plan_run(recipe, raw, Own(function=given.own.function), None if by_fold else first)
    record = read_record(study.folder / "config.yaml")
    plan = replace(plan, record={**plan.record, **{name: record[name] for name in ("grade",) if name in record}})
    size = plan.recipe.preprocessing.image_size
    began_with = prepare_splits(raw, study.recipe.data, size, first) if by_fold else plan.splits
    changed = data_changes(began_with, record)
    check_changes(study.folder, changed, study.force)
    _say_forced(study.changes + changed, given)
    return plan, study.changes + changed
