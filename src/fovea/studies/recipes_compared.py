"""Recipes held against each other over paired seeds: mean, spread, how often one is better, and a stated rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fovea.errors import DataError, SettingsError
from fovea.evaluation.intervals import Score, mean_score, standard_deviation
from fovea.evaluation.ledger import Looks, chose_its_epoch, read_looks
from fovea.evaluation.metrics import accuracy
from fovea.evaluation.paired import McNemarResult, SeedsTest, holm, mcnemar, outperformance, paired_over_seeds
from fovea.evaluation.pairing import pair_images
from fovea.evaluation.power import LEVEL
from fovea.evaluation.runs_compared import BETTER, UNDECIDED, WORSE, p_text, points
from fovea.evaluation.stored import StoredRun
from fovea.settings import mark_as_json
from fovea.studies.seeds import AnyRun, FoldStudy, SeedStudy

OFTEN = 0.75  # what P(second > first) has to reach
FEWEST_SEEDS = 4  # with fewer the interval of that probability never leaves out one half
RULE = (
    "Called better where the paired t test over the seeds (adjusted by Holm) gives p below .05, and in at least 75% of "
    "pairs it is better, and the interval of that share lies above 50%."
)


@dataclass(frozen=True, eq=False)
class Arm:
    """One recipe with its runs, one a seed in the order of the seeds."""

    name: str
    runs: tuple[StoredRun, ...]

    def accuracies(self, split: str) -> list[float]:
        """One accuracy a seed, of "val" or "test"."""
        return [accuracy(run.predictions(split)).value for run in self.runs]

    @property
    def seconds(self) -> float:
        """Of training, the mean of the runs."""
        return float(np.mean([run.result["train_seconds"] for run in self.runs]))


@dataclass(frozen=True, eq=False)
class ArmPair:
    """A later recipe held against the first.

    Attributes:
        test: paired t test over seeds of the accuracies, later - first.
        adjusted_p: after Holm; None for one seed.
        probability: P(later > first).
        each_seed: McNemar's test on the images of each seed.
    """

    first: str
    second: str
    test: SeedsTest
    adjusted_p: float | None
    probability: Score
    each_seed: tuple[McNemarResult, ...]

    @property
    def verdict(self) -> str:
        """What the later recipe is, by `RULE`."""
        chance = self.probability
        if self.adjusted_p is None or self.adjusted_p >= LEVEL or chance.low is None or chance.high is None:
            return UNDECIDED
        if self.test.difference.value > 0:
            return BETTER if chance.value >= OFTEN and chance.low > 0.5 else UNDECIDED
        return WORSE if chance.value <= 1 - OFTEN and chance.high < 0.5 else UNDECIDED

    def sentence(self, first: str | None = None, second: str | None = None) -> str:
        """The verdict with its figures; names may be given shorter."""
        first, second = first or self.first, second or self.second
        count = len(self.test.differences)
        wins = sum(difference > 0 for difference in self.test.differences)
        p_value = "no p" if self.test.p_value is None else f"p {p_text(self.test.p_value)}"
        if self.adjusted_p is not None and self.adjusted_p != self.test.p_value:
            p_value += f" (with Holm {p_text(self.adjusted_p)})"
        figures = (
            f"{points(self.test.difference)} over {count} paired seeds, paired t test {p_value}, better in {wins} of "
            f"{count}"
        )
        if self.verdict == UNDECIDED:
            return f"{second} and {first} cannot be told apart: {figures}.{self._why()}"
        return f"{second} is {self.verdict} than {first}: {figures}."

    def _why(self) -> str:
        """What is lacking where the t test alone would tell them apart."""
        if self.adjusted_p is None or self.adjusted_p >= LEVEL:
            return ""
        return " The t test alone would tell them apart, but not the share of pairs: more seeds are needed."

    def as_json(self) -> dict[str, Any]:
        """The pair as plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            **self.test.as_json(),
            "adjusted_p_value": self.adjusted_p,
            "probability_second_better": self.probability.as_json(),
            "mcnemar": [
                {"only_first": t.only_first, "only_second": t.only_second, "p_value": t.p_value} for t in self.each_seed
            ],
        }


@dataclass(frozen=True, eq=False)
class RecipeComparison:
    """Recipes over paired seeds; each later one against the first.

    Attributes:
        path: the folder of the comparison; None where studies that were there are compared.
        seeds: what both runs of a pair have in common.
        split: what they are judged by: "test", or "val" where a test stayed closed.
        varied: what differs from seed to seed, in words.
    """

    path: Path | None
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    split: str
    pairs: tuple[ArmPair, ...]
    varied: str

    @property
    def verdict(self) -> str:
        """Of the second recipe against the first."""
        return self.pairs[0].verdict

    @property
    def sentence(self) -> str:
        """The verdicts in words."""
        return " ".join(pair.sentence() for pair in self.pairs)

    @property
    def short_names(self) -> list[str]:
        """The recipes' names for narrow places: of settings varied together the first, where it tells them apart."""
        first = [arm.name.partition(", ")[0] for arm in self.arms]
        return first if len(set(first)) == len(first) else [arm.name for arm in self.arms]

    @cached_property
    def means(self) -> tuple[Score, ...]:
        """The mean accuracy of each recipe with Student's t interval."""
        return tuple(mean_score(arm.accuracies(self.split)) for arm in self.arms)

    @cached_property
    def deviations(self) -> tuple[float, ...]:
        """The standard deviation of each recipe's accuracies; a share."""
        return tuple(standard_deviation(arm.accuracies(self.split)) for arm in self.arms)

    @property
    def mark(self) -> str | None:
        """What stands beside the figures where test images were validation images too; None elsewhere."""
        marks = [run.mark for arm in self.arms for run in arm.runs if run.mark is not None]
        return marks[0] if marks else None

    @property
    def looks(self) -> Looks | None:
        """All looks at this test set from the folder of the runs; None where the test stayed closed."""
        return read_looks(self.arms[0].runs[0]) if self.split == "test" else None

    @property
    def notes(self) -> list[str]:
        """What limits the comparison."""
        lines = [self.varied]
        if self.split == "val" and self.mark is None:
            chose = any(chose_its_epoch(run) for arm in self.arms for run in arm.runs)
            lines.append(
                f"The test stayed closed: judged by validation images{', which chose the epochs' if chose else ''}."
            )
        if self.mark is not None:
            lines.append(f"Test images were the validation images of some runs: {self.mark}.")
        count = len(self.seeds)
        if count < FEWEST_SEEDS:
            lines.append(
                f"{count} seeds can call no recipe better, whatever they show: {FEWEST_SEEDS} can, 5 or more should."
            )
        elif count < 10:
            agree = f": only if all {count} agree does its interval leave out 50%." if count < 6 else "."
            lines.append(f"{count} pairs leave the interval of the share of wins wide{agree}")
        if len(self.pairs) > 1:
            lines.append(f"{len(self.pairs)} recipes are held against the first: p is adjusted by Holm.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return {
            "kind": "recipes",
            "run": None if self.path is None else str(self.path),
            "split": self.split,
            "seeds": list(self.seeds),
            **mark_as_json(self.mark),
            "recipes": [
                {
                    "name": arm.name,
                    "mean": mean.as_json(),
                    "standard_deviation": deviation if len(self.seeds) > 1 else None,
                    "accuracies": arm.accuracies(self.split),
                    "train_seconds": arm.seconds,
                    "runs": [str(run.path) for run in arm.runs],
                }
                for arm, mean, deviation in zip(self.arms, self.means, self.deviations, strict=True)
            ],
            "comparisons": [pair.as_json() for pair in self.pairs],
            "rule": RULE,
            "notes": self.notes,
            "test_set": None if self.looks is None else self.looks.as_json(),
        }


def compare_arms(path: Path | None, seeds: Sequence[int], arms: Sequence[Arm]) -> RecipeComparison:
    """Hold recipes against the first of them, seed by seed.

    Raises:
        DataError: where the two runs of a seed were not judged on the same images.
    """
    has_test = all(run.has_test for arm in arms for run in arm.runs)
    split = "test" if has_test else "val"
    first, *others = arms
    tests = [paired_over_seeds(first.accuracies(split), arm.accuracies(split)) for arm in others]
    known = [test.p_value for test in tests if test.p_value is not None]
    adjusted: list[float | None] = [*holm(known)] if len(known) == len(tests) else [None] * len(tests)
    pairs = [
        ArmPair(first.name, arm.name, test, p_value, outperformance(test.differences), _on_images(first, arm, split))
        for arm, test, p_value in zip(others, tests, adjusted, strict=True)
    ]
    return RecipeComparison(path, tuple(seeds), tuple(arms), split, tuple(pairs), _varied(first))


def _varied(arm: Arm) -> str:
    """What is not the same from seed to seed, in words."""
    splits = {run.split.fingerprint for run in arm.runs}
    if len(splits) == len(arm.runs):
        return (
            "Both runs of a seed share initialisation, order, augmentation and validation split; from seed to seed all "
            "of these differ. The test images stay the same."
        )
    return (
        "Both runs of a seed share initialisation, order and augmentation; from seed to seed these differ. The "
        "validation split is the same in all, so that its share of the spread is not measured."
    )


def _on_images(first: Arm, second: Arm, split: str) -> tuple[McNemarResult, ...]:
    found = []
    for one, other in zip(first.runs, second.runs, strict=True):
        try:
            pairing = pair_images(one.predictions(split), other.predictions(split))
        except DataError as error:
            raise DataError(f"{one.path} and {other.path} cannot be compared. {error}") from None
        found.append(mcnemar(pairing.first, pairing.second))
    return tuple(found)


def compare_studies(studies: Mapping[str, SeedStudy[AnyRun]]) -> RecipeComparison:
    """Hold studies of seeds against the first of them, over the seeds that all have.

    Raises:
        SettingsError: for studies of folds, and where they have fewer than two seeds in common.
        DataError: where they were not judged on the same images.
    """
    of_folds = [str(study.path) for study in studies.values() if isinstance(study, FoldStudy)]
    if of_folds:
        raise SettingsError(
            f"{' and '.join(of_folds)}: a study of folds cannot be compared. The nets of its folds share most of their "
            "training images, so that no interval of a difference over folds holds. Train both recipes with --seeds, "
            f"or compare single runs ({of_folds[0]}/fold-1 ...)."
        )
    first = next(iter(studies.values()))
    seeds = [seed for seed in first.seeds if all(seed in study.seeds for study in studies.values())]
    if len(seeds) < 2:
        raise SettingsError(
            f"These studies have {len(seeds) or 'no'} seed{'s' * (len(seeds) != 1)} in common: a comparison needs two "
            "or more. Train both with the same seed and --seeds."
        )
    arms = [Arm(name, tuple(study.runs[study.seeds.index(seed)] for seed in seeds)) for name, study in studies.items()]
    return compare_arms(None, seeds, arms)
