"""Going on with a run that was broken off: what may differ, where to start, what to mend in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fovea import faults
from fovea.data.prepare import Splits
from fovea.errors import DataError, RunFailedError, SettingsError
from fovea.evaluation.timeprofile import TIME_PROFILE
from fovea.files import read_json, read_json_lines, remove_partial, write_text
from fovea.recipefile import read_config, recipe_as_yaml
from fovea.runfolder import describe_environment
from fovea.settings import DataSettings, Recipe, StepPlan, with_fields, with_settings
from fovea.training.checkpoint import Checkpoint, DamagedStateError, Found, newest_checkpoint, prune, tensors_of
from fovea.training.hardware import choose_hardware
from fovea.training.kernels import possible_kernels
from fovea.training.records import LOG, STATES, Writer, log_event, recipe_digest, write_metrics

HARDWARE = ("device", "precision", "memory_format", "threads", "fast_ops", "allocator")
_EXACT_HARDWARE = HARDWARE[:-1]  # the allocator has no part in what is computed
_EXACT_PACKAGES = {"fovea-vision": "Fovea", "torch": "torch"}


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse settings that cannot be given together with --resume.

    Raises:
        SettingsError: for any but those of the hardware, and save_seconds.
    """
    others = [name for name in given if name.split(".")[-1] not in (*HARDWARE, "save_seconds")]
    if others:
        raise SettingsError(
            f"--resume goes on with the settings of the run: {', '.join(others)} cannot be given with it. For a new "
            "run with other settings train from its config.yaml."
        )


def resumed_recipe(saved: Recipe, record: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Recipe, list[str]]:
    """The settings to go on with, and what has changed about the hardware since the run began.

    Args:
        record: the record of config.yaml; it says whether the threads were asked for or derived.
        given: settings given together with --resume, see `check_given`.

    Raises:
        SettingsError: when a device is not here.
    """
    now = with_settings(saved, given)
    reason = str(_mapping(record, "hardware").get("threads", "")).partition(": ")[2]
    if "threads" not in {name.split(".")[-1] for name in given} and reason != "as asked":
        derived = choose_hardware(now.training.model_copy(update={"threads": None})).threads
        now = with_settings(now, {"threads": int(derived.value)})
    hardware = choose_hardware(now.training)
    now = now.model_copy(update={"training": hardware.settings(now.training)})
    changes = []
    for name in _EXACT_HARDWARE:
        before, after = getattr(saved.training, name), getattr(now.training, name)
        if before != after:
            way_out = f" (--set {name}={before} keeps {before})" if name == "threads" else ""
            changes.append(f"{name} was {before}, now it is {after}{way_out}")
    return now, changes + possible_kernels(now.training.kernels or {})[1]


def environment_changes(folder: Path) -> tuple[list[str], list[str]]:
    """(what stands against the same bytes, what is worth a line) about this process and the one that began the run."""
    before, now = read_json(folder / "environment.json"), describe_environment()
    try:
        versions = [(shown, before["packages"][name], now["packages"][name]) for name, shown in _EXACT_PACKAGES.items()]
        processors = before["processor"], now["processor"]
    except (KeyError, TypeError):
        raise DataError(f"{folder / 'environment.json'} is damaged: it names no versions.") from None
    changes = [f"{shown} was {old}, now it is {new}" for shown, old, new in versions if old != new]
    notes = [f"the processor was {processors[0]}, now it is {processors[1]}: the bytes may differ"]
    return changes, notes if processors[0] != processors[1] else []


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def fingerprints(splits: Splits) -> dict[str, str]:
    """Split name -> fingerprint of its images and labels."""
    return {name: images.fingerprint for name, images in splits.sets.items()}


def data_changes(splits: Splits, record: Mapping[str, Any]) -> list[str]:
    """Which splits are not those that the run began with."""
    before, now = _mapping(record, "fingerprints"), fingerprints(splits)
    names = {"train": "training", "val": "validation", "test": "test"}
    changed = [words for name, words in names.items() if before.get(name) != now.get(name)]
    return [f"the {', '.join(changed)} images have changed"] if changed else []


def check_settings(folder: Path, recipe_sha256: str, saved: Recipe) -> None:
    """Refuse to go on where config.yaml was edited after training had begun with other settings.

    Args:
        recipe_sha256: of the settings that it began with.

    Raises:
        SettingsError: what is half one training and half another is neither.
    """
    if recipe_sha256 != recipe_digest(saved):
        raise SettingsError(
            f"{folder / 'config.yaml'} was edited after the training had begun. Restore it to go on; to train with the "
            f"new settings begin a new run: fovea train {folder / 'config.yaml'}"
        )


def check_plan(folder: Path, checkpoint: Checkpoint, saved: Recipe) -> None:
    """Refuse to go on where config.yaml has another plan than the one that led to the state.

    It may hold more: what was written down before the process was stopped, to take effect after the state.

    Raises:
        SettingsError: as `check_settings`.
    """
    past = [list(entry) for entry in saved.training.plan or () if entry[0] <= checkpoint.step]
    if past != (checkpoint.facts.get("plan") or []):
        raise SettingsError(
            f"training.plan in {folder / 'config.yaml'} was edited after the training had begun. Restore it to go on."
        )


def write_plan(folder: Path, plan: StepPlan) -> None:
    """Write a new plan into config.yaml, before it takes effect."""
    path = folder / "config.yaml"
    recipe, record = read_config(path)
    write_text(path, recipe_as_yaml(with_fields(recipe, "training", plan=plan), record))
    faults.reach("plan written")


def check_changes(folder: Path, changes: list[str], force: bool) -> None:
    """Refuse to go on where the bytes would no longer be those of an uninterrupted run.

    Raises:
        SettingsError: unless `force`.
    """
    if changes and not force:
        raise SettingsError(
            f"{folder} cannot go on as it began: {'; '.join(changes)}. Restore that, or add --force (in Python "
            "force=True): then it goes on, but its bytes may differ from those of an uninterrupted run."
        )


def find_start(folder: Path) -> Found:
    """The state that a run can go on from.

    Raises:
        DataError: when states were saved, but none can be used.
    """
    try:
        found = newest_checkpoint(folder / STATES)
    except DamagedStateError as error:
        raise DataError(f"{error} {_train_again(folder)}") from None
    if found.checkpoint is None and (folder / "metrics.csv").exists():
        raise DataError(f"{folder / STATES} holds no state, although epochs have ended. {_train_again(folder)}")
    if found.checkpoint is None:
        return found
    times = [entry.get("seconds") for entry in _log_up_to(folder, found.checkpoint.step)]
    seconds = max((time for time in times if isinstance(time, float) and math.isfinite(time)), default=0.0)
    return replace(found, checkpoint=replace(found.checkpoint, seconds=seconds))


def _train_again(folder: Path) -> str:
    return f"Train the run again from its settings: fovea train {folder / 'config.yaml'}"


def _log_up_to(folder: Path, step: int) -> list[dict[str, Any]]:
    """The whole lines of the log that do not come after `step`."""
    entries = read_json_lines(folder / LOG)
    return [entry for entry in entries if isinstance(entry.get("step"), int) and entry["step"] <= step]


def mend_folder(folder: Path, found: Found, writer: Writer, changes: list[str]) -> None:
    """Bring every file of an unfinished run to where its state stands; only for who holds the folder's lock.

    Raises:
        RunFailedError: when a file cannot be written or removed.
    """
    checkpoint = found.checkpoint
    try:
        (folder / "result.json").unlink(missing_ok=True)  # it would call the run evaluated
        (folder / TIME_PROFILE).unlink(missing_ok=True)  # of a run that was not gone on with
        remove_partial(folder)
        remove_partial(folder / STATES)
        if found.folder is not None:  # a kill may have fallen between the proof of this state and the removal of others
            prune(found.folder)
        _mend_metrics(folder, checkpoint, writer)
    except OSError as error:
        raise RunFailedError(f"{folder} cannot be brought to where its state stands: {error}.") from None
    step, epochs = (0, 0) if checkpoint is None else (checkpoint.step, len(checkpoint.facts["history"]))
    kept = _without_what_comes_again(_log_up_to(folder, step), step, epochs)
    write_text(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in kept))
    facts = {"skipped": found.skipped, "changes": changes, "environment": describe_environment()}
    log_event(folder, "resume", step, **facts)


def _without_what_comes_again(entries: list[dict[str, Any]], step: int, epochs: int) -> list[dict[str, Any]]:
    """The log without lines at the step of the state that tell of something after it.

    An epoch whose last step was done had still to be measured and saved. An earlier attempt to go on from here that
    nothing followed has left nothing: what had changed for it has changed nothing.
    """

    def stays(entry: dict[str, Any]) -> bool:
        number = entry.get("epoch")
        return entry.get("event") != "end" and not (entry.get("event") == "epoch" and number not in range(epochs + 1))

    kept = [entry for entry in entries if stays(entry)]
    last = max((row for row, entry in enumerate(kept) if entry.get("event") == "epoch"), default=-1)
    return [
        entry for row, entry in enumerate(kept) if row < last or entry.get("event") != "resume" or entry["step"] < step
    ]


def _mend_metrics(folder: Path, checkpoint: Checkpoint | None, writer: Writer) -> None:
    if checkpoint is None or not checkpoint.facts["history"]:
        for name in ("metrics.csv", "best.safetensors"):
            (folder / name).unlink(missing_ok=True)
        return
    write_metrics(folder, checkpoint.facts["history"])
    writer.write_best(tensors_of(checkpoint, "best"))


def update_config(folder: Path, data: DataSettings, now: Mapping[str, str] | None = None) -> None:
    """Write into config.yaml where the images are and, with `now`, the fingerprints of what they are.

    Whoever goes on with the run or evaluates it reads them there.
    """
    path = folder / "config.yaml"
    recipe, record = read_config(path)
    updated = recipe.model_copy(update={"data": data}), {**record, "fingerprints": now or record.get("fingerprints")}
    if updated != (recipe, record):
        write_text(path, recipe_as_yaml(*updated))


def changes_so_far(folder: Path) -> list[str]:
    """What had changed each time the run went on: where there is something, its bytes are not promised."""
    found = [entry.get("changes") for entry in read_json_lines(folder / LOG)]
    return [str(change) for changes in found if isinstance(changes, list) for change in changes]
