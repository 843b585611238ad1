"""What a run writes while it trains: metrics.csv, log.jsonl, best.safetensors, and the resumable states in last/."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea import faults
from fovea.display import Say
from fovea.errors import FoveaError, NonFiniteLossError, UserError
from fovea.evaluation.modelfile import ModelCard, model_as_bytes
from fovea.files import append_json_line, csv_table, read_json_lines, write_bytes, write_text
from fovea.runfolder import is_finished, is_unfinished, now_utc, resume_command
from fovea.settings import Recipe
from fovea.training.callbacks import Callback, Metrics, TrainingState
from fovea.training.checkpoint import Tensors, capture, describe_place, save_checkpoint
from fovea.training.signals import StoppedBySignal, StopRequest
from fovea.training.stopwatch import phase

STATES = "last"
LOG = "log.jsonl"
# Where the data lies, how often the state is saved, and what is drawn or audited have no part in what is computed.
_WITHOUT_EFFECT: Any = {
    "description": True,
    "data": {"source": True, "val_data": True, "test_data": True, "audit": True, "label_fixes": True},
    # Of label fixes their sha256 counts.
    "model": {"weights": True},  # their sha256 counts
    "training": {"save_seconds": True, "budget_seconds": True, "plan": True},  # the plan grows: see check_plan
    "evaluation": {"report": True},
}


def recipe_digest(recipe: Recipe) -> str:
    """sha256 (hex) of every setting but places, the description, the audit, save_seconds, budget and plan."""
    values = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def log_event(folder: Path, event: str, step: int, **facts: Any) -> None:
    """Add a line to the run's log; each bears the step up to which it holds."""
    append_json_line(folder / LOG, {"time": now_utc(), "event": event, "step": step, **facts})


def write_metrics(folder: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv, one line an epoch. Times stand in log.jsonl: equal runs have equal metrics.csv."""
    header = ["epoch", *history[0]]
    rows = [[epoch, *(repr(float(value)) for value in line.values())] for epoch, line in enumerate(history, 1)]
    write_text(folder / "metrics.csv", csv_table(header, rows))


class Writer(Callback):
    """Keeps metrics.csv, log.jsonl and best.safetensors up to date, so that a run that is broken off leaves them."""

    def __init__(self, folder: Path, card: ModelCard) -> None:
        self.folder, self.card = folder, card

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        if state.best_epoch == state.epoch:
            self.write_best(state.best_weights)
        with phase("saving", "metrics and results"):
            write_metrics(self.folder, state.history)
            facts = {"epoch": state.epoch, "best_epoch": state.best_epoch, "seconds": round(state.seconds, 3)}
            log_event(self.folder, "epoch", state.step, **facts)
        faults.reach("epoch written")

    def write_best(self, weights: Tensors) -> None:
        with phase("saving", "best.safetensors"):
            write_bytes(self.folder / "best.safetensors", model_as_bytes(weights, self.card))


class Saver(Callback):
    """Saves the state at each epoch's end, every `save_seconds` inside one, and where a signal asks for a stop.

    Args:
        callbacks: whose counters are part of the state.
        say: takes the lines about a stop.
    """

    def __init__(
        self,
        folder: Path,
        callbacks: Sequence[Callback],
        recipe_sha256: str,
        save_seconds: float,
        stop: StopRequest,
        say: Say,
    ) -> None:
        self.folder, self.callbacks, self.recipe_sha256 = folder, callbacks, recipe_sha256
        self.save_seconds, self.stop, self.say = save_seconds, stop, say
        self.saved = time.monotonic()

    def save(self, state: TrainingState) -> None:
        """Save the state as it is now."""
        with phase("saving", "states"):
            save_checkpoint(self.folder / STATES, capture(state, self.callbacks, self.recipe_sha256))
        self.saved = time.monotonic()

    def on_step(self, state: TrainingState) -> None:
        if self.stop.number is not None or time.monotonic() - self.saved >= self.save_seconds:
            self.save(state)
            log_event(self.folder, "saved", state.step, seconds=round(state.seconds, 3))
            self._stop_if_asked(state)

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        self.save(state)
        self._stop_if_asked(state)

    def _stop_if_asked(self, state: TrainingState) -> None:
        if self.stop.number is None:
            return
        place = describe_place(state.epoch, None if state.running is None else state.running.batches, state.step)
        log_event(self.folder, "stopped", state.step, reason=self.stop.name)
        self.say("stopped", f"{self.stop.name} after {place}, where the state was saved")
        self.say("to go on", resume_command(self.folder))
        raise StoppedBySignal


def record_end(folder: Path, error: BaseException, say: Say) -> None:
    """Log why a run ended early, and say how to go on where going on can help."""
    if is_finished(folder):  # a signal came as its last file had been written
        return
    with contextlib.suppress(FoveaError):  # a full disk has no room for the log either
        last = (read_json_lines(folder / LOG) or [{}])[-1]
        if last.get("event") == "stopped":  # by a signal: told when the state was saved
            return
        event = "failed" if isinstance(error, Exception) else "stopped"
        reason = str(error) if isinstance(error, FoveaError) else f"{type(error).__name__}: {error}"
        log_event(folder, event, last.get("step", 0), reason=reason)
    if isinstance(error, NonFiniteLossError):
        say("broken off", str(folder))  # to go on would lead to the same place
    elif not isinstance(error, UserError) and is_unfinished(folder):
        say("to go on", resume_command(folder))


@contextlib.contextmanager
def told(folder: Path, say: Say) -> Iterator[None]:
    """Around what is done in a run's or a study's folder while none of its trainings runs.

    What is broken off there says how to go on; a folder in which nothing had begun yet is not left.
    """
    try:
        yield
    except BaseException as error:
        has_begun = (folder / "config.yaml").is_file()  # written last of what comes first
        if not has_begun:
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, UserError) and is_unfinished(folder if has_begun else folder.parent):
            say("to go on", resume_command(folder))
        raise
