"""A state is saved whole or not at all, and never taken for whole when it is not."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import bars
from torch import nn

import fovea
from fovea import faults
from fovea.files import read_json_lines
from fovea.settings import OptimizerSettings
from fovea.training.callbacks import Running, TrainingState
from fovea.training.checkpoint import capture, newest_checkpoint, read_checkpoint, restore, save_checkpoint
from fovea.training.optimizers import OPTIMIZERS, make_optimizers

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 22,
    "threads": 1,
    "device": "cpu",
    "layers": ["conv 8 3x3 same relu", "batchnorm", "flatten", "dense classes"],
    "verbose": False,
}
FILES = ("manifest.json", "state.json", "tensors.safetensors")


@pytest.fixture(autouse=True)
def _without_faults() -> None:
    faults.forget()


def training(optimizer: str = "adam", steps: int = 3) -> TrainingState:
    """A small training after some steps, its net in channels_last as in the loop."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = make_optimizers(net, OptimizerSettings(name=optimizer, lr=0.01, weight_decay=0.01))
    state = TrainingState(net, epochs=5, steps_per_epoch=10, base_lr=0.01, optimizers=optimizers)
    state.epoch, state.running = 1, Running()
    for _ in range(steps):
        step(state)
    state.best_weights = {name: value.clone() for name, value in net.state_dict().items()}
    return state


def step(state: TrainingState) -> None:
    assert state.running is not None
    state.step += 1
    state.running.batches += 1
    inputs = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(state.step))
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    state.net(inputs.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    for optimizer in state.optimizers:
        optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_was_restored_makes_the_same_next_step_as_what_was_saved(optimizer: str, tmp_path: Path) -> None:
    saved, fresh = training(optimizer), training(optimizer, steps=0)
    path = save_checkpoint(tmp_path / "last", capture(saved, [], "x"))
    restore(read_checkpoint(path), fresh, [])
    step(saved)
    step(fresh)
    for name, value in saved.net.state_dict().items():
        assert torch.equal(value, fresh.net.state_dict()[name]), name
    before, after = ([o.state_dict()["state"] for o in state.optimizers] for state in (saved, fresh))
    for one, other in zip(before, after, strict=True):
        for index, values in one.items():
            for name, value in values.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[index][name])), name
                assert torch.as_tensor(value).stride() == torch.as_tensor(other[index][name]).stride(), name
    assert (fresh.step, fresh.running) == (saved.step, saved.running)


def test_the_same_state_has_the_same_bytes(tmp_path: Path) -> None:
    paths = [save_checkpoint(tmp_path / name, capture(training(), [], "x")) for name in ("one", "two")]
    assert {path.name for path in paths} == {"epoch-0000-batch-0003"}
    for name in FILES:
        assert len({(path / name).read_bytes() for path in paths}) == 1
    assert sorted(path.name for path in paths[0].iterdir()) == sorted(FILES)


def test_a_state_with_a_truncated_or_flipped_file_is_never_taken_for_whole(tmp_path: Path) -> None:
    rng = random.Random(0)
    state = training()
    state.running = None
    save_checkpoint(tmp_path, capture(state, [], "x"))
    state.epoch, state.running = 2, Running()
    step(state)
    newest = save_checkpoint(tmp_path, capture(state, [], "x"))
    for name in FILES:
        good = (newest / name).read_bytes()
        flips = [(offset, 1 << rng.randrange(8)) for offset in rng.choices(range(len(good)), k=200)]
        spoilt = [good[: len(good) * percent // 100] for percent in range(100)]
        spoilt += [good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :] for at, bit in flips]
        for content in spoilt:
            (newest / name).write_bytes(content)
            found = newest_checkpoint(tmp_path)
            assert found.checkpoint is not None
            assert found.checkpoint.step == 3
            assert len(found.skipped) == 1
            assert str(newest) in found.skipped[0]
        (newest / name).unlink()
        assert newest_checkpoint(tmp_path).checkpoint is not None
        (newest / name).write_bytes(good)
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.skipped) == (4, [])


def test_two_states_are_kept_and_the_older_only_goes_when_the_newer_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = training(steps=0)
    state.epoch, state.running = 0, None

    def names() -> list[str]:
        save_checkpoint(tmp_path, capture(state, [], "x"))
        return sorted(path.name for path in tmp_path.iterdir())

    assert names() == ["epoch-0000"]
    for epoch in (1, 2):
        state.epoch, state.running = epoch, Running()
        for batch in (1, 2):
            step(state)
            assert names() == [f"epoch-{epoch - 1:04d}", f"epoch-{epoch - 1:04d}-batch-{batch:04d}"]
        state.running = None
        assert names() == [f"epoch-{epoch - 1:04d}", f"epoch-{epoch:04d}"]


@pytest.mark.parametrize("name", FILES)
def test_a_state_that_does_not_hold_what_was_written_costs_no_older_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = training()
    save_checkpoint(tmp_path, capture(state, [], "x"))
    step(state)
    monkeypatch.setattr("fovea.files.write_synced", torn(name))
    with pytest.raises(fovea.RunFailedError, match="written a moment ago: the disk is not to be trusted"):
        save_checkpoint(tmp_path, capture(state, [], "x"))
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 3


def torn(torn_name: str) -> Callable[[Path, bytes, str], None]:
    """A disk that forgets the last byte of a file without a word."""

    def write(path: Path, content: bytes, name: str) -> None:
        path.write_bytes(content[:-2] if name == torn_name else content)

    return write


def test_a_state_that_cannot_be_read_is_neither_skipped_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = training()
    path = save_checkpoint(tmp_path, capture(state, [], "x"))

    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(fovea.DataError, match=r"manifest\.json cannot be read: Input/output error"):
        newest_checkpoint(tmp_path)
    assert path.is_dir()


FULL = [
    "ENOSPC@tensors.safetensors#3+1000",
    "ENOSPC@state.json#3+10",
    "ENOSPC@manifest.json#3",
    "EROFS@tensors.safetensors#3",
    "ENOSPC@best.safetensors#2+500",
    "ENOSPC@metrics.csv#2+3",
    "ENOSPC@log.jsonl#3+9",
    "ENOSPC@predictions-test.npz+100",
    "ENOSPC@result.json+7",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    return fovea.train(bars(150), out=tmp_path_factory.mktemp("runs"), **{**SETTINGS, "report": False}).path


@pytest.mark.parametrize("fault", FULL)
def test_a_disk_that_fills_up_leaves_the_older_state_and_a_message(
    fault: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.VARIABLE, fault)
    number, file = fault.split("@")[0], fault.split("@")[1].split("#")[0].split("+")[0]
    reason = {"ENOSPC": "No space left on device", "EROFS": "Read-only file system"}
    with pytest.raises(fovea.RunFailedError, match=reason[number]) as caught:
        fovea.train(bars(150), name="full", **SETTINGS)
    folder = Path("runs/full")
    place = folder / "last" / "epoch-0002" if file in FILES else folder / file
    assert f"{place} could not be written" in str(caught.value)
    if number == "ENOSPC":
        assert " bytes, " in str(caught.value)
        assert " are free there" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not list(folder.rglob("*.partial"))
    assert read_checkpoint(folder / "last" / "epoch-0001").step == 5
    monkeypatch.delenv(faults.VARIABLE)
    run = fovea.train(bars(150), resume=folder, verbose=False)
    for name in (
        "best.safetensors",
        "metrics.csv",
        "last/epoch-0002/tensors.safetensors",
        "last/epoch-0002/state.json",
    ):
        assert (run.path / name).read_bytes() == (whole / name).read_bytes()
    assert all("event" in entry for entry in read_json_lines(folder / "log.jsonl"))


def test_a_run_folder_that_vanishes_is_a_failure_with_its_path() -> None:
    def vanish(state: TrainingState, metrics: object) -> None:
        shutil.rmtree("runs/gone")

    with pytest.raises(fovea.RunFailedError, match=r"runs.gone.* could not be written: No such file or directory"):
        fovea.train(bars(150), name="gone", callbacks=vanish, **SETTINGS)
    assert not Path("runs/gone").exists()
