"""What a run writes while it trains: metrics.csv, log.jsonl, best.safetensors, and the resumable states in last/."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea import faults
from fovea.data.preprocess import Preprocessor
from fovea.evaluation.modelfile import model_as_bytes
from fovea.files import append_json_line, csv_table, write_bytes, write_text
from fovea.runfolder import now_utc
from fovea.settings import ModelSettings, Recipe
from fovea.training.callbacks import Callback, Metrics, TrainingState
from fovea.training.checkpoint import Tensors, capture, save_checkpoint
from fovea.training.signals import StoppedBySignal, StopRequest

STATES = "last"
LOG = "log.jsonl"
# Where the data lies, and how often the state is saved, have no part in what is computed.
_WITHOUT_EFFECT: Any = {
    "description": True,
    "data": {"source": True, "val_data": True, "test_data": True},
    "training": {"save_seconds": True},
}


def recipe_digest(recipe: Recipe) -> str:
    """sha256 (hex) of every setting that has a part in the weights."""
    values = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def log_event(folder: Path, event: str, step: int, **facts: Any) -> None:
    """Add a line to the run's log; each bears the step up to which it holds."""
    append_json_line(folder / LOG, {"time": now_utc(), "event": event, "step": step, **facts})


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv, one line an epoch. Times stand in log.jsonl: equal runs have equal metrics.csv."""
    header = ["epoch", *history[0]]
    rows = [[epoch, *(repr(value) for value in line.values())] for epoch, line in enumerate(history, 1)]
    write_text(folder / "metrics.csv", csv_table(header, rows))


class Writer(Callback):
    """Keeps metrics.csv, log.jsonl and best.safetensors up to date, so that a run that is broken off leaves them."""

    def __init__(
        self, folder: Path, model: ModelSettings, preprocessor: Preprocessor, classes: tuple[str, ...]
    ) -> None:
        self.folder, self.model = folder, model
        self.preprocessor, self.classes = preprocessor, classes

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        if state.best_epoch == state.epoch:
            self.write_best(state.best_weights)
        write_metrics(self.folder, state.history)
        facts = {"epoch": state.epoch, "best_epoch": state.best_epoch, "seconds": round(state.seconds, 3)}
        log_event(self.folder, "epoch", state.step, **facts)
        faults.reach("epoch written")

    def write_best(self, weights: Tensors) -> None:
        content = model_as_bytes(weights, self.model, self.preprocessor, self.classes)
        write_bytes(self.folder / "best.safetensors", content)


class Saver(Callback):
    """Saves the state at each epoch's end, every `save_seconds` inside one, and where a signal asks for a stop.

    Args:
        callbacks: whose counters are part of the state.
    """

    def __init__(
        self, folder: Path, callbacks: Sequence[Callback], recipe_sha256: str, save_seconds: float, stop: StopRequest
    ) -> None:
        self.folder, self.callbacks, self.recipe_sha256 = folder, callbacks, recipe_sha256
        self.save_seconds, self.stop = save_seconds, stop
        self.saved = time.monotonic()

    def on_step(self, state: TrainingState) -> None:
        if self.stop.number is not None or time.monotonic() - self.saved >= self.save_seconds:
            log_event(self.folder, "saved", state.step, seconds=round(state.seconds, 3))
            self._save(state)

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        self._save(state)

    def _save(self, state: TrainingState) -> None:
        save_checkpoint(self.folder / STATES, capture(state, self.callbacks, self.recipe_sha256))
        self.saved = time.monotonic()
        if self.stop.number is not None:
            raise StoppedBySignal(self.stop.name)
