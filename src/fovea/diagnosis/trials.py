"""Proof by experiment: the suspected fault is removed, the rest stays, the same seeds; the change against its noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fovea.diagnosis.examine import failure_words
from fovea.diagnosis.record import Record
from fovea.diagnosis.trainer import Outcome, Trainer
from fovea.errors import FoveaError
from fovea.evaluation.findings import Finding, Status
from fovea.evaluation.paired import SeedsTest, paired_over_seeds

MOST_TRIED = 3  # findings
FAITHFUL = 0.5  # share of the patient's steps from which on a trial can withdraw
# The results are looked at twice; each look may be wrong in 2.5 %, both together in 5 % (Bonferroni).
LOOKS = (3, 5)  # seeds
ALPHA = 0.025
WORTHWHILE = 0.005  # of accuracy: a cure that cannot give this much is none
_SHARE = 0.8  # of the time is planned for; trainings differ in length


@dataclass(eq=False)
class Trial:
    """The trainings with one remedy, beside those without, seed by seed."""

    finding: Finding
    changes: dict[str, Any]
    after: list[float] = field(default_factory=list)
    problem: str | None = None
    status: Status = "suspected"


def verify(
    record: Record,
    findings: Sequence[Finding],
    trainer: Trainer,
    seconds: float = 60,
    say: Callable[[str], None] = lambda line: None,
) -> list[Finding]:
    """Test the findings that a change of settings would mend.

    Each seed is trained once as the patient is, and once a finding with its `remedy` alone changed. After three and
    after five seeds a paired t test decides: accuracy gained beyond its noise confirms; a gain that cannot be as large
    as WORTHWHILE withdraws; between the two, and where no remedy is known, a finding stays suspected.

    Args:
        record: what is known of the patient; its seeds are its own.
        findings: the most important first; the first MOST_TRIED with a remedy are tested.
        trainer: makes short trainings of the patient.
        seconds: for all trainings together.
        say: takes a line of progress.

    Returns:
        The findings in their order, with `status`, and with `trial` where one was made. A cure that did not help is
        no longer recommended.
    """
    trials = [Trial(finding, dict(finding.remedy)) for finding in findings if finding.remedy][:MOST_TRIED]
    if not trials or seconds <= 0:
        return list(findings)
    began = time.perf_counter()
    trainer.prepare(_SHARE * seconds / (LOOKS[0] * (1 + len(trials))))
    before: list[float] = []
    try:
        for seed in range(LOOKS[-1]):
            open_trials = [trial for trial in trials if trial.status == "suspected" and trial.problem is None]
            if not open_trials or not _has_time(began, seconds, seed, len(open_trials), len(trials)):
                break
            outcome = trainer.train({}, seed)
            before.append(outcome.accuracy)
            for trial in open_trials:
                _train_one(trial, trainer, seed)
            remedies = "1 remedy" if len(open_trials) == 1 else f"{len(open_trials)} remedies"
            say(f"trial {seed + 1}: {remedies} against accuracy {before[-1]:.4f}")
            if len(before) in LOOKS:
                for trial in open_trials:
                    if trial.problem is None:
                        trial.status = _status(decide(before, trial.after, outcome.count), trainer)
    except Exception as error:  # the patient itself cannot be trained in small
        problem = {"problem": _said(error)}
        return [replace(finding, trial=problem) if finding.remedy else finding for finding in findings]
    tried = {id(trial.finding): _judged(trial, before, trainer) for trial in trials}
    return [tried.get(id(finding), finding) for finding in findings]


def _status(decided: Status, trainer: Trainer) -> Status:
    """What a trial decides; one that is much shorter than the patient's training cannot withdraw."""
    return "suspected" if decided == "withdrawn" and trainer.share() < FAITHFUL else decided


def _has_time(began: float, seconds: float, seeds: int, num_open: int, num_trials: int) -> bool:
    """Whether another seed fits into the time, as the seeds before went; the first look may take a fifth more."""
    used = time.perf_counter() - began
    if seeds == 0:
        return True
    seconds = 1.2 * seconds if seeds < LOOKS[0] else seconds
    each = used / (seeds * (1 + num_trials))
    return used + each * (1 + num_open) <= seconds


def _train_one(trial: Trial, trainer: Trainer, seed: int) -> None:
    try:
        trial.after.append(trainer.train(trial.changes, seed).accuracy)
    except Exception as error:  # the remedy is no setting that this net or data can have
        trial.problem = _said(error)


def _said(error: Exception) -> str:
    """What went wrong; of what is nobody's mistake the kind of error too."""
    return str(error) if isinstance(error, FoveaError) else failure_words(error)


def decide(before: Sequence[float], after: Sequence[float], count: int) -> Status:
    """What paired accuracies, one a seed, say of a suspicion.

    Args:
        count: images that each accuracy is of.

    Returns:
        "confirmed" where removing the fault gains accuracy beyond the noise of the seeds; "withdrawn" where it
        certainly loses, or gains less than WORTHWHILE; else "suspected".
    """
    test = paired_over_seeds(before, after)
    if test.p_value is None:
        return "suspected"
    gain, high = test.difference.value, test.difference.high
    if gain > 0 and test.p_value < ALPHA:
        return "confirmed"
    if gain <= 0 and all(difference == 0 for difference in test.differences):
        return "withdrawn"  # the same accuracy, seed by seed: what was changed does not matter
    if (gain < 0 and test.p_value < ALPHA) or (high is not None and high < WORTHWHILE):
        return "withdrawn"
    if len(set(test.differences)) == 1 and gain > 3 * _image_noise(before[0], after[0], count):
        return "confirmed"  # the same gain again and again: no spread of seeds, so that of images is held against it
    return "suspected"


def _image_noise(first: float, second: float, count: int) -> float:
    """The standard deviation of the difference of two accuracies of `count` images."""
    return math.sqrt(max(first * (1 - first) + second * (1 - second), 1 / count) / count)


def _judged(trial: Trial, before: Sequence[float], trainer: Trainer) -> Finding:
    """The finding with what the trial says."""
    finding, count = trial.finding, len(trial.after)
    if trial.problem is not None or count < 1:
        return replace(finding, trial={"problem": trial.problem or "there was no time for a trial"})
    test = paired_over_seeds(before[:count], trial.after)
    changed = replace(
        finding, status=trial.status, trial=trial_as_json(trial.changes, before, trial.after, test, trainer)
    )
    if trial.status == "suspected" and trainer.share() >= FAITHFUL and test.difference.value <= 0:
        return replace(changed, cure=f"In a trial {_settings(trial.changes)} did not help: it is not recommended.")
    return changed


def trial_as_json(
    changes: dict[str, Any], before: Sequence[float], after: Sequence[float], test: SeedsTest, trainer: Trainer
) -> dict[str, Any]:
    """A trial as plain values: accuracies without and with the remedy, and their difference."""
    count = len(after)
    return {
        "changes": changes,
        "before": sum(before[:count]) / count,
        "after": sum(after) / count,
        "difference": test.difference.as_json(),
        "p_value": test.p_value,
        "seeds": count,
        "size": trainer.describe(),
        "share_of_steps": round(trainer.share(), 3),
    }


def _settings(changes: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in changes.items()
    )


@dataclass(frozen=True)
class SeedSpread:
    """The same training with several seeds.

    Attributes:
        accuracies: on validation, one a seed.
        mean, standard_deviation: of them.
        num_at_chance: how many know no more than the most frequent class (within .02).
    """

    accuracies: tuple[float, ...]
    mean: float
    standard_deviation: float
    num_at_chance: int


def repeated_seeds(trainer: Trainer, num_seeds: int = 3) -> SeedSpread:
    """Train the patient as it is, `num_seeds` times (two or more)."""
    from fovea.evaluation.intervals import standard_deviation

    outcomes: list[Outcome] = [trainer.train({}, seed) for seed in range(num_seeds)]
    values = tuple(outcome.accuracy for outcome in outcomes)
    lost = sum(outcome.accuracy <= outcome.chance + 0.02 for outcome in outcomes)
    return SeedSpread(values, sum(values) / num_seeds, standard_deviation(values), lost)
