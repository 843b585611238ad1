"""The resumable state of a training: everything that the next step depends on, as safetensors and JSON.

A state is a folder below `last/`, called after what was done when it was saved: `epoch-0002` (two epochs),
`epoch-0002-batch-0007` (and seven batches of the third). It holds `tensors.safetensors`, `state.json` and, written
last, `manifest.json` with the size and sha256 of both. Nothing in it depends on the clock: the same training saved at
the same place has the same bytes. Data order, augmentation and dropout are functions of (seed, epoch, step, image), so
no generator has a state to save.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.optim import Optimizer

from fovea import faults
from fovea.errors import DataError, ModelError, RunFailedError, SettingsError
from fovea.files import write_folder
from fovea.training.callbacks import Callback, Running, TrainingState

FORMAT_VERSION = 1
_NAME = re.compile(r"epoch-(\d+)(?:-batch-(\d+))?")
_TENSORS, _FACTS, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"

Tensors = dict[str, torch.Tensor]


class DamagedStateError(DataError):
    """A state that is not as it was written."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training at one place.

    Attributes:
        tensors: "net.", "average.", "best." and "optimizer." + names -> values on the CPU.
        facts: what state.json holds: place, history, counters.
        seconds: of training up to here; kept in the run's log, not in the state, whose bytes tell no time.
    """

    tensors: Tensors
    facts: dict[str, Any]
    seconds: float = 0.0

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.facts["step"])

    @property
    def recipe_sha256(self) -> str:
        """Which settings the state belongs to."""
        return str(self.facts["recipe_sha256"])

    @property
    def place(self) -> str:
        """Where training stands, in words."""
        running = self.facts["running"]
        return describe_place(self.facts["epoch"], running and running["batches"], self.step)


def describe_place(epoch: int, batches: int | None, step: int) -> str:
    """Where training stands, in words: "epoch 3 (step 30)", "batch 7 of epoch 4 (step 37)"."""
    within = "" if batches is None else f"batch {batches} of "
    return f"{within}epoch {epoch} (step {step})"


def capture(state: TrainingState, callbacks: Sequence[Callback], recipe_sha256: str) -> Checkpoint:
    """The state as plain values.

    Raises:
        SettingsError: when a callback of the user's own has a state that JSON cannot hold.
    """
    optimizer_tensors, optimizer_facts = _capture_optimizers(state.optimizers)
    modules = {"net": state.net.state_dict(), "best": state.best_weights}
    if state.average is not None:
        modules["average"] = state.average.state_dict()
    tensors = {f"{part}.{name}": value for part, values in modules.items() for name, value in values.items()}
    facts = {
        "format_version": FORMAT_VERSION,
        "recipe_sha256": recipe_sha256,
        "epoch": state.epoch,
        "running": None if state.running is None else dict(state.running.__dict__),
        "step": state.step,
        "epochs": state.epochs,
        "base_lr": state.base_lr,
        "lr_scale": state.lr_scale,
        "best_epoch": state.best_epoch,
        "stop_reason": state.stop_reason,
        "history": state.history,
        "callbacks": [{"name": callback.name, "state": plain_state(callback)} for callback in callbacks],
        "optimizers": optimizer_facts,
    }
    if state.plan:
        facts["plan"] = [list(entry) for entry in state.plan if entry[0] <= state.step]  # what stands in the past
    return Checkpoint({name: _copied(value) for name, value in (tensors | optimizer_tensors).items()}, facts)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU, contiguous, and sharing no memory with another, as safetensors wants it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _capture_optimizers(optimizers: Sequence[Optimizer]) -> tuple[Tensors, list[dict[str, Any]]]:
    """Each tensor by name, and for each optimizer its numbers and its tensors' strides.

    Strides count: fused optimizers walk through memory, and a sum's last bits depend on the order of its terms.
    """
    tensors: Tensors = {}
    facts = []
    for number, optimizer in enumerate(optimizers):
        strides, numbers = {}, {}
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                key = f"{index}.{name}"
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{number}.{key}"] = value
                    strides[key] = list(value.stride())
                else:
                    numbers[key] = value
        groups = [{k: value for k, value in group.items() if k != "params"} for group in optimizer.param_groups]
        facts.append({"strides": strides, "numbers": numbers, "groups": groups})
    return tensors, facts


def restore(checkpoint: Checkpoint, state: TrainingState, callbacks: Sequence[Callback]) -> None:
    """Put a training where the checkpoint stands.

    Raises:
        ModelError: when the weights do not fit the net.
        SettingsError: when the callbacks are not those of the run.
    """
    facts = checkpoint.facts
    _restore_callbacks(facts["callbacks"], callbacks)
    try:
        state.net.load_state_dict(tensors_of(checkpoint, "net"))
    except RuntimeError as error:
        raise ModelError(f"The saved weights do not fit the model: {' '.join(str(error).split())}.") from None
    if state.average is not None:
        state.average.load_state_dict(tensors_of(checkpoint, "average"))
    for number, (optimizer, saved) in enumerate(zip(state.optimizers, facts["optimizers"], strict=True)):
        _restore_optimizer(optimizer, saved, tensors_of(checkpoint, f"optimizer.{number}"))
    state.best_weights = tensors_of(checkpoint, "best")
    state.epoch, state.step, state.epochs = facts["epoch"], facts["step"], facts["epochs"]
    state.base_lr, state.lr_scale = facts["base_lr"], facts["lr_scale"]
    state.running = None if facts["running"] is None else Running(**facts["running"])
    state.best_epoch, state.stop_reason = facts["best_epoch"], facts["stop_reason"]
    state.history[:] = facts["history"]
    state.seconds_before = checkpoint.seconds


def tensors_of(checkpoint: Checkpoint, part: str) -> Tensors:
    """The tensors of "net", "average", "best" or "optimizer.<number>", by name."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in checkpoint.tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: Optimizer, saved: dict[str, Any], tensors: Tensors) -> None:
    values: dict[str, Any] = dict(saved["numbers"])
    for name, stride in saved["strides"].items():
        values[name] = torch.empty_strided(tensors[name].shape, stride, dtype=tensors[name].dtype).copy_(tensors[name])
    state: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = [
        {**fresh, **{name: tuple(value) if isinstance(value, list) else value for name, value in group.items()}}
        for fresh, group in zip(optimizer.state_dict()["param_groups"], saved["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def restore_optimizer_states(checkpoint: Checkpoint, optimizers: Sequence[Optimizer]) -> None:
    """Give optimizers the moments and step counts of a checkpoint, and leave their settings.

    Raises:
        ValueError, IndexError: when they are not those that the checkpoint was made with.
    """
    for number, (optimizer, saved) in enumerate(zip(optimizers, checkpoint.facts["optimizers"], strict=True)):
        groups = optimizer.state_dict()["param_groups"]
        if [sorted(group) for group in groups] != [sorted({**group, "params": 0}) for group in saved["groups"]]:
            raise ValueError("another kind of optimizer")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        tensors = tensors_of(checkpoint, f"optimizer.{number}")
        for name, tensor in tensors.items():
            if tensor.dim() and tensor.shape != parameters[int(name.partition(".")[0])].shape:
                raise ValueError("other parameters")
        _restore_optimizer(optimizer, {**saved, "groups": groups}, tensors)


def _restore_callbacks(saved: list[dict[str, Any]], callbacks: Sequence[Callback]) -> None:
    names, here = [entry["name"] for entry in saved], [callback.name for callback in callbacks]
    if names != here:
        raise SettingsError(
            f"The run was trained with the callbacks {', '.join(names) or 'none'}; now they are "
            f"{', '.join(here) or 'none'}: pass those of your own again, in the same order (fovea.train(resume=..., "
            "callbacks=[...]))."
        )
    for entry, callback in zip(saved, callbacks, strict=True):
        callback.load_state_dict(entry["state"])


def save_checkpoint(parent: Path, checkpoint: Checkpoint) -> Path:
    """Write a state below `parent`, read it back, and only then remove those that it makes superfluous.

    Two are kept: this one, and the newest end of an epoch before it (`epoch-0000` stands for the beginning).

    Raises:
        RunFailedError: when it could not be written, or did not hold what was written; the older ones stand.
        SettingsError: see `capture`.
    """
    folder = parent / _name(checkpoint)
    content = {_TENSORS: save(checkpoint.tensors), _FACTS: _as_json(checkpoint.facts)}
    listed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
    content[_MANIFEST] = _as_json({"files": listed})
    write_folder(folder, content)
    for name in content:
        _forget_cached(folder / name)
    try:
        read_checkpoint(folder)
        faults.reach("state proven")
        prune(folder)
    except ValueError as error:  # DataError too
        raise RunFailedError(f"{error} It was written a moment ago: the disk is not to be trusted.") from None
    return folder


def prune(proven: Path) -> None:
    """Remove all states beside a proven one but the newest end of an epoch before it."""
    states = _states(proven.parent)
    ends = [path for path in states[: states.index(proven)] if "batch" not in path.name]
    for path in states:
        if path not in (proven, *ends[-1:]):
            shutil.rmtree(path, ignore_errors=True)


def _name(checkpoint: Checkpoint) -> str:
    epoch, running = checkpoint.facts["epoch"], checkpoint.facts["running"]
    return f"epoch-{epoch:04d}" if running is None else f"epoch-{epoch - 1:04d}-batch-{running['batches']:04d}"


def _as_json(value: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"The state of the training cannot be saved ({error}): what a callback puts into the metrics or changes in "
            "the state must be plain finite numbers."
        ) from None


def plain_state(callback: Callback) -> dict[str, Any]:
    """What a callback counts, which JSON must give back as it was.

    Raises:
        SettingsError: when it would not.
    """
    state = callback.state_dict()
    try:
        is_plain = json.loads(json.dumps(state, allow_nan=False)) == state
    except (TypeError, ValueError, RecursionError):
        is_plain = False
    if not is_plain:
        raise SettingsError(
            f"The state_dict of the callback {callback.name} cannot be saved: {str(state)[:200]}. It must be a dict of "
            "finite numbers, texts, None, lists and dicts with texts as keys (None serves where nothing was seen yet)."
        )
    return state


def _forget_cached(path: Path) -> None:
    """Let the reading back reach the disk, not the memory that the file was written from (where the system can)."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _states(parent: Path) -> list[Path]:
    """The states below `parent`, the newest last; half-written ones do not count.

    Raises:
        DataError: when the folder cannot be listed.
    """
    try:
        found = [(match, path) for path in parent.iterdir() if (match := _NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{parent} cannot be listed: {error.strerror}.") from None
    return [path for _, path in sorted(found, key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 0)))]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read one state.

    Raises:
        DamagedStateError: when anything in it is not as it was written.
        DataError: when it cannot be read, which says nothing about what it holds, or is of another format.
    """
    try:
        listed = json.loads(_read(folder / _MANIFEST))["files"]
        content = {name: _read_checked(folder / name, listed[name]) for name in (_TENSORS, _FACTS)}
        facts = json.loads(content[_FACTS])
        if facts["format_version"] != FORMAT_VERSION:
            raise DataError(f"{folder} has format {facts['format_version']}, this Fovea reads {FORMAT_VERSION}.")
        return Checkpoint(load(content[_TENSORS]), facts)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        raise DamagedStateError(f"{folder / _MANIFEST} is damaged.") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DamagedStateError(f"{path} is missing.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _read_checked(path: Path, entry: dict[str, Any]) -> bytes:
    content = _read(path)
    if len(content) != entry["bytes"]:
        raise DamagedStateError(f"{path} is damaged: it has {len(content):,} bytes, {entry['bytes']} were written.")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedStateError(f"{path} is damaged: its sha256 is not the one that was written.")
    return content


@dataclass(frozen=True, eq=False)
class Found:
    """The newest state that is as it was written, and what is wrong with those that are newer.

    Attributes:
        checkpoint, folder: None where there is no state.
        skipped: what is wrong with each.
    """

    checkpoint: Checkpoint | None
    folder: Path | None
    skipped: list[str]


def newest_checkpoint(parent: Path) -> Found:
    """Find the state to go on from.

    Raises:
        DamagedStateError: when there are states, but none of them is as it was written.
        DataError: when one cannot be read.
    """
    skipped: list[str] = []
    for path in reversed(_states(parent)):
        try:
            return Found(read_checkpoint(path), path, skipped)
        except DamagedStateError as error:
            skipped.append(str(error))
    if skipped:
        raise DamagedStateError(f"No state in {parent} can be used: {' '.join(skipped)}")
    return Found(None, None, skipped)
