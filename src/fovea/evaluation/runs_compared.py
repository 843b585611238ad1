"""Runs held against each other on the same images: paired tests, who changed sides, a verdict in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fovea.errors import DataError
from fovea.evaluation.intervals import Score
from fovea.evaluation.ledger import Looks, chose_its_epoch, read_looks, selection_warning
from fovea.evaluation.metrics import accuracy
from fovea.evaluation.paired import McNemarResult, holm, mcnemar, paired_bootstrap
from fovea.evaluation.pairing import Pairing, pair_images
from fovea.evaluation.power import LEVEL, images_needed, smallest_difference
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import StoredRun

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
BETTER, WORSE, UNDECIDED = "better", "worse", "cannot be told apart"
FEW_IMAGES = 100


@dataclass(frozen=True)
class ChangedImage:
    """An image that one of two runs answers rightly and the other does not: its id, its class, both answers."""

    id: str
    true: str
    first: str
    second: str

    @property
    def is_gained(self) -> bool:
        """Whether the second is the one that is right."""
        return self.second == self.true

    def as_json(self) -> dict[str, str]:
        """The image as plain values."""
        return {"id": self.id, "true": self.true, "first": self.first, "second": self.second}


@dataclass(frozen=True, eq=False)
class RunPair:
    """A second run held against a first on the same images.

    Attributes:
        pairing: the predictions of both.
        test: exact McNemar and mid-p, and the difference with its interval.
        adjusted_p: the exact p after Holm, where several runs are held against the first.
    """

    first_name: str
    second_name: str
    split: str
    pairing: Pairing
    test: McNemarResult
    adjusted_p: float

    @property
    def num_images(self) -> int:
        """How many images both answered."""
        return len(self.pairing)

    @property
    def verdict(self) -> str:
        """What the second is: better or worse where the exact test (adjusted by Holm) says so at 5 %."""
        if self.adjusted_p >= LEVEL:
            return UNDECIDED
        return BETTER if self.test.difference.value > 0 else WORSE

    @property
    def shares(self) -> tuple[float, float]:
        """Of images that the first alone, and the second alone, answers rightly."""
        return self.test.only_first / self.num_images, self.test.only_second / self.num_images

    @cached_property
    def bootstrap(self) -> Score:
        """The difference with the percentile interval of resampled images."""
        return paired_bootstrap(self.pairing.first, self.pairing.second)

    @property
    def needed(self) -> int | None:
        """How many images a difference of this size takes, for power .8 at 5 %; None where there is no difference."""
        return images_needed(*self.shares)

    @property
    def smallest_difference(self) -> float:
        """Under it nothing can be told, where two runs differ on as many images as these do; a share."""
        return smallest_difference(self.num_images, self.test.only_first + self.test.only_second)

    @property
    def num_other_answers(self) -> int:
        """Images that the two give different answers to, right or wrong."""
        return int((self.pairing.first.predicted != self.pairing.second.predicted).sum())

    @cached_property
    def changed(self) -> tuple[ChangedImage, ...]:
        """The images that one alone answers rightly: first those that the second loses, then those that it gains."""
        first, second = self.pairing.first, self.pairing.second
        lost = np.flatnonzero(first.correct & ~second.correct)
        gained = np.flatnonzero(second.correct & ~first.correct)
        names = first.classes
        return tuple(
            ChangedImage(
                str(first.ids[row]), names[first.labels[row]], names[first.predicted[row]], names[second.predicted[row]]
            )
            for row in [*lost.tolist(), *gained.tolist()]
        )

    def sentence(self, first_name: str | None = None, second_name: str | None = None) -> str:
        """The verdict with its figures; names may be given shorter."""
        first, second = first_name or self.first_name, second_name or self.second_name
        return f"{self._verdict_words(first, second)} {self._more_images()}".rstrip()

    def _verdict_words(self, first: str, second: str) -> str:
        images = f"{self.num_images:,} {SPLIT_WORDS[self.split]} images"
        if self.num_other_answers == 0:
            return (
                f"{second} and {first} give the same answer to each of the same {images}: nothing is to be told apart."
            )
        figures = (
            f"{accuracy(self.pairing.second).value:.2%} against {accuracy(self.pairing.first).value:.2%} of the same "
            f"{images}, {points(self.test.difference)}, exact McNemar p {p_text(self.test.p_value)}"
            f"{self._adjusted_words()}, mid-p {p_text(self.test.mid_p_value)}"
        )
        if self.verdict == UNDECIDED:
            return f"{second} and {first} cannot be told apart: {figures}."
        return f"{second} is {self.verdict} than {first}: {figures}."

    def _adjusted_words(self) -> str:
        return "" if self.adjusted_p == self.test.p_value else f" (with Holm {p_text(self.adjusted_p)})"

    def _more_images(self) -> str:
        if self.verdict != UNDECIDED or self.num_other_answers == 0:
            return ""
        if self.needed is None:
            return "They get equally many right: no number of images shows a difference of 0."
        more = self.needed - self.num_images
        if more <= 0:
            return (
                f"{self.needed:,} images show a difference of this size in 8 of 10 tries: this was one of the others."
            )
        return (
            f"A difference of this size takes about {more:,} more such images ({self.needed:,} in all) to be told in "
            "8 of 10 tries."
        )

    def as_json(self) -> dict[str, Any]:
        """The pair as plain values."""
        test = self.test
        return {
            "first": self.first_name,
            "second": self.second_name,
            "verdict": self.verdict,
            "sentence": self.sentence(),
            "images": self.num_images,
            "first_accuracy": accuracy(self.pairing.first).as_json(),
            "second_accuracy": accuracy(self.pairing.second).as_json(),
            "difference": test.difference.as_json(),
            "bootstrap": self.bootstrap.as_json(),
            "only_first": test.only_first,
            "only_second": test.only_second,
            "p_value": test.p_value,
            "mid_p_value": test.mid_p_value,
            "adjusted_p_value": self.adjusted_p,
            "images_needed": self.needed,
            "smallest_difference": self.smallest_difference,
            "notes": list(self.pairing.notes),
            "changed": [image.as_json() for image in self.changed],
        }


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Runs held against the first of them.

    Attributes:
        runs: by name.
        split: what all are judged by: "test", or "val" where one of them left the test closed.
        pairs: each later run against the first.
    """

    runs: Mapping[str, StoredRun]
    split: str
    pairs: tuple[RunPair, ...]

    @property
    def verdict(self) -> str:
        """Of the second run against the first."""
        return self.pairs[0].verdict

    @property
    def sentence(self) -> str:
        """The verdicts in words."""
        return " ".join(pair.sentence() for pair in self.pairs)

    @property
    def limits(self) -> list[str]:
        """What the images cannot show: under which difference nothing is told, and how far their labels are right."""
        lines = [
            f"{pair.num_images:,} {SPLIT_WORDS[self.split]} images, on "
            f"{pair.test.only_first + pair.test.only_second:,} of which "
            f"{'one' if len(self.pairs) == 1 else f'{pair.first_name} or {pair.second_name}'} alone is right, cannot "
            f"show a difference under {pair.smallest_difference * 100:.2f} points."
            for pair in self.pairs
        ]
        first = next(iter(self.runs.values()))
        limits = first.test_limits if self.split == "test" else None
        if limits is not None and limits.label_words:
            lines.append(f"{limits.label_words}.")
        return lines

    @property
    def notes(self) -> list[str]:
        """What limits these comparisons: closed tests, few images, classes without one."""
        lines = list(dict.fromkeys(note for pair in self.pairs for note in pair.pairing.notes))
        if self.split == "val" and not any(run.mark for run in self.runs.values()):
            closed = [name for name, run in self.runs.items() if not run.has_test]
            chose = any(map(chose_its_epoch, self.runs.values()))
            lines.append(
                f"The test stayed closed in {', '.join(closed)}: compared on validation images"
                f"{', which chose the epochs' if chose else ''}."
            )
        lines += _other_pixels(self.runs, self.split)
        lines += _limits(self.pairs[0].pairing.first)
        if len(self.pairs) > 1:
            lines.append(f"{len(self.pairs)} runs are held against the first: p is adjusted by Holm.")
        return lines

    @property
    def looks(self) -> Looks | None:
        """All looks at this test set from the folder of the first run; None where the test stayed closed."""
        return read_looks(next(iter(self.runs.values()))) if self.split == "test" else None

    @property
    def warnings(self) -> list[str]:
        """Which of the figures may have been chosen by looking at them."""
        found = {name: selection_warning(run) for name, run in self.runs.items()} if self.split == "test" else {}
        return [f"{name}: {text}" for name, text in found.items() if text is not None]

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        return {
            "kind": "runs",
            "split": self.split,
            "runs": {name: str(run.path) for name, run in self.runs.items()},
            "comparisons": [pair.as_json() for pair in self.pairs],
            "notes": self.notes,
            "warnings": self.warnings,
            "test_set": None if self.looks is None else self.looks.as_json(),
        }


def compare_runs(runs: Mapping[str, StoredRun]) -> RunComparison:
    """Hold runs against the first of them.

    Args:
        runs: two or more, by name.

    Raises:
        DataError: where they were not judged on the same images, or have other classes.
    """
    split = "test" if all(run.has_test for run in runs.values()) else "val"
    (first_name, first), *others = [(name, run.predictions(split)) for name, run in runs.items()]
    paired = [(name, _pair_named(first_name, first, name, other)) for name, other in others]
    tests = [mcnemar(pairing.first, pairing.second) for _, pairing in paired]
    adjusted = holm([test.p_value for test in tests])
    pairs = [
        RunPair(first_name, name, split, pairing, test, p_value)
        for (name, pairing), test, p_value in zip(paired, tests, adjusted, strict=True)
    ]
    return RunComparison(dict(runs), split, tuple(pairs))


def _pair_named(first_name: str, first: Predictions, name: str, other: Predictions) -> Pairing:
    try:
        return pair_images(first, other)
    except DataError as error:
        raise DataError(f"{first_name} and {name} cannot be compared. {error}") from None


def _other_pixels(runs: Mapping[str, StoredRun], split: str) -> list[str]:
    found = {run.record.get("fingerprints", {}).get(split) for run in runs.values()}
    classes = {run.classes for run in runs.values()}
    if len(found) < 2 or len(classes) > 1:
        return []
    return [
        "The pixels or the number of the images differ (another size, another copy): they were matched by their ids."
    ]


def _limits(found: Predictions) -> list[str]:
    """What the test images themselves cannot say."""
    counts = np.bincount(found.labels, minlength=len(found.classes))
    missing = [name for name, count in zip(found.classes, counts.tolist(), strict=True) if count == 0]
    lines = []
    if len(found.classes) - len(missing) == 1:
        only = found.classes[int(counts.argmax())]
        lines.append(f"All images are of the class {only!r}: nothing is said about the others.")
    elif missing:
        shown = ", ".join(map(repr, missing[:5])) + (" ..." if len(missing) > 5 else "")
        lines.append(f"No image is of the class {shown}: nothing is said about it.")
    if len(found) < FEW_IMAGES:
        least = smallest_difference(len(found), 0)
        lines.append(f"{len(found)} images can show no difference under {least * 100:.0f} points.")
    return lines


def points(score: Score) -> str:
    """A difference in points with its interval: "+0.19 points [+0.05, +0.33]"."""
    value = f"{score.value * 100:+.2f} points"
    if score.low is None or score.high is None:
        return value
    return f"{value} [{score.low * 100:+.2f}, {score.high * 100:+.2f}]"


def p_text(p_value: float) -> str:
    """ "= 0.012" or "< 0.0001"."""
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.3g}"
