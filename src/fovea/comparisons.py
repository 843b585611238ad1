"""Recipes trained with paired seeds: planned, begun, gone on with or read back, one after another or side by side."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.data.imageset import ImageSet, RawData
from fovea.errors import DataError, NonFiniteLossError, RunFailedError, SettingsError, UserError
from fovea.files import read_json, remove_partial, write_json
from fovea.grades import Beginning, Request, begin
from fovea.runfolder import (
    AGAIN,
    COMPARISON,
    MANIFEST,
    create_run_folder,
    folders_of_name,
    is_finished,
    locked,
    remove_husk,
    write_manifest,
)
from fovea.runs import Given, new_run, resume_run
from fovea.runview import Run
from fovea.settings import Recipe, setting_path, with_settings
from fovea.sources import read_all
from fovea.studies.recipes_compared import Arm, RecipeComparison, compare_arms
from fovea.training.callbacks import Callback, TrainingState
from fovea.training.plan import plan_run
from fovea.training.records import recipe_digest
from fovea.training.resume import fingerprints

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

_OF_THE_COMPARISON = {"training.seed", "data.split_seed", "data.val_seed"}


@dataclass(frozen=True, eq=False)
class WantedArm:
    """A recipe to compare: its name, what `fovea.train` takes as data, and settings of its own."""

    name: str
    data: Any
    changes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class WantedComparison:
    """What a call asks for.

    Attributes:
        changes: settings of all recipes, by any of their names.
        parent: the folder that the comparison's folder is made in.
        jobs: how many trainings side by side; None: as the cores allow.
    """

    arms: tuple[WantedArm, ...]
    num_seeds: int
    changes: Mapping[str, Any]
    parent: Path
    jobs: int | None = None
    verbose: bool = True


@dataclass(frozen=True, eq=False)
class Cell:
    """One training of a comparison: a recipe with a seed, in a folder of its own."""

    recipe: Recipe
    folder: Path


def arms_of(recipes: Sequence[Any], vary: Mapping[str, Sequence[Any]]) -> tuple[WantedArm, ...]:
    """The recipes of a comparison: those given, or one of DATA with one or several settings varied together.

    Args:
        vary: setting -> its values, one an arm.

    Raises:
        SettingsError: where nothing, or the same thing twice, would be compared.
    """
    if not vary:
        if len(recipes) < 2:
            raise SettingsError(
                "One recipe has nothing to be compared with: name two, or vary a setting, such as "
                "--vary augmentation=none,digits."
            )
        named = [_name_of(one, number) for number, one in enumerate(recipes, 1)]
        names = [name if named.count(name) == 1 else str(one) for name, one in zip(named, recipes, strict=True)]
        if len(set(names)) < len(names):
            raise SettingsError("A recipe is named twice: a recipe cannot be compared with itself.")
        return tuple(WantedArm(name, one, {}) for name, one in zip(names, recipes, strict=True))
    if len(recipes) != 1:
        raise SettingsError("--vary changes settings of one DATA or recipe: name one, and leave the others out.")
    lengths = {len(values) for values in vary.values()}
    if len(lengths) > 1 or min(lengths) < 2:
        raise SettingsError("--vary needs two values or more, as many for each setting: --vary lr=0.01,0.03.")
    taken = sorted(name for name in vary if setting_path(name) in _OF_THE_COMPARISON)
    if taken:
        raise SettingsError(f"--vary {taken[0]}: the seeds differ from run to run in any comparison; see --seeds.")
    arms = []
    for values in zip(*vary.values(), strict=True):
        changes = dict(zip(vary, values, strict=True))
        arms.append(
            WantedArm(", ".join(f"{key}={_plain(value)}" for key, value in changes.items()), recipes[0], changes)
        )
    if len({arm.name for arm in arms}) < len(arms):
        raise SettingsError("--vary names a value twice: a recipe cannot be compared with itself.")
    return tuple(arms)


def _name_of(recipe: Any, number: int) -> str:
    """The name of a recipe, without the folder and the ending of its file."""
    if not isinstance(recipe, str | Path):
        return f"recipe {number}"
    return Path(recipe).stem if Path(recipe).suffix in (".yaml", ".yml") else str(recipe)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def compare_recipes(wanted: WantedComparison) -> RecipeComparison:
    """Train every recipe with every seed, or read back what is there, and hold them against the first.

    The folder is <parent>/compare-<first>-<second>..., or compare-<data>-<setting> where a setting is varied; the same
    call goes on in it where it was broken off, and adds seeds.

    Raises:
        UserError: for settings or data that cannot be used, or recipes that cannot be compared.
        RunFailedError: when a training broke off.
    """
    if wanted.num_seeds < 2:
        raise SettingsError(
            f"seeds {wanted.num_seeds}: a comparison of recipes needs two seeds, and 5 or more to be worth having. One "
            "training of each compares two nets: train both, and compare their run folders."
        )
    if wanted.jobs is not None and wanted.jobs < 1:
        raise SettingsError(f"jobs {wanted.jobs}: expected 1 or more.")
    beginnings = _shared([_begin(wanted, arm) for arm in wanted.arms])
    _check_same_test(wanted.arms, beginnings)
    first = beginnings[0].recipe
    seeds = tuple(range(first.training.seed, first.training.seed + wanted.num_seeds))
    folder, found = _folder(wanted, beginnings)
    if found is not None and is_finished(folder) and set(seeds) <= set(found):
        return _read_back(folder, wanted.arms, seeds)
    with locked(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        remove_partial(folder)
        every = tuple(sorted({*seeds, *(found or ())}))
        _write_plan(folder, wanted.arms, every, _identity(wanted, beginnings))
        _train_all(wanted, folder, seeds, beginnings)
        comparison = _read_back(folder, wanted.arms, seeds)
        _write_plan(folder, wanted.arms, every, _identity(wanted, beginnings), comparison)
        write_manifest(folder)
    return comparison


def read_comparison(folder: Path) -> RecipeComparison:
    """Read back a comparison whose trainings have all ended.

    Raises:
        DataError: when comparison.json or a run is damaged, or trainings are missing.
    """
    plan = read_json(folder / COMPARISON)
    try:
        arms = tuple(WantedArm(str(name), None, {}) for name in plan["names"])
        seeds = tuple(int(seed) for seed in plan["planned_seeds"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{folder / COMPARISON} is damaged: it does not hold the plan of a comparison.") from None
    if not is_finished(folder):
        raise DataError(f"The comparison {folder} was broken off before its end: the command that began it goes on.")
    return _read_back(folder, arms, seeds)


def _begin(wanted: WantedComparison, arm: WantedArm) -> Beginning:
    """What the first seed of a recipe begins with; nothing is written."""
    return begin(arm.data, None, Request({**wanted.changes, **arm.changes}, is_study=True))


def _shared(beginnings: list[Beginning]) -> list[Beginning]:
    """The same, with images that are alike held in memory once."""
    first = beginnings[0]
    alike = fingerprints(first.plan.splits)
    return [replace(each, raw=first.raw) if fingerprints(each.plan.splits) == alike else each for each in beginnings]


def _check_same_test(arms: Sequence[WantedArm], beginnings: Sequence[Beginning]) -> None:
    first = _test_images(beginnings[0])
    for arm, beginning in zip(arms[1:], beginnings[1:], strict=True):
        if _test_images(beginning) != first:
            counts = [len(each.plan.splits.sets["test"]) for each in (beginnings[0], beginning)]
            raise SettingsError(
                f"{arms[0].name} and {arm.name} have other test images or classes ({counts[0]:,} and {counts[1]:,} "
                "images): recipes are compared on the same ones. Give both the same data (--data DATA)."
            )


def _test_images(beginning: Beginning) -> tuple[list[str], list[str]]:
    """The ids and the class names of the test images: what is the same although sizes may differ."""
    images: ImageSet = beginning.plan.splits.sets["test"]
    return images.ids.astype(str).tolist(), [images.classes[label] for label in images.labels.tolist()]


def _identity(wanted: WantedComparison, beginnings: Sequence[Beginning]) -> str:
    """sha256 (hex) of what the trainings are: recipes as given, weights, data."""
    parts = [
        [arm.name, recipe_digest(each.recipe), each.recipe.model.weights_sha256, fingerprints(each.plan.splits)]
        for arm, each in zip(wanted.arms, beginnings, strict=True)
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _folder(wanted: WantedComparison, beginnings: Sequence[Beginning]) -> tuple[Path, tuple[int, ...] | None]:
    """The folder of this very comparison with its seeds, or a new one."""
    varied = wanted.arms[0].changes
    parts = [beginnings[0].raw.name, *varied] if varied else [arm.name for arm in wanted.arms]
    name = _file_name("compare-" + "-".join(parts))
    identity = _identity(wanted, beginnings)
    for folder in folders_of_name(wanted.parent, name):
        if (folder / COMPARISON).is_file():
            plan = read_json(folder / COMPARISON)
            if isinstance(plan, dict) and plan.get("identity") == identity:
                return folder, tuple(int(seed) for seed in plan.get("planned_seeds", ()))
    return create_run_folder(wanted.parent, name), None


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", text).strip(".-")[:100] or "compare"


def _write_plan(
    folder: Path, arms: Sequence[WantedArm], seeds: Sequence[int], identity: str, found: RecipeComparison | None = None
) -> None:
    plan = {"names": [arm.name for arm in arms], "planned_seeds": list(seeds), "identity": identity}
    write_json(folder / COMPARISON, {**plan, **({} if found is None else found.as_json())})


def _cell_folder(folder: Path, arms: Sequence[WantedArm], number: int, seed: int) -> Path:
    """<recipe>-seed-<seed>; names that make the same file name get the recipe's number."""
    names = [_file_name(arm.name) for arm in arms]
    name = names[number] if names.count(names[number]) == 1 else f"{names[number]}-{number + 1}"
    return folder / f"{name}-seed-{seed}"


def _read_back(folder: Path, arms: Sequence[WantedArm], seeds: Sequence[int]) -> RecipeComparison:
    found = [
        Arm(arm.name, tuple(Run(_cell_folder(folder, arms, number, seed)) for seed in seeds))
        for number, arm in enumerate(arms)
    ]
    return compare_arms(folder, seeds, found)


def _train_all(wanted: WantedComparison, folder: Path, seeds: Sequence[int], beginnings: Sequence[Beginning]) -> None:
    """Train what is missing, seed by seed, so that a comparison that is broken off has pairs."""
    first = beginnings[0].recipe
    cells = []
    for seed, (number, beginning) in itertools.product(seeds, enumerate(beginnings)):
        values = {"seed": seed, "split_seed": first.data.split_seed}
        values["val_seed"] = first.data.split_seed + seed - first.training.seed
        cells.append(
            (Cell(with_settings(beginning.recipe, values), _cell_folder(folder, wanted.arms, number, seed)), number)
        )
    missing = [(cell, number) for cell, number in cells if not is_finished(cell.folder)]
    jobs = min(wanted.jobs or default_jobs(), len(missing))
    if jobs > 1 and any(not isinstance(arm.data, str | Path | Recipe) for arm in wanted.arms):
        jobs = 1  # arrays stay in this process
    if jobs > 1:
        _side_by_side(wanted, [cell for cell, _ in missing], jobs)
        return
    for done, (cell, number) in enumerate(missing):
        given = Given(verbose=wanted.verbose)
        given.say(
            "compare", f"{wanted.arms[number].name}, seed {cell.recipe.training.seed}: {len(missing) - done} left"
        )
        _train_cell(cell, beginnings[number].raw, given, wanted.arms[number].data)


def default_jobs() -> int:
    """How many trainings run side by side: one for two cores, as a training gains little from more."""
    return max(1, (os.cpu_count() or 1) // 2)


def _train_cell(cell: Cell, raw: RawData, given: Given, data: Any = None) -> None:
    """Train, or go on with, one run; a finished one is left alone."""
    if is_finished(cell.folder):
        return
    if (cell.folder / "config.yaml").is_file():
        resume_run(cell.folder, given, data=None if isinstance(data, str | Path | Recipe) else data)
        return
    remove_husk(cell.folder)
    plan = plan_run(cell.recipe, raw)
    new_run(plan, raw, create_run_folder(cell.folder.parent, cell.folder.name), given)


def _side_by_side(wanted: WantedComparison, cells: Sequence[Cell], jobs: int) -> None:
    """Train in processes of their own, which share the cores.

    Raises:
        RunFailedError: when a training broke off; the others have saved their states then, as after a signal.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    threads = max(1, (os.cpu_count() or 1) // jobs)
    say = Given(verbose=wanted.verbose).say
    say(
        "compare", f"{len(cells)} trainings, {jobs} side by side with {threads} thread{'s' if threads > 1 else ''} each"
    )
    shared = [
        cell if cell.recipe.training.threads is not None else
        replace(cell, recipe=with_settings(cell.recipe, {"threads": threads}))
        for cell in cells
    ]  # fmt: skip
    context, others = get_context("spawn"), set(active_children())
    stop = context.Event()
    with ProcessPoolExecutor(jobs, context, _begin_beside, (stop,)) as pool:
        try:
            futures = {pool.submit(train_alone, cell): cell for cell in shared}
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                say("compare", f"{futures[future].folder.name} has ended; {len(cells) - done} left")
        except BaseException as error:
            stop.set()
            if not isinstance(error, UserError | NonFiniteLossError):
                say("to go on", f"{AGAIN.format('compare')}; the trainings save their states")
            try:
                pool.shutdown(wait=True, cancel_futures=True)
            except BaseException:  # a second signal: what was saved before stands
                for child in set(active_children()) - others:
                    child.kill()
                raise
            if isinstance(error, BrokenProcessPool):
                raise RunFailedError(
                    "A training was ended from outside, as the system does where memory is short: --jobs 1 needs least."
                ) from None
            raise


class StopWhenAsked(Callback):
    """Stops a training beside others as a signal would, after the step in which its parent asks for it."""

    def __init__(self, asked: Event) -> None:
        self.asked = asked

    def on_step(self, state: TrainingState) -> None:
        if self.asked.is_set():
            signal.raise_signal(signal.SIGTERM)


# Of a process that trains beside others: whether it is to stop, and who holds its only turn to train.
_asked_to_stop: Event | None = None
_turn = threading.Lock()


def _begin_beside(asked: Event) -> None:
    """What a process that trains beside others begins with."""
    global _asked_to_stop
    _asked_to_stop = asked
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent decides
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_with, args=(parent_process(), asked), daemon=True).start()


def _end_with(parent: Any, asked: Event) -> None:
    """End this process, its training saved, when its parent has ended without a word: no executor does."""
    if parent is not None:
        parent.join()
        asked.set()
        with _turn:
            os._exit(128 + signal.SIGTERM)


def train_alone(cell: Cell) -> None:
    """Train one run of a comparison in this process, which reads the images for it."""
    asked = _asked_to_stop
    if asked is not None and asked.is_set():
        sys.exit(128 + signal.SIGTERM)
    given = Given(verbose=False) if asked is None else Given(verbose=False, watch=lambda *_: [StopWhenAsked(asked)])
    with _turn:
        _train_cell(cell, read_all(cell.recipe, cell.recipe.data.source), given)
