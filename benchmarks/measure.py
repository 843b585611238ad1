"""Contenders side by side: they take turns, round by round, and each figure keeps its spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chunks import UNTIMED_STEPS, WARM_UP_STEPS
from workers import NotMeasuredError
from workloads import FOVEA, KERAS_TF_DEFAULT, Job

MOST_LEAD_IN_STEPS = 15
MOST_WARM_UP_STEPS = UNTIMED_STEPS + WARM_UP_STEPS
LONG_TURN_SECONDS, LONG_TURN_ROUNDS = 5.0, 3


class Asked(Protocol):
    """What the driver needs of a worker."""

    ready: dict[str, Any]

    def ask(self, steps: int, lead_in: int) -> dict[str, Any]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Turn:
    """How long a contender's turn is: steps before the clock, steps on it, and the number of its rounds."""

    lead_in: int
    steps: int
    rounds: int


@dataclass
class Measured:
    """What is known of a contender: round -> seconds a step and others' share of the cores; or why there is nothing."""

    batch_size: int
    step_seconds: dict[int, float] = field(default_factory=dict)
    others: dict[int, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    parameters: int = 0
    turn: Turn | None = None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The keys of results/latest.json."""
        if self.reason or self.turn is None:
            return {"not_measured": self.reason}
        seconds = list(self.step_seconds.values())
        return {
            "images_per_second": spread([self.batch_size / one for one in seconds]),
            "milliseconds_per_step": spread([1000 * one for one in seconds]),
            "peak_memory_mb": round(self.peak_memory_mb),
            "parameters": self.parameters,
            "steps_per_round": self.turn.steps,
            "others_fraction": round(statistics.median(self.others.values()), 3) if self.others else None,
        }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest and number of values, to five digits."""
    rounded = [float(f"{value:.5g}") for value in (statistics.median(values), min(values), max(values))]
    return {"median": rounded[0], "low": rounded[1], "high": rounded[2], "count": len(values)}


def plan_turn(
    step_seconds: float, turn_seconds: float, lead_in_seconds: float, rounds: int, steps_at_hand: int
) -> Turn:
    """The turn of a contender whose step takes about `step_seconds`.

    Args:
        steps_at_hand: how many steps its images are good for after the warm-up; all rounds must fit in.
    """
    lead_in = max(1, min(MOST_LEAD_IN_STEPS, math.ceil(lead_in_seconds / step_seconds)))
    wanted = max(1 if step_seconds > 1 else 3, round(turn_seconds / step_seconds))
    if (lead_in + wanted) * step_seconds > LONG_TURN_SECONDS:
        rounds = min(rounds, LONG_TURN_ROUNDS)
    return Turn(lead_in, max(1, min(wanted, steps_at_hand // rounds - lead_in)), rounds)


def measure(
    jobs: Sequence[Job], start: Callable[[Job], Asked], rounds: int, turn_seconds: float
) -> dict[str, Measured]:
    """Measure contenders side by side.

    The order is reversed after each round, so that nobody is always the one after a hot or a cold neighbour.

    Args:
        turn_seconds: of timed steps in a turn.
    """
    found = {job.name: Measured(job.workload.batch_size) for job in jobs}
    workers: dict[str, Asked] = {}
    try:
        for job in jobs:
            _begin(job, start, found[job.name], workers, (rounds, turn_seconds))
        for number in range(rounds):
            for job in jobs if number % 2 == 0 else reversed(jobs):
                _take_turn(found[job.name], workers.get(job.name), number)
    finally:
        for worker in workers.values():
            worker.close()
    _check_parameters(found)
    return found


def _begin(
    job: Job, start: Callable[[Job], Asked], measured: Measured, workers: dict[str, Asked], asked: tuple[int, float]
) -> None:
    """Start a worker and plan its turns; `asked` is the number of rounds and the seconds of a turn."""
    try:
        worker = workers[job.name] = start(job)
    except NotMeasuredError as error:
        measured.reason = str(error)
        return
    measured.parameters = worker.ready["parameters"]
    steps_at_hand = job.workload.num_images // job.workload.batch_size - MOST_WARM_UP_STEPS
    rounds, turn_seconds = asked
    lead_in_seconds = job.workload.lead_in_seconds
    measured.turn = plan_turn(worker.ready["step_seconds"], turn_seconds, lead_in_seconds, rounds, steps_at_hand)


def _take_turn(measured: Measured, worker: Asked | None, number: int) -> None:
    if worker is None or measured.turn is None or measured.reason or number >= measured.turn.rounds:
        return
    try:
        answer = worker.ask(measured.turn.steps, measured.turn.lead_in)
    except NotMeasuredError as error:
        measured.reason = str(error)
        return
    measured.step_seconds[number] = answer["seconds"] / measured.turn.steps
    if answer["others_fraction"] is not None:
        measured.others[number] = answer["others_fraction"]
    measured.peak_memory_mb = max(measured.peak_memory_mb, answer["peak_memory_mb"])


def _check_parameters(found: dict[str, Measured]) -> None:
    """Contenders of one workload must train the same net: a figure of another net would compare nothing."""
    ours = found.get(FOVEA)
    for measured in found.values():
        if ours and not ours.reason and not measured.reason and measured.parameters != ours.parameters:
            measured.reason = f"another net: {measured.parameters:,} parameters instead of {ours.parameters:,}"


def ratio(peer: Measured, ours: Measured) -> dict[str, Any]:
    """How many times as fast `ours` is: one ratio a round, of that round's two figures, then their median."""
    both = [number for number in peer.step_seconds if number in ours.step_seconds]
    return spread([peer.step_seconds[number] / ours.step_seconds[number] for number in both])


def workload_as_json(found: dict[str, Measured]) -> dict[str, Any]:
    """Contender -> its figures, and how many times as fast Fovea is (below 1: slower)."""
    ours, entries = found[FOVEA], {}
    for name, measured in found.items():
        entries[name] = measured.as_json()
        if name != FOVEA and not measured.reason and not ours.reason:
            entries[name]["fovea_times_as_fast"] = ratio(measured, ours)
    return entries


def ratios_of(name: str, found: dict[str, Measured]) -> dict[str, Any]:
    """Fovea against Keras on TensorFlow with its defaults and with the best of its settings, by ratio's key."""
    prefix = name.replace("-", "_")
    best = best_of(found) or KERAS_TF_DEFAULT
    ours, ratios = found[FOVEA], {}
    for kind, contender in (("default", KERAS_TF_DEFAULT), ("best", best)):
        key, peer = f"{prefix}_against_keras_tf_{kind}", found.get(contender)
        reason = ours.reason or ("not among the contenders" if peer is None else peer.reason)
        if reason or peer is None:
            ratios[key] = {"not_measured": reason}
        else:
            ratios[key] = {**ratio(peer, ours), "contender": contender}
    return ratios


def best_of(found: dict[str, Measured]) -> str | None:
    """The fastest of Keras' settings on TensorFlow, by its median; None where none was measured."""
    medians = {
        name: statistics.median(measured.step_seconds.values())
        for name, measured in found.items()
        if name.startswith(KERAS_TF_DEFAULT) and not measured.reason and measured.step_seconds
    }
    return min(medians, key=lambda name: medians[name]) if medians else None
