"""Published programs trained again from their recipes: begun, gone on with, or read back; then held against theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fovea.budget import clock
from fovea.errors import SettingsError
from fovea.files import write_json
from fovea.grades import Beginning, Request, begin
from fovea.recipefile import read_recipe
from fovea.runfolder import MANIFEST, PROGRAM, SEEDS, create_run_folder, folders_of_name, is_finished, locked
from fovea.runs import Given, new_run, new_study, resume_run
from fovea.runview import Run
from fovea.settings import Recipe, setting_path, with_fields, with_settings
from fovea.studies.answers import Case, answer
from fovea.studies.beside import watchers_of
from fovea.studies.published import Program, read_program
from fovea.studies.reproduce import Reproduction, summed_up, train_seconds
from fovea.studies.seeds import SeedStudy, begin_study, read_study, study_plan
from fovea.studies.twice import Twice, all_test_images, answer_twice
from fovea.training.records import recipe_digest
from fovea.training.resume import HARDWARE

Study = SeedStudy[Run]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a call asks for.

    Attributes:
        num_seeds: how many trainings, with the recipe's seed and those that follow it.
        parent: the folder that studies are made in.
        changes: settings by any of their names.
    """

    program: Program
    num_seeds: int
    parent: Path
    changes: Mapping[str, Any]
    verbose: bool = True
    began: float = field(default_factory=clock)

    @property
    def hardware(self) -> dict[str, Any]:
        """The changes that are of the hardware, by their bare names."""
        changes = {setting_path(name).split(".")[1]: value for name, value in self.changes.items()}
        return {name: value for name, value in changes.items() if name in HARDWARE}


def reproduce_program(wanted: Wanted) -> Reproduction:
    """Train a program's seeds, or read back those that are there, and hold them against what was published.

    Raises:
        UserError: for settings or data that cannot be used.
        RunFailedError: when training broke off.
    """
    if wanted.num_seeds < 1:
        raise SettingsError(f"seeds {wanted.num_seeds}: expected 1 or more.")
    program = wanted.program
    if program.record.before is not None:
        return _reproduce_twice(wanted, program.record.before)
    beginning = _begin(wanted, program, wanted.changes)
    study = _trained(wanted, program.name, beginning)
    found = answer(Case(program, study, _other_study(wanted, study)))
    return summed_up(program, read_recipe(program.path), beginning.recipe, study, found)


def with_batches(program: Program, published: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes, with the batch that follows from the number of images where the program computes it so."""
    paths = {setting_path(name) for name in changes}
    parts = program.record.batches
    if parts is None or "data.first_images" not in paths or "training.batch_size" in paths:
        return dict(changes)
    first_images = with_settings(published, changes).data.first_images
    if first_images is None:
        return dict(changes)
    steps = {"training.steps_per_epoch": parts} if "training.steps_per_epoch" not in paths else {}
    return {**changes, "training.batch_size": max(first_images[0] // parts, 1), **steps}


def _begin(wanted: Wanted, program: Program, changes: Mapping[str, Any]) -> Beginning:
    """What the first seed of a program begins with; nothing is written."""
    changes = with_batches(program, read_recipe(program.path), changes)
    return begin(program.path, None, Request(changes, is_study=True, began=wanted.began))


def _given(wanted: Wanted) -> Given:
    besides = wanted.program.record.beside
    return Given(
        verbose=wanted.verbose, began=wanted.began, watch=lambda plan, folder: watchers_of(besides, plan, folder)
    )


def _trained(wanted: Wanted, name: str, beginning: Beginning) -> Study:
    """The seeds of a study, each of them finished; `name` is that of its folder."""
    first = beginning.recipe.training.seed
    seeds = tuple(range(first, first + wanted.num_seeds))
    folder = matching_folder(wanted.parent, name, beginning.plan.recipe, wanted.hardware)
    if folder is None:
        folder = create_run_folder(wanted.parent, name)
        _mark(folder, wanted)
        return new_study(beginning.recipe, seeds, beginning.plan, beginning.raw, folder, _given(wanted))
    if with_seeds(folder, seeds):
        _go_on(wanted, folder, beginning)
    return _first_seeds(read_study(folder, Run), seeds)


def _mark(folder: Path, wanted: Wanted) -> None:
    """Make a folder one of a reproduction, which `fovea reproduce` alone goes on with whole."""
    write_json(folder / PROGRAM, {"program": wanted.program.name})


def _go_on(wanted: Wanted, folder: Path, beginning: Beginning) -> None:
    """Go on with a run or a study, where its images are now, on the hardware that is asked for."""
    resume_run(folder, _given(wanted), data=beginning.recipe.data.source, settings=wanted.hardware)


def _first_seeds(study: Study, seeds: Sequence[int]) -> Study:
    kept = [seed for seed in study.seeds if seed in seeds]
    return SeedStudy(study.path, tuple(kept), tuple(study.runs[study.seeds.index(seed)] for seed in kept))


def matching_folder(parent: Path, name: str, recipe: Recipe, asked: Collection[str] = ()) -> Path | None:
    """The run or study of these very settings in a folder: `name`, `name`-2 ...; None where there is none.

    Args:
        recipe: complete.
        asked: hardware settings that the user named; those that were derived play no part.
    """
    for folder in folders_of_name(parent, name):
        if (folder / "config.yaml").is_file() and same_training(read_recipe(folder / "config.yaml"), recipe, asked):
            return folder
    return None


def same_training(first: Recipe, second: Recipe, asked: Collection[str] = ()) -> bool:
    """Whether two complete recipes differ at most in hardware that was not `asked` for, and in what is not trained."""
    hardware = {name: getattr(first.training, name) for name in (*HARDWARE, "kernels") if name not in asked}
    alike = with_fields(second, "training", **hardware)
    return recipe_digest(first) == recipe_digest(alike)


def with_seeds(folder: Path, seeds: Sequence[int]) -> bool:
    """Plan these seeds for a study; those that it has trained stay trained.

    Returns:
        Whether something is left to train.
    """
    found, digest = study_plan(folder)
    if is_finished(folder) and set(seeds) <= set(found):
        return False
    with locked(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        begin_study(folder, tuple(seeds), digest)
    return True


def _other_study(wanted: Wanted, study: Study) -> Study | None:
    """The study of the recipe that a program is compared with, if it is finished there with the same changes."""
    if wanted.program.record.against is None:
        return None
    program = read_program(wanted.program.record.against)
    if not (wanted.parent / program.name).exists():
        return None
    folder = matching_folder(
        wanted.parent, program.name, _begin(wanted, program, wanted.changes).plan.recipe, wanted.hardware
    )
    if folder is None or not is_finished(folder) or not (folder / SEEDS).is_file():
        return None
    other = read_study(folder, Run)
    return other if set(other.seeds) & set(study.seeds) else None


def _reproduce_twice(wanted: Wanted, before: Mapping[str, Any]) -> Reproduction:
    """A program of two fits: the first; the second going on from it, which is the program; the second fresh.

    Args:
        before: the settings of the first fit.
    """
    program, changes = wanted.program, {setting_path(name): value for name, value in wanted.changes.items()}
    settings = {setting_path(name): value for name, value in before.items()}
    epochs = changes.get("training.epochs")
    if isinstance(epochs, int):  # for a look: no more than the second fit
        settings["training.epochs"] = min(settings["training.epochs"], epochs)
    beginning = _begin(wanted, program, changes)
    fresh = _trained(wanted, program.name, beginning)
    bare = replace(
        program, record=program.record.model_copy(update={"beside": ()})
    )  # the first fit validates on nothing
    first = _trained(
        replace(wanted, program=bare), f"{program.name}-first", _begin(wanted, program, {**changes, **settings})
    )
    parent = fresh.path.with_name(f"{fresh.path.name}-continued")
    continued = [
        _second_fit(wanted, parent, seed, run, changes) for seed, run in zip(first.seeds, first.runs, strict=True)
    ]
    everything = all_test_images(beginning.raw, beginning.recipe)
    found = answer_twice(Twice(first.runs, continued, fresh.runs), program.record.beside, everything)
    study = SeedStudy(parent, first.seeds, tuple(continued))
    told = summed_up(program, read_recipe(program.path), beginning.recipe, study, found)
    both = tuple(
        replace(one, train_seconds=one.train_seconds + train_seconds(run))
        for one, run in zip(told.each_seed, first.runs, strict=True)
    )
    return replace(told, each_seed=both, trainings_a_seed=3)


def _second_fit(wanted: Wanted, parent: Path, seed: int, first: Run, changes: Mapping[str, Any]) -> Run:
    """The second fit of a seed from the weights and the optimizer's state of the first."""
    start = {"model.weights": str(first.path.resolve()), "optimizer.start": "continued", "training.seed": seed}
    beginning = _begin(wanted, wanted.program, {**changes, **start})
    folder = matching_folder(parent, f"seed-{seed}", beginning.plan.recipe, wanted.hardware)
    if folder is None:
        folder = create_run_folder(parent, f"seed-{seed}")
        _mark(parent, wanted)
        return new_run(beginning.plan, beginning.raw, folder, _given(wanted))
    if not is_finished(folder):
        _go_on(wanted, folder, beginning)
    return Run(folder)
