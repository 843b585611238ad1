"""The same recipe with several seeds: mean, standard deviation and interval. The best of k is never the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fovea.display import table_html
from fovea.errors import DataError, SettingsError
from fovea.evaluation.intervals import Score, mean_score, standard_deviation
from fovea.evaluation.stored import NO_VALIDATION, StoredRun
from fovea.evaluation.views import Views
from fovea.files import read_json, write_json
from fovea.runfolder import SEEDS
from fovea.settings import Recipe, mark_as_json, with_settings

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

    def accuracies(self, split: str) -> list[float]:
        """One accuracy a seed, of "val" or "test"."""
        scores = [run.val_accuracy if split == "val" else run.test_accuracy for run in self.runs]
        return [score.value for score in scores if score is not None]

    @property
    def val_accuracy(self) -> Score | None:
        """The mean over seeds with Student's t interval; None where there are no validation images."""
        values = self.accuracies("val")
        return mean_score(values) if values else None

    @property
    def test_accuracy(self) -> Score | None:
        """The mean over seeds with Student's t interval; None where the test split stayed closed."""
        values = self.accuracies("test")
        return mean_score(values) if values else None

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
        """Of one seed's accuracy (test where it was opened, else validation); nan for one seed."""
        return standard_deviation(self.accuracies("test") or self.accuracies("val"))

    def _repr_html_(self) -> str:
        rows = [("validation accuracy", str(self.val_accuracy or NO_VALIDATION))]
        if self.mark is not None:
            rows = [("test accuracy, mean", f"{self.val_accuracy}, {self.mark}")]
        elif self.test_accuracy is not None:
            rows.insert(0, ("test accuracy, mean", str(self.test_accuracy)))
        if self.views.words:
            rows.append(("with", self.views.words))
        rows.append(("standard deviation", f"{self.standard_deviation * 100:.2f} points from seed to seed"))
        rows += [(f"seed {seed}", repr(run)) for seed, run in zip(self.seeds, self.runs, strict=True)]
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
            "seeds": [
                {
                    "seed": seed,
                    "run": str(run.path),
                    "val_accuracy": _json(run.val_accuracy),
                    "test_accuracy": _json(run.test_accuracy),
                }
                for seed, run in zip(self.seeds, self.runs, strict=True)
            ],
        }


def _json(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else score.as_json()


def seeds_of(recipe: Recipe, num_seeds: int) -> tuple[int, ...]:
    """The seeds of a study: s, s + 1, ... s + num_seeds - 1, s being the recipe's seed.

    Raises:
        SettingsError: for fewer than two seeds.
    """
    if num_seeds < 2:
        raise SettingsError(f"seeds {num_seeds}: a spread needs two seeds or more; for one run use seed.")
    first = recipe.training.seed
    return tuple(range(first, first + num_seeds))


def begin_study(folder: Path, seeds: tuple[int, ...], recipe_sha256: str) -> None:
    """Write seeds.json with nothing but the seeds: what makes `folder` a study that can be gone on with.

    Args:
        recipe_sha256: of the settings that the study begins with.
    """
    planned = [{"seed": seed, "run": str(_run_folder(folder, seed))} for seed in seeds]
    figures = {"run": str(folder), "test_accuracy": None, "val_accuracy": None}
    write_json(folder / SEEDS, {**figures, "seeds": planned, "recipe_sha256": recipe_sha256})


def run_seeds(
    recipe: Recipe, seeds: tuple[int, ...], folder: Path, train_one: Callable[[Recipe, Path], AnyRun]
) -> SeedStudy[AnyRun]:
    """Train with each of the seeds; the split stays the same.

    Args:
        folder: of the study, see `begin_study`.
        train_one: (recipe, run folder) -> the finished run: trains, goes on with a run that was broken off, or reads
            a finished one.
    """
    runs = tuple(train_one(with_settings(recipe, {"seed": seed}), _run_folder(folder, seed)) for seed in seeds)
    study = SeedStudy(folder, seeds, runs)
    _, recipe_sha256 = study_plan(folder)
    write_json(folder / SEEDS, {**study.as_json(), "recipe_sha256": recipe_sha256})
    return study


def study_plan(folder: Path) -> tuple[tuple[int, ...], str]:
    """The seeds of a study, and the sha256 of the settings that it began with.

    Raises:
        DataError: when seeds.json is damaged.
    """
    try:
        values = read_json(folder / SEEDS)
        return tuple(int(entry["seed"]) for entry in values["seeds"]), str(values["recipe_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder / SEEDS} is damaged: it does not hold the seeds of a study.") from None


def read_study(folder: Path, open_run: Callable[[Path], AnyRun]) -> SeedStudy[AnyRun]:
    """Read back a study whose runs have all ended.

    Raises:
        DataError: when seeds.json or a run is damaged.
    """
    seeds, _ = study_plan(folder)
    return SeedStudy(folder, seeds, tuple(open_run(_run_folder(folder, seed)) for seed in seeds))


def _run_folder(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"
