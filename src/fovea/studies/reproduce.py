"""A published program held against its own recipe: each published figure beside what several seeds give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.evaluation.intervals import PredictionInterval, prediction_interval
from fovea.evaluation.stored import StoredRun
from fovea.settings import SELECTED, Recipe, flat_settings, test_mark
from fovea.studies.beside import beside_figures, beside_seconds
from fovea.studies.published import OF_AN_EPOCH, Beside, Figure, Program, Record
from fovea.studies.seeds import AnyRun, SeedStudy

# What may differ from the recipe without its being another training.
_NEUTRAL = {"description", "data.source", "data.val_data", "data.test_data", "training.seed", "training.threads"}
_NEUTRAL |= {"training.device", "training.save_seconds", "training.allocator", "evaluation.report"}


@dataclass(frozen=True)
class Comparison:
    """One published figure and what was measured.

    Attributes:
        measured: over the seeds; None where it cannot be compared, and `reason` says why.
        inside: whether the published figure lies in the prediction interval; None where that says nothing: a time is
            of another machine, one seed gives no interval.
    """

    figure: Figure
    measured: PredictionInterval | None
    inside: bool | None = None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        measured = None if self.measured is None else self.measured.as_json()
        return {**self.figure.model_dump(), "measured": measured, "inside": self.inside, "reason": self.reason}


@dataclass(frozen=True)
class Answer:
    """The answer to the question that was asked: sentences, and the figures in them."""

    lines: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SeedResult:
    """What one seed gave.

    Attributes:
        best, last: test accuracy of the best epoch, which is selected on test, and of the last.
        train_seconds: without the extra evaluations, which took beside_seconds.
    """

    seed: int
    run: Path
    best: float
    last: float
    train_seconds: float
    beside_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {**vars(self), "run": str(self.run)}


@dataclass(frozen=True)
class Reproduction:
    """What `fovea reproduce` found.

    Attributes:
        study: the folder with one run a seed.
        mark: what stands beside figures of images that validation has used; None where it has not.
        changed: settings that are not the program's.
        notes: what the figures lack.
        trainings_a_seed: how many runs a seed stands for.
    """

    program: Program
    study: Path
    each_seed: tuple[SeedResult, ...]
    epochs: int
    mark: str | None
    changed: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    answer: Answer
    notes: tuple[str, ...]
    parameters: int
    trainings_a_seed: int = 1

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the trainings."""
        return tuple(one.seed for one in self.each_seed)

    @property
    def num_inside(self) -> tuple[int, int]:
        """How many published figures lie in their intervals, and of how many that can be told."""
        told = [one.inside for one in self.comparisons if one.inside is not None]
        return sum(told), len(told)

    def as_json(self) -> dict[str, Any]:
        """The reproduction as plain values: what `fovea reproduce --json` prints."""
        return {
            "program": self.program.record.program,
            "recipe": self.program.name,
            "asked": self.program.record.asked,
            "teaches": self.program.record.teaches,
            "run": str(self.study),
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "selected_on_test": self.mark == SELECTED,
            "mark": self.mark,
            "changed": list(self.changed),
            "figures": [comparison.as_json() for comparison in self.comparisons],
            "answer": {"lines": list(self.answer.lines), **self.answer.facts},
            "notes": list(self.notes),
            "each_seed": [one.as_json() for one in self.each_seed],
            "trainings_a_seed": self.trainings_a_seed,
            "parameters": self.parameters,
        }


def compare(program: Program, published: Recipe, study: SeedStudy[AnyRun]) -> tuple[Comparison, ...]:
    """Each published figure against the seeds.

    Args:
        published: the program's own settings.
    """
    measured = [measure(run, program.record.beside) for run in study.runs]
    epochs = [int(run.result["epochs"]) for run in study.runs]
    as_long = all(count == published.training.epochs for count in epochs)
    return tuple(_compare(figure, measured, as_long, program.record) for figure in program.record.published)


def _compare(figure: Figure, measured: Sequence[Measured], as_long: bool, record: Record) -> Comparison:
    if figure.figure in OF_AN_EPOCH and isinstance(figure.epoch, str) and not as_long:
        return Comparison(figure, None, reason="not as many epochs as published")
    if figure.figure == "seconds" and not as_long:
        return Comparison(figure, None, reason="not as many epochs as published")
    values = [value for value in (one.value(figure) for one in measured) if value is not None]
    if not values:
        return Comparison(figure, None, reason="not trained so far")
    highest = 1.0 if figure.figure.endswith("accuracy") else math.inf
    interval = prediction_interval(values, limits=(0.0, highest))
    if figure.figure == "parameters":
        return Comparison(figure, PredictionInterval(values[0], None, None, len(values)), values[0] == figure.value)
    if figure.about or figure.figure.startswith("seconds"):
        return Comparison(figure, interval)
    return Comparison(figure, interval, interval.holds(figure.value, record.rounding(figure)))


@dataclass(frozen=True)
class Measured:
    """What one run gives: by evaluation (None: its own) and metric, epoch -> value; and its other figures."""

    of_epochs: Mapping[str | None, Mapping[str, Mapping[int, float]]]
    others: Mapping[str, float]

    def value(self, figure: Figure) -> float | None:
        """The run's value of a published figure; None where it has none."""
        if figure.figure not in OF_AN_EPOCH:
            return self.others[figure.figure]
        found = self.of_epochs[figure.beside].get(figure.figure, {})
        if not found:
            return None
        if figure.epoch == "best":
            return (min if figure.figure.endswith("loss") else max)(found.values())
        return found.get(max(self.of_epochs[None]["val_loss"]) if figure.epoch == "last" else figure.epoch)


def measure(run: StoredRun, besides: Sequence[Beside]) -> Measured:
    """Every figure of a run that a publication may name."""
    own = {name: dict(enumerate(run.history[name], 1)) for name in OF_AN_EPOCH}
    of_epochs: dict[str | None, Mapping[str, Mapping[int, float]]] = {None: own}
    of_epochs |= {beside.name: beside_figures(run, beside) for beside in besides}
    seconds = train_seconds(run)
    others = {"parameters": run.result["parameters"], "seconds": seconds}
    return Measured(of_epochs, {**others, "seconds_per_epoch": seconds / max(len(own["val_loss"]), 1)})


def train_seconds(run: StoredRun) -> float:
    """Seconds of a run's training, without its extra evaluations."""
    return float(max(run.result["train_seconds"] - beside_seconds(run), 0.0))


def seed_result(seed: int, run: StoredRun) -> SeedResult:
    """What one seed gave."""
    shares = run.history["val_accuracy"]
    return SeedResult(seed, run.path, max(shares), shares[-1], train_seconds(run), beside_seconds(run))


def missing_besides(program: Program, study: SeedStudy[AnyRun]) -> tuple[str, ...]:
    """A note for each extra evaluation that some epochs lack, as after `fovea train --resume`."""
    notes = []
    for beside in program.record.beside:
        lacking = [
            str(seed)
            for seed, run in zip(study.seeds, study.runs, strict=True)
            if len(beside_figures(run, beside)["val_loss"]) < int(run.result["epochs"])
        ]
        if lacking:
            notes.append(
                f"seed {', '.join(lacking)} lacks epochs of the evaluation “{beside.name}”: fovea reproduce makes it "
                "while it trains, fovea train does not"
            )
    return tuple(notes)


def changed_settings(published: Recipe, used: Recipe) -> tuple[str, ...]:
    """The settings in which a training is not the published one, as name=value; what was left open is no change."""
    before, after = flat_settings(published), flat_settings(used)
    return tuple(
        f"{name.split('.')[-1]}={after[name]}"
        for name in before
        if name not in _NEUTRAL and before[name] != after[name]
    )


def summed_up(
    program: Program, published: Recipe, used: Recipe, study: SeedStudy[AnyRun], answer: Answer
) -> Reproduction:
    """Everything that was found.

    Args:
        published, used: the program's settings, and those that were trained with, both before anything was derived.
    """
    runs = study.runs
    return Reproduction(
        program=program,
        study=study.path,
        each_seed=tuple(seed_result(seed, run) for seed, run in zip(study.seeds, runs, strict=True)),
        epochs=int(runs[0].result["epochs"]),
        mark=test_mark(runs[0].recipe),
        changed=changed_settings(published, used),
        comparisons=compare(program, published, study),
        answer=answer,
        notes=missing_besides(program, study),
        parameters=int(runs[0].result["parameters"]),
    )


def mean_text(values: Sequence[float], form: str) -> str:
    """A mean with the range over seeds: 0.52 (0.51 to 0.54)."""
    usable = [value for value in values if not math.isnan(value)]
    mean = sum(usable) / len(usable)
    if len(usable) == 1:
        return f"{mean:{form}}"
    return f"{mean:{form}} ({min(usable):{form}} to {max(usable):{form}})"
