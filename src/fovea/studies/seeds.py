"""The same recipe with several seeds or folds: mean, standard deviation. The best of k is never the figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from fovea.data.batches import batch_bounds
from fovea.display import table_html
from fovea.errors import DataError, SettingsError
from fovea.evaluation.intervals import Score, accuracy_score, mean_score, standard_deviation
from fovea.evaluation.stored import NO_VALIDATION, StoredRun
from fovea.evaluation.views import Views
from fovea.files import read_json, write_json
from fovea.runfolder import SEEDS
from fovea.settings import Recipe, mark_as_json, setting_path, with_settings

AnyRun = TypeVar("AnyRun", bound=StoredRun)


@dataclass(frozen=True, eq=False)
class SeedStudy(Generic[AnyRun]):
    """Runs that differ in their seed alone, on one split.

    Attributes:
        path: the folder that holds one run folder a seed, and seeds.json.
        runs: in the order of the seeds.
    """

    path: Path
    seeds: tuple[int, ...]
    runs: tuple[AnyRun, ...]
    unit: ClassVar[str] = "seed"

    def accuracies(self, split: str) -> list[float]:
        """One accuracy a seed, of "val" or "test"."""
        scores = [run.val_accuracy if split == "val" else run.test_accuracy for run in self.runs]
        return [score.value for score in scores if score is not None]

    @property
    def val_accuracy(self) -> Score | None:
        """The mean over seeds with Student's t interval; None where there are no validation images."""
        return self.mean(self.accuracies("val"))

    @property
    def test_accuracy(self) -> Score | None:
        """The mean over seeds with Student's t interval; None where the test split stayed closed."""
        return self.mean(self.accuracies("test"))

    def mean(self, values: Sequence[float]) -> Score | None:
        """The mean of one accuracy a run, with its interval; None where there are none."""
        return mean_score(values, self.confidence) if values else None

    @property
    def confidence(self) -> float:
        """The level of the intervals of the study and of its runs: their setting `confidence`."""
        return self.runs[0].recipe.evaluation.confidence

    @property
    def mark(self) -> str | None:
        """What stands beside the figures where the test images were the validation images too; None elsewhere."""
        return self.runs[0].mark

    @property
    def views(self) -> Views:
        """The test-time augmentation of the runs; the threshold is that of the first, each run has its own."""
        return self.runs[0].views

    @property
    def standard_deviation(self) -> float:
        """Of one run's accuracy (test where it was opened, else validation); nan for one run."""
        return standard_deviation(self.accuracies("test") or self.accuracies("val"))

    def _repr_html_(self) -> str:
        rows = [("validation accuracy", str(self.val_accuracy or NO_VALIDATION))]
        if self.mark is not None:
            rows = [("test accuracy, mean", f"{self.val_accuracy}, {self.mark}")]
        elif self.test_accuracy is not None:
            rows.insert(0, ("test accuracy, mean", str(self.test_accuracy)))
        if self.views.words:
            rows.append(("with", self.views.words))
        rows.append(
            ("standard deviation", f"{self.standard_deviation * 100:.2f} points from {self.unit} to {self.unit}")
        )
        rows += [(f"{self.unit} {seed}", repr(run)) for seed, run in zip(self.seeds, self.runs, strict=True)]
        return table_html(rows, self.path.resolve().name)

    def as_json(self) -> dict[str, Any]:
        test, val = self.test_accuracy, self.val_accuracy
        return {
            "run": str(self.path),
            "test_accuracy": _json(test),
            "val_accuracy": _json(val),
            **mark_as_json(self.mark),
            "tta": None
            if self.views.as_json() is None
            else {"views": self.views.name, "fraction": self.views.fraction},
            "standard_deviation": self.standard_deviation if len(self.runs) > 1 else None,
            f"{self.unit}s": [
                {
                    self.unit: seed,
                    "run": str(run.path),
                    "val_accuracy": _json(run.val_accuracy),
                    "test_accuracy": _json(run.test_accuracy),
                }
                for seed, run in zip(self.seeds, self.runs, strict=True)
            ],
        }


class FoldStudy(SeedStudy[AnyRun]):
    """Runs each of which has another fold of the training images for validation; `seeds` are the folds' numbers.

    The folds share most of their training images: no estimator of the variance of their mean is unbiased (Bengio and
    Grandvalet, JMLR 5, 2004), so that means over folds have no interval here.
    """

    unit: ClassVar[str] = "fold"

    def mean(self, values: Sequence[float]) -> Score | None:
        """The mean of one accuracy a fold, without an interval; None where there are none."""
        return Score(float(np.mean(values)), None, None, len(values), "folds", self.confidence) if values else None

    @property
    def out_of_fold(self) -> Score:
        """The share of the training images answered rightly, each by the net that was trained without it.

        Its interval speaks of other images, answered by these nets.
        """
        found = [run.predictions("val") for run in self.runs]
        right, count = sum(int(each.correct.sum()) for each in found), sum(map(len, found))
        return accuracy_score(right, count, self.confidence)

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "out_of_fold_accuracy": self.out_of_fold.as_json()}


_KINDS: dict[str, type[SeedStudy[Any]]] = {"seed": SeedStudy, "fold": FoldStudy}


def _json(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else score.as_json()


def seeds_of(recipe: Recipe, num_seeds: int, unit: str = "seed") -> tuple[int, ...]:
    """The seeds of a study: s, s + 1, ... s + num_seeds - 1, s being the recipe's seed; of folds their numbers from 1.

    Raises:
        SettingsError: for fewer than two seeds.
    """
    if unit == "fold":
        return tuple(range(1, num_seeds + 1))
    if num_seeds < 2:
        raise SettingsError(f"seeds {num_seeds}: a spread needs two seeds or more; for one run use seed.")
    first = recipe.training.seed
    return tuple(range(first, first + num_seeds))


def members_of(
    seeds: int | None, folds: int | None, given: Iterable[str], has_val_data: bool
) -> tuple[str, int] | None:
    """What the runs of a study differ in ("seed" or "fold"), and how many there are; None for one run.

    Args:
        given: the names of the settings that were given.

    Raises:
        SettingsError: for seeds beside folds, and for what would choose other validation images than the folds.
    """
    if seeds is not None and folds is not None:
        raise SettingsError("seeds and folds are two studies: give one of them.")
    for name, count in (("seeds", seeds), ("folds", folds)):
        if count is not None and not isinstance(count, Integral):
            raise SettingsError(f"{name} is {count!r}: expected how many trainings, a whole number such as 5.")
    seeds, folds = (None if count is None else int(count) for count in (seeds, folds))
    if folds is None:
        return None if seeds is None else ("seed", seeds)
    beside = [name for name in given if setting_path(name) in ("data.val_split", "data.fold")]
    beside += ["val_data"] if has_val_data else []
    if beside:
        raise SettingsError(f"folds decides which images are for validation: leave {', '.join(beside)} out.")
    if folds < 2:
        raise SettingsError(f"folds {folds}: two folds or more are needed; for one run use val_split.")
    return "fold", folds


def begin_study(folder: Path, seeds: tuple[int, ...], recipe_sha256: str, unit: str = "seed") -> None:
    """Write seeds.json with nothing but the seeds: what makes `folder` a study that can be gone on with.

    Args:
        recipe_sha256: of the settings that the study begins with.
        unit: what the runs differ in, "seed" or "fold"; `seeds` are the folds' numbers then.
    """
    planned = [{unit: seed, "run": str(_run_folder(folder, seed, unit))} for seed in seeds]
    figures = {"run": str(folder), "test_accuracy": None, "val_accuracy": None}
    write_json(folder / SEEDS, {**figures, f"{unit}s": planned, "recipe_sha256": recipe_sha256})


def run_seeds(
    recipe: Recipe, seeds: tuple[int, ...], folder: Path, train_one: Callable[[Recipe, Path], AnyRun]
) -> SeedStudy[AnyRun]:
    """Train with each of the seeds, on the same split; or with each of the folds, with the same seed.

    Args:
        folder: of the study, see `begin_study`.
        train_one: (recipe, run folder) -> the finished run: trains, goes on with a run that was broken off, or reads
            a finished one.
    """
    unit = study_unit(folder)
    runs = tuple(train_one(_recipe_of(recipe, seed, unit), _run_folder(folder, seed, unit)) for seed in seeds)
    study = _KINDS[unit](folder, seeds, runs)
    _, recipe_sha256 = study_plan(folder)
    write_json(folder / SEEDS, {**study.as_json(), "recipe_sha256": recipe_sha256})
    return study


def _recipe_of(recipe: Recipe, number: int, unit: str) -> Recipe:
    if unit == "seed":
        return with_settings(recipe, {"seed": number})
    assert recipe.data.fold is not None
    fold = (number, recipe.data.fold[1])  # with_settings would take back how long an epoch is
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"fold": fold})})


def alike_in_all_folds(recipe: Recipe, planned: Recipe) -> Recipe:
    """The settings of a study of folds, with what was derived from the number of images of the first fold."""
    alike = {"batch_size": planned.training.batch_size, "epochs": planned.training.epochs}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=alike)})


def of_any_fold(recipe: Recipe, num_images: int) -> Recipe:
    """The settings that the first fold was trained with, without what belongs to it alone.

    Folds differ in their number of images by one or two, and so may the length of an epoch.

    Args:
        num_images: that trained in the first fold.
    """
    training = recipe.training
    if training.batch_size is None or training.steps_per_epoch != len(batch_bounds(num_images, training.batch_size)):
        return recipe  # it was asked for
    return recipe.model_copy(update={"training": training.model_copy(update={"steps_per_epoch": None})})


def study_unit(folder: Path) -> str:
    """What the runs of a study differ in: "seed" or "fold".

    Raises:
        DataError: when seeds.json is damaged.
    """
    values = read_json(folder / SEEDS)
    return "fold" if isinstance(values, dict) and "folds" in values else "seed"


def study_plan(folder: Path) -> tuple[tuple[int, ...], str]:
    """The seeds of a study, and the sha256 of the settings that it began with.

    Raises:
        DataError: when seeds.json is damaged.
    """
    try:
        values, unit = read_json(folder / SEEDS), study_unit(folder)
        return tuple(int(entry[unit]) for entry in values[f"{unit}s"]), str(values["recipe_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder / SEEDS} is damaged: it does not hold the seeds of a study.") from None


def read_study(folder: Path, open_run: Callable[[Path], AnyRun]) -> SeedStudy[AnyRun]:
    """Read back a study whose runs have all ended.

    Raises:
        DataError: when seeds.json or a run is damaged.
    """
    (seeds, _), unit = study_plan(folder), study_unit(folder)
    return _KINDS[unit](folder, seeds, tuple(open_run(_run_folder(folder, seed, unit)) for seed in seeds))


def _run_folder(folder: Path, seed: int, unit: str) -> Path:
    return folder / f"{unit}-{seed}"
