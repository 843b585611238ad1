"""Recipes trained with paired seeds: planned, begun, gone on with or read back."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fovea.data.imageset import ImageSet
from fovea.errors import DataError, SettingsError
from fovea.files import read_json, remove_partial, write_json
from fovea.grades import Beginning, Request, begin
from fovea.runfolder import (
    COMPARISON,
    MANIFEST,
    create_run_folder,
    folders_of_name,
    is_finished,
    locked,
    write_manifest,
)
from fovea.runs import Given
from fovea.runview import Run
from fovea.settings import Recipe, setting_path, with_settings
from fovea.sidebyside import Cell, default_jobs, train_cell, train_side_by_side
from fovea.studies.recipes_compared import Arm, RecipeComparison, compare_arms
from fovea.training.records import recipe_digest
from fovea.training.resume import fingerprints

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
        train_side_by_side([cell for cell, _ in missing], jobs, Given(verbose=wanted.verbose).say)
        return
    for done, (cell, number) in enumerate(missing):
        given = Given(verbose=wanted.verbose)
        given.say(
            "compare", f"{wanted.arms[number].name}, seed {cell.recipe.training.seed}: {len(missing) - done} left"
        )
        train_cell(cell, beginnings[number].raw, given, wanted.arms[number].data)
