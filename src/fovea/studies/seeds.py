"""The same recipe with several seeds: mean, standard deviation and interval. The best of k is never the figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.errors import SettingsError
from fovea.evaluation.intervals import Score, mean_score, standard_deviation
from fovea.evaluation.run import Run
from fovea.runfolder import write_json
from fovea.settings import Recipe, with_settings

TrainOne = Callable[[Recipe, Path, str], Run]  # (recipe, parent folder, name) -> the finished run


@dataclass(frozen=True, eq=False)
class SeedStudy:
    """Runs that differ in their seed alone, on one split.

    Attributes:
        path: the folder that holds one run folder a seed, and seeds.json.
        runs: in the order of the seeds.
    """

    path: Path
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]

    def accuracies(self, split: str) -> list[float]:
        """One accuracy a seed, of "val" or "test"."""
        scores = [run.val_accuracy if split == "val" else run.test_accuracy for run in self.runs]
        return [score.value for score in scores if score is not None]

    @property
    def val_accuracy(self) -> Score:
        """The mean over seeds with Student's t interval."""
        return mean_score(self.accuracies("val"))

    @property
    def test_accuracy(self) -> Score | None:
        """The mean over seeds with Student's t interval; None where the test split stayed closed."""
        values = self.accuracies("test")
        return mean_score(values) if values else None

    @property
    def standard_deviation(self) -> float:
        """Of one seed's accuracy (test where it was opened, else validation); nan for one seed."""
        return standard_deviation(self.accuracies("test") or self.accuracies("val"))

    def as_json(self) -> dict[str, Any]:
        test = self.test_accuracy
        return {
            "run": str(self.path),
            "test_accuracy": None if test is None else test.as_json(),
            "val_accuracy": self.val_accuracy.as_json(),
            "standard_deviation": self.standard_deviation if len(self.runs) > 1 else None,
            "seeds": [
                {
                    "seed": seed,
                    "run": str(run.path),
                    "val_accuracy": run.val_accuracy.as_json(),
                    "test_accuracy": _json(run),
                }
                for seed, run in zip(self.seeds, self.runs, strict=True)
            ],
        }


def _json(run: Run) -> dict[str, Any] | None:
    score = run.test_accuracy
    return None if score is None else score.as_json()


def run_seeds(recipe: Recipe, num_seeds: int, make_folder: Callable[[], Path], train_one: TrainOne) -> SeedStudy:
    """Train with seeds s, s + 1, ... s + num_seeds - 1, s being the recipe's seed; the split stays the same.

    Args:
        make_folder: makes the folder of the study, once the number of seeds has been checked.

    Raises:
        SettingsError: for fewer than two seeds.
    """
    if num_seeds < 2:
        raise SettingsError(f"seeds {num_seeds}: a spread needs two seeds or more; for one run use seed.")
    folder, first = make_folder(), recipe.training.seed
    seeds = tuple(range(first, first + num_seeds))
    runs = tuple(train_one(with_settings(recipe, {"seed": seed}), folder, f"seed-{seed}") for seed in seeds)
    study = SeedStudy(folder, seeds, runs)
    write_json(folder / "seeds.json", study.as_json())
    return study
