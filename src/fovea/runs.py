"""Runs in their folders: begun, gone on with after a stop, carried to their end; one alone, or one a seed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fovea.data.imageset import RawData
from fovea.data.split import split_from_json
from fovea.errors import SettingsError
from fovea.evaluation.run import Run
from fovea.files import read_json
from fovea.models.zoo import MODELS
from fovea.reporting.console import EpochLines, plan_lines, progress_stream, say_on
from fovea.reporting.figures import write_figures
from fovea.runfolder import LOCK, SEEDS, create_run_folder, is_finished, ledger_folder, locked, write_manifest
from fovea.settings import Recipe, read_recipe, read_record
from fovea.sources import read_all
from fovea.studies.seeds import SeedStudy, begin_study, read_study, run_seeds, study_seeds
from fovea.training.callbacks import Callback
from fovea.training.checkpoint import Checkpoint
from fovea.training.records import recipe_digest
from fovea.training.resume import (
    check_changes,
    data_changes,
    environment_changes,
    find_start,
    mend_folder,
    resumed_recipe,
    settings_changes,
)
from fovea.training.run import Plan, Say, begin_run, plan_run, run_writer, say_nothing, train_run


@dataclass(frozen=True, eq=False)
class Given:
    """What a call brings along that no folder holds: a module and callbacks of the user's own."""

    net: nn.Module | None = None
    callbacks: tuple[Callback, ...] = ()
    verbose: bool = True

    @property
    def say(self) -> Say:
        """Writes a line that the user should see."""
        return say_on(progress_stream()) if self.verbose else say_nothing


def new_run(plan: Plan, raw: RawData, folder: Path, given: Given) -> Run:
    """Train in an empty run folder."""
    with locked(folder):
        begin_run(plan, folder)
        return _carry_through(plan, raw, folder, given)


def new_study(
    recipe: Recipe, seeds: tuple[int, ...], plan: Plan, raw: RawData, folder: Path, given: Given
) -> SeedStudy:
    """Train once for each seed, in run folders below an empty folder; `plan` is that of the first."""
    with locked(folder):
        begin_study(folder, seeds)  # first: a folder with config.yaml and without seeds.json is a single run
        begin_run(plan, folder)
        return _carry_study(recipe, read_record(folder / "config.yaml"), seeds, raw, folder, given)


def resume_run(
    folder: Path,
    given: Given,
    data: Any = None,
    val_data: Any = None,
    test_data: Any = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Run | SeedStudy:
    """Go on with a run or a study that was broken off; a finished one is read back.

    Args:
        data, val_data, test_data: where the images are now; None: where they were.
        settings: of the hardware only.
        force: go on although the bytes may differ.

    Raises:
        UserError: when the folder is no run, another process trains in it, or it cannot go on as it began.
        RunFailedError: when training broke off.
    """
    _check_folder(folder)
    if is_finished(folder):
        given.say("finished", f"{folder}: nothing is left to do")
        return read_study(folder) if _is_study(folder) else Run(folder, given.net)
    with locked(folder):
        saved, record = read_recipe(folder / "config.yaml"), read_record(folder / "config.yaml")
        recipe, changes = resumed_recipe(saved, record, settings or {})
        more, notes = environment_changes(folder)
        for note in notes:
            given.say("note", note)
        check_changes(folder, changes + more, force)

        def read() -> RawData:
            return read_all(recipe, recipe.data.source if data is None else data, val_data, test_data)

        if _is_study(folder):
            return _carry_study(recipe, record, study_seeds(folder), read(), folder, given, changes + more, force)
        return _go_on(folder, recipe, read, given, changes + more, force)


def _is_study(folder: Path) -> bool:
    return (folder / SEEDS).is_file()


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(f"There is no run folder {folder} (looked for it from {Path.cwd()}).")
    if not (folder / "config.yaml").is_file():
        husk = (folder / LOCK).is_file() or (folder / "split.json").is_file()
        reason = (
            "it was stopped before training began: train anew, nothing was lost" if husk else "it has no config.yaml"
        )
        raise SettingsError(f"{folder} holds no run to go on with: {reason}.")


def _go_on(
    folder: Path, recipe: Recipe, read: Callable[[], RawData], given: Given, changes: list[str], force: bool
) -> Run:
    """Go on with one run, whose lock is held.

    Args:
        recipe: the settings to go on with; those that the run began with stand in its folder.
        changes: what is known to differ from when it began.
    """
    saved, record = read_recipe(folder / "config.yaml"), read_record(folder / "config.yaml")
    _check_net(folder, saved, given)
    found = find_start(folder)
    changes = changes + settings_changes(found, saved)
    check_changes(folder, changes, force)
    raw = read()
    plan = plan_run(recipe, raw, given.net, split_from_json(read_json(folder / "split.json")))
    changes = changes + data_changes(plan.splits, record)
    check_changes(folder, changes, force)
    mend_folder(folder, found, run_writer(plan, folder), changes)
    for reason in found.skipped.values():
        given.say("skipped", f"a newer state: {reason}")
    for change in changes:
        given.say("forced", f"{change}: the bytes may differ from those of an uninterrupted run")
    return _carry_through(plan, raw, folder, given, found.checkpoint, recipe_digest(saved), is_resumed=True)


def _check_net(folder: Path, saved: Recipe, given: Given) -> None:
    named = saved.model.layers is not None or saved.model.name in MODELS
    if given.net is None and not named:
        raise SettingsError(
            f"{folder} was trained with a module of your own ({saved.model.name}): pass it again in Python, "
            "fovea.train(resume=..., model=...)."
        )
    if given.net is not None and type(given.net).__name__ != saved.model.name:
        raise SettingsError(
            f"{folder} was trained with the model {saved.model.name}, not with a {type(given.net).__name__}."
        )


def _carry_through(
    plan: Plan,
    raw: RawData,
    folder: Path,
    given: Given,
    start: Checkpoint | None = None,
    recipe_sha256: str | None = None,
    is_resumed: bool = False,
) -> Run:
    """Train from `start` to the end; figures and manifest make the run finished."""
    say = given.say
    for topic, line in [("run", str(folder)), *plan_lines(plan, raw.name, raw.form)]:
        say(topic, line)
    if is_resumed:
        say("resume", f"going on after {start.place}" if start else "no state had been saved: from the beginning")
    watchers = [EpochLines(plan, progress_stream())] if given.verbose else []
    train_run(
        plan,
        folder,
        ledger_folder(folder),
        given.callbacks,
        say,
        watchers=watchers,
        start=start,
        recipe_sha256=recipe_sha256,
    )
    run = Run(folder, plan.net if plan.own_net else None)
    write_figures(run)
    write_manifest(folder)
    return run


def _carry_study(
    recipe: Recipe,
    record: Mapping[str, Any],
    seeds: tuple[int, ...],
    raw: RawData,
    folder: Path,
    given: Given,
    changes: list[str] | None = None,
    force: bool = False,
) -> SeedStudy:
    """Train, go on with or read back the run of each seed; the lock of the study is held."""

    def train_one(one: Recipe, run_folder: Path) -> Run:
        if is_finished(run_folder):
            return Run(run_folder)
        if (run_folder / "config.yaml").is_file():
            with locked(run_folder):
                return _go_on(run_folder, one, lambda: raw, given, changes or [], force)
        shutil.rmtree(run_folder, ignore_errors=True)  # stopped before its settings were written
        plan = plan_run(one, raw)
        check_changes(folder, data_changes(plan.splits, record), force)
        return new_run(plan, raw, create_run_folder(folder, run_folder.name), given)

    study = run_seeds(recipe, seeds, folder, train_one)
    write_manifest(folder)
    return study
