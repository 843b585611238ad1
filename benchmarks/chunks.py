"""What a worker does between two steps: wait to be asked, run some steps untimed, time the next ones, answer.

The driver and a worker speak in JSON lines: a request is {"lead_in": steps, "steps": steps}, the answer
{"seconds": of those steps, "others_fraction": of all cores' time that went to other processes, "peak_memory_mb": of the
process so far}. Only the standard library is used here, since the peers run in an environment of their own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TextIO

UNTIMED_STEPS = 3  # the first of a process traces, compiles and allocates
WARM_UP_STEPS, WARM_UP_SECONDS = 5, 4.0  # timed, to know how many steps make a chunk; whichever is reached first


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB of 2**20 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def busy_seconds() -> float | None:
    """Processor seconds of the whole machine since it started, time stolen by its host included; None where untold.

    Source: proc(5), /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - called beside the clock
            ticks = [int(value) for value in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Clock:
    """What the clocks said when it was made; `own` counts this process and its children that have ended."""

    seconds: float = field(default_factory=time.perf_counter)
    own: float = field(default_factory=lambda: sum(os.times()[:4]))
    busy: float | None = field(default_factory=busy_seconds)

    def until(self, end: Clock) -> dict[str, Any]:
        """Seconds between two clocks, and the share of all cores' time that other processes took."""
        seconds = end.seconds - self.seconds
        if self.busy is None or end.busy is None:
            return {"seconds": seconds, "others_fraction": None}
        others = (end.busy - self.busy) - (end.own - self.own)
        return {"seconds": seconds, "others_fraction": min(1.0, max(0.0, others / (seconds * (os.cpu_count() or 1))))}


def own_stdout() -> TextIO:
    """stdout for answers alone: what a library prints goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


class Chunks:
    """Called after each step; blocks between chunks.

    Args:
        count_parameters: how many numbers the net trains; asked once, when the net has been built.
        answers: takes the answers.
    """

    def __init__(self, count_parameters: Callable[[], int], answers: TextIO) -> None:
        self.count_parameters, self.answers = count_parameters, answers
        self.settle: Callable[[], Any] = lambda: None
        self.course = self._course()
        next(self.course)

    def step_done(self, settle: Callable[[], Any] = lambda: None) -> None:
        """One step is over.

        Args:
            settle: waits for what the step still computes, where a framework returns before it is done.
        """
        self.settle = settle
        next(self.course)

    def _course(self) -> Generator[None, None, None]:
        for _ in range(UNTIMED_STEPS):
            yield
        self.settle()
        start, steps = time.perf_counter(), 0
        while steps < WARM_UP_STEPS and time.perf_counter() - start < WARM_UP_SECONDS:
            yield
            self.settle()
            steps += 1
        self._answer(step_seconds=(time.perf_counter() - start) / steps, parameters=self.count_parameters())
        while True:
            line = sys.stdin.readline()
            if not line:  # the driver has no more questions; threads of a framework must not hold the process up
                os._exit(0)
            asked = json.loads(line)
            for _ in range(asked["lead_in"]):
                yield
            self.settle()
            begun = Clock()
            for _ in range(asked["steps"]):
                yield
            self.settle()
            self._answer(**begun.until(Clock()))

    def _answer(self, **values: Any) -> None:
        print(json.dumps({**values, "peak_memory_mb": peak_memory_mb()}), file=self.answers, flush=True)
