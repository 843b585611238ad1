"""Trainings in folders of their own, one at a time or side by side in processes that share the cores."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.data.imageset import RawData
from fovea.display import Say
from fovea.errors import NonFiniteLossError, RunFailedError, UserError
from fovea.runfolder import AGAIN, create_run_folder, is_finished, remove_husk
from fovea.runs import Given, new_run, resume_run
from fovea.settings import Recipe, with_settings
from fovea.sources import read_all
from fovea.training.callbacks import Callback, TrainingState
from fovea.training.plan import plan_run

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


@dataclass(frozen=True, eq=False)
class Cell:
    """One training of a comparison: a recipe with a seed, in a folder of its own."""

    recipe: Recipe
    folder: Path


def default_jobs() -> int:
    """How many trainings run side by side: one for two cores, as a training gains little from more."""
    return max(1, (os.cpu_count() or 1) // 2)


def train_cell(cell: Cell, raw: RawData, given: Given, data: Any = None) -> None:
    """Train, or go on with, one run in this process; a finished one is left alone.

    Args:
        data: what the user gave as data; arrays are passed on to a run that is gone on with.
    """
    if is_finished(cell.folder):
        return
    if (cell.folder / "config.yaml").is_file():
        resume_run(cell.folder, given, data=None if isinstance(data, str | Path | Recipe) else data)
        return
    remove_husk(cell.folder)
    plan = plan_run(cell.recipe, raw)
    new_run(plan, raw, create_run_folder(cell.folder.parent, cell.folder.name), given)


def train_side_by_side(cells: Sequence[Cell], jobs: int, say: Say) -> None:
    """Train in processes of their own, `jobs` at a time, which share the cores.

    Raises:
        RunFailedError: when a training broke off; the others have saved their states then, as after a signal.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    threads = max(1, (os.cpu_count() or 1) // jobs)
    say(
        "compare", f"{len(cells)} trainings, {jobs} side by side with {threads} thread{'s' if threads > 1 else ''} each"
    )
    shared = [
        cell if cell.recipe.training.threads is not None else
        replace(cell, recipe=with_settings(cell.recipe, {"threads": threads}))
        for cell in cells
    ]  # fmt: skip
    context, others = get_context("spawn"), set(active_children())
    stop = context.Event()
    with ProcessPoolExecutor(jobs, context, _begin_beside, (stop,)) as pool:
        try:
            futures = {pool.submit(train_alone, cell): cell for cell in shared}
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                say("compare", f"{futures[future].folder.name} has ended; {len(cells) - done} left")
        except BaseException as error:
            stop.set()
            if not isinstance(error, UserError | NonFiniteLossError):
                say("to go on", f"{AGAIN.format('compare')}; the trainings save their states")
            try:
                pool.shutdown(wait=True, cancel_futures=True)
            except BaseException:  # a second signal: what was saved before stands
                for child in set(active_children()) - others:
                    child.kill()
                raise
            if isinstance(error, BrokenProcessPool):
                raise RunFailedError(
                    "A training was ended from outside, as the system does where memory is short: --jobs 1 needs least."
                ) from None
            raise


class StopWhenAsked(Callback):
    """Stops a training beside others as a signal would, after the step in which its parent asks for it."""

    def __init__(self, asked: Event) -> None:
        self.asked = asked

    def on_step(self, state: TrainingState) -> None:
        if self.asked.is_set():
            signal.raise_signal(signal.SIGTERM)


# Of a process that trains beside others: whether it is to stop, and who holds its only turn to train.
_asked_to_stop: Event | None = None
_turn = threading.Lock()


def _begin_beside(asked: Event) -> None:
    """What a process that trains beside others begins with."""
    global _asked_to_stop
    _asked_to_stop = asked
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent decides
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_with, args=(parent_process(), asked), daemon=True).start()


def _end_with(parent: Any, asked: Event) -> None:
    """End this process, its training saved, when its parent has ended without a word: no executor does."""
    if parent is not None:
        parent.join()
        asked.set()
        with _turn:
            os._exit(128 + signal.SIGTERM)


def train_alone(cell: Cell) -> None:
    """Train one run of a comparison in this process, which reads the images for it."""
    asked = _asked_to_stop
    if asked is not None and asked.is_set():
        sys.exit(128 + signal.SIGTERM)
    given = Given(verbose=False) if asked is None else Given(verbose=False, watch=lambda *_: [StopWhenAsked(asked)])
    with _turn:
        train_cell(cell, read_all(cell.recipe, cell.recipe.data.source), given)
