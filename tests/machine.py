"""An imagined machine, whose clock runs only while it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fovea.data.audit import audit_splits
from fovea.evaluation.predictions import predict
from fovea.training.loop import train_step


class Machine:
    """Computes for real, and tells the time of an imagined machine.

    Attributes:
        pace: seconds since the beginning -> seconds that a step takes then.
        audit_seconds: what it takes to look at the data.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = self.began = 1000.0
        self.steps = 0
        self.audit_seconds = 0.0
        self.pace: Callable[[float], float] = lambda _: 0.2
        monkeypatch.setattr("fovea.budget.now", lambda: self.time)
        for place, name, seconds in (
            ("loop", "train_step", self.step),
            ("pacing", "train_step", self.step),
            ("loop", "predict", self.predict),
            ("pacing", "predict", self.predict),
            ("run", "predict", self.predict),
            ("dataaudit", "audit_splits", lambda *_: self.audit_seconds),
        ):
            self._charge(monkeypatch, f"fovea.training.{place}.{name}", seconds)

    def _charge(self, monkeypatch: pytest.MonkeyPatch, place: str, seconds: Callable[..., float]) -> None:
        real: Callable[..., Any] = {"predict": predict, "train_step": train_step, "audit_splits": audit_splits}[
            place.rpartition(".")[2]
        ]

        def charged(*arguments: Any) -> Any:
            self.time += seconds(*arguments)
            return real(*arguments)

        monkeypatch.setattr(place, charged)

    def step(self, *_: Any) -> float:
        self.steps += 1
        return self.pace(self.time - self.began)

    @staticmethod
    def predict(net: Any, images: Any, *_: Any) -> float:
        return 0.004 * len(images)
