"""Where the time of a run goes: a stopwatch that always counts for one name, and the phases that say which.

Without a stopwatch that runs (`running`) a phase does nothing. Nothing here imports torch, so that the time of that
import can be measured, too.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from fovea.evaluation.timeprofile import BACKWARD, BETWEEN, FORWARD, PHASES, REST, TimePart, TimeProfile

if TYPE_CHECKING:
    from fovea.training.layertimes import LayerTimes

Key = tuple[str, str | int]  # a phase, and its part: a name, or the number of a layer
MEASURING: Key = (REST, "measuring itself")
OTHER: Key = (REST, "other")
# The parts of phases in the order in which a run goes through them.
_ORDER: list[str | int] = [
    *("importing", "reading data", "planning and set-up", "data audit", "callbacks", "report", MEASURING[1], OTHER[1]),
    *("training sample", "validation", "final predictions", "calibration", "weak slices", "nearest training images"),
    *("states", "metrics and results", "best.safetensors"),
]
Item = TypeVar("Item")


class Stopwatch:
    """Divides time without gaps: what passes is counted for the key that is current.

    Args:
        first: what the time until `running` is counted for, a part of the rest.
    """

    def __init__(self, first: str = "other") -> None:
        self.seconds: defaultdict[Key, float] = defaultdict(float)
        self.calls: Counter[Key] = Counter()
        self.layers: list[tuple[str, str]] = []  # (name, output) of the layers in the order in which they first ran
        self.layer_times: LayerTimes | None = None
        self.current: Key = (REST, first)
        self.wait: Callable[[], object] | None = None  # until a device has done what it was told
        self._since = time.perf_counter()

    def switch(self, key: Key) -> Key:
        """Count for `key` from now on.

        Returns:
            What was counted for until now.
        """
        if self.wait is not None:
            self.wait()
        now = time.perf_counter()
        self.seconds[self.current] += now - self._since
        before, self.current, self._since = self.current, key, now
        return before

    def profile(self) -> TimeProfile:
        """What has been measured so far."""
        self.switch(self.current)
        return TimeProfile(tuple(self._phase(name) for name in PHASES))

    def _phase(self, name: str) -> TimePart:
        if name in (FORWARD, BACKWARD):
            keys: list[Key] = [(name, number) for number in range(len(self.layers))]
            keys += [(name, BETWEEN)] if self.layers else []
        else:
            keys = [key for key in self.seconds if key[0] == name and key[1] != ""]
            keys.sort(key=lambda key: _ORDER.index(key[1]) if key[1] in _ORDER else -1)
        parts = tuple(self._part(key) for key in keys)
        total = sum(seconds for key, seconds in self.seconds.items() if key[0] == name)
        calls = self.calls[name, ""] or sum(part.calls for part in parts)
        return TimePart(name, total, calls, parts=parts)

    def _part(self, key: Key) -> TimePart:
        part = key[1]
        name, output = self.layers[part] if isinstance(part, int) else (part, "")
        return TimePart(name, self.seconds[key], self.calls[key], output)


_running: ContextVar[Stopwatch | None] = ContextVar("_running", default=None)


def current() -> Stopwatch | None:
    """The stopwatch that runs in this thread."""
    return _running.get()


@contextlib.contextmanager
def running(stopwatch: Stopwatch | None) -> Iterator[None]:
    """Let a stopwatch measure what is called from here; None: nothing is measured."""
    if stopwatch is not None:
        stopwatch.switch(OTHER)
    token = _running.set(stopwatch)
    try:
        yield
    finally:
        _running.reset(token)


@contextlib.contextmanager
def phase(name: str, part: str = "") -> Iterator[None]:
    """Count the time inside for a phase, one of `PHASES`; the phase around it stands still meanwhile."""
    stopwatch = _running.get()
    if stopwatch is None:
        yield
        return
    key = (name, part)
    stopwatch.calls[key] += 1
    before = stopwatch.switch(key)
    try:
        yield
    finally:
        stopwatch.switch(before)


def each(items: Iterable[Item], name: str) -> Iterator[Item]:
    """The items, with the time that making them takes counted for a phase."""
    return iter(items) if _running.get() is None else _each(iter(items), name)


def _each(iterator: Iterator[Item], name: str) -> Iterator[Item]:
    while True:
        with phase(name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def wait_for(device: str) -> None:
    """Have the stopwatch wait, at each switch, until a GPU has done what it was told: it works while Python goes on."""
    stopwatch = _running.get()
    if stopwatch is None or device == "cpu":
        return
    import torch

    stopwatch.wait = torch.mps.synchronize if device.startswith("mps") else lambda: torch.cuda.synchronize(device)
