"""The ledger of looks at test sets: which run looked when, after which choices, and what it found."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import StoredRun
from fovea.files import read_json_lines
from fovea.runfolder import LEDGER, ledger_folder, record_test_look
from fovea.settings import Recipe, flat_settings

# Places, and what changes nothing about the trained procedure: no choices that a test set could be used for.
_LEFT_OUT = {"description", "data.source", "data.val_data", "data.test_data", "model.weights", "training.device"}
_LEFT_OUT |= {"training.threads", "training.save_seconds", "training.allocator", "training.memory_format"}
_LEFT_OUT |= {"training.kernels", "training.fast_ops", "evaluation.report", "evaluation.eval_batch_size"}
_SEEDS = {"training.seed", "data.split_seed", "data.val_seed"}


@dataclass(frozen=True)
class Look:
    """One look at a test set.

    Attributes:
        run: the folder's name, with that of the study above it.
        purpose: "train" or "evaluate".
        num_right, num_images: what was found; None where an older Fovea wrote the line.
        settings: those that differ from the defaults, by full name; None likewise.
    """

    time: str
    run: str
    purpose: str
    num_images: int | None = None
    num_right: int | None = None
    settings: Mapping[str, Any] | None = None

    @property
    def choices(self) -> str | None:
        """The settings without seeds as a text to compare; None where they are not known.

        Which of the folds was held out is no choice either, nor how long its epochs are; how many there are is one.
        """
        if self.settings is None:
            return None
        chosen = {name: self.settings[name] for name in sorted(self.settings) if name not in _SEEDS}
        if fold := chosen.get("data.fold"):
            chosen |= {"data.fold": fold[1], "training.steps_per_epoch": None}
        return json.dumps(chosen, sort_keys=True)


@dataclass(frozen=True)
class Looks:
    """All looks at one test set from one folder of runs, in the order in which they happened."""

    entries: tuple[Look, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def num_choices(self) -> int:
        """How many different settings looked, seeds apart; looks of unknown settings count as one."""
        return len({look.choices for look in self.entries})

    @property
    def words(self) -> str:
        """ "this test set was opened 7 times; 3 different settings looked at it"."""
        times = "once" if len(self) == 1 else f"{len(self)} times"
        text = f"this test set was opened {times} from this folder"
        return text if self.num_choices < 2 else f"{text}; {self.num_choices} different settings looked at it"

    def changes(self, number: int) -> list[tuple[str, Any, Any]] | None:
        """(setting, before, now) of what differs from the look before; None where that is not known.

        Args:
            number: which look, from 0.
        """
        now = self.entries[number].settings
        before = self.entries[number - 1].settings if number else None
        if now is None or before is None:
            return None
        names = sorted({*before, *now})
        return [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]

    def chosen_among(self, num_right: int, num_images: int) -> int:
        """Among how many settings a run with so many right would be the best; 0 where another has more."""
        best: dict[str, int] = {}
        for look in self.entries:
            if look.choices is not None and look.num_right is not None and look.num_images == num_images:
                best[look.choices] = max(best.get(look.choices, 0), look.num_right)
        return len(best) if best and num_right >= max(best.values()) else 0

    def as_json(self) -> dict[str, Any]:
        """The looks as plain values."""
        looks = []
        for number, look in enumerate(self.entries):
            changes = self.changes(number)
            named = None if changes is None else {name: [before, now] for name, before, now in changes}
            looks.append({"time": look.time, "run": look.run, "purpose": look.purpose, "changed": named})
        return {"looks": len(self), "settings": self.num_choices, "ledger": looks}


def chosen_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that differ from the defaults and could have been chosen by a test figure, by full name.

    A layer list is named by its sha256, twelve digits of it.
    """
    defaults = flat_settings(Recipe())
    found = {
        name: value
        for name, value in flat_settings(recipe).items()
        if name not in _LEFT_OUT and value != defaults.get(name)
    }
    layers = found.get("model.layers")
    if layers is not None:
        found["model.layers"] = "sha256 " + hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:12]
    return found


def record_look(
    ledger: Path, run_folder: Path, fingerprint: str, found: Predictions, recipe: Recipe, identity: Mapping[str, Any]
) -> int:
    """Write a look into the ledger.

    Args:
        ledger: the folder of the ledger.
        fingerprint: of the test set.
        found: what was answered.
        identity: what tells the look from others; see `record_test_look`.

    Returns:
        How often this test set has been opened from there, this look included.
    """
    folder, root = run_folder.resolve(), ledger.resolve()
    name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.name
    entry = {"run": name, "count": len(found), **identity}
    details = {"correct": int(found.correct.sum()), "settings": chosen_settings(recipe)}
    return record_test_look(ledger, fingerprint, entry, details)


def read_looks(run: StoredRun, fingerprint: str | None = None) -> Looks:
    """All looks at a run's test set from its folder of runs, by any run.

    Args:
        fingerprint: of another test set that the run was evaluated on.
    """
    wanted = fingerprint or run.record.get("fingerprints", {}).get("test")
    lines = read_json_lines(ledger_folder(run.path) / LEDGER)
    return Looks(tuple(_look(line) for line in lines if line.get("test_fingerprint") == wanted))


def _look(line: Mapping[str, Any]) -> Look:
    settings, right, count = line.get("settings"), line.get("correct"), line.get("count")
    return Look(
        str(line.get("time", "")),
        str(line.get("run", "")),
        str(line.get("purpose", "")),
        count if isinstance(count, int) else None,
        right if isinstance(right, int) else None,
        settings if isinstance(settings, dict) else None,
    )


def chose_its_epoch(run: StoredRun) -> bool:
    """Whether the validation images chose the epoch whose weights were kept."""
    return str(run.result["chosen_by"]).startswith("val")


def flattery(num_right: int, num_images: int, num_choices: int) -> float:
    """By how much the best of so many independent figures may be too good: s sqrt(2 ln k), a share.

    s is the standard error of one figure. Figures of the same images go together, so that it is less: a bound.
    """
    share = num_right / num_images
    return math.sqrt(share * (1 - share) / num_images) * math.sqrt(2 * math.log(max(num_choices, 1)))


def selection_warning(run: StoredRun) -> str | None:
    """What stands against a test figure that may have been chosen by looking at it; None where nothing does."""
    score = run.test_accuracy
    if score is None or run.mark is not None:
        return None
    right = round(score.value * score.count)
    among = read_looks(run).chosen_among(right, score.count)
    if among < 2:
        return None
    return (
        f"Of the {among} settings that looked at this test set from this folder this one has the highest accuracy. If "
        "it is reported for that, it was selected on test, and flattered by up to about "
        f"{flattery(right, score.count, among) * 100:.2f} points: choose by validation, and report what was chosen."
    )
