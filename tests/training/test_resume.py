"""Stopped anywhere and gone on with, a run leaves the bytes of an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import bars

import fovea
from fovea import faults

# Two epochs of five batches; every mechanism that carries something from step to step is in one of these.
BASE: dict[str, Any] = {"epochs": 2, "batch_size": 22, "threads": 1, "device": "cpu"}
DROPOUT = ["conv 8 3x3 same relu", "batchnorm", "maxpool 2", "dropout .3", "flatten", "dense classes"]
KINDS: dict[str, dict[str, Any]] = {
    "muon, batch norm, augmentation, cosine": {},
    "rmsprop, dropout, plateau": {
        "layers": DROPOUT,
        "optimizer": "rmsprop",
        "schedule": "plateau",
        "plateau_patience": 0,
        "plateau_min_delta": 1.0,
    },
    "sgd, moving average, clipped": {"optimizer": "sgd", "ema_decay": 0.8, "clip_norm": 1.0, "schedule": "step"},
    "adamw, float32, one cycle": {"optimizer": "adamw", "precision": "fp32", "schedule": "onecycle", "layers": DROPOUT},
}
BYTES = ("best.safetensors", "metrics.csv", "predictions-test.npz", "split.json")


def content(folder: Path) -> dict[str, bytes]:
    """What must be the same to the byte, by name."""
    files = [folder / name for name in BYTES] + sorted(path for path in (folder / "last").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of a run this small, and says nothing here."""
    monkeypatch.setattr("fovea.runs.write_figures", lambda _: None)


def train(name: str, **settings: Any) -> Path:
    return fovea.train(bars(150), name=name, verbose=False, **{**BASE, **settings}).path


def stopped(monkeypatch: pytest.MonkeyPatch, name: str, fault: str, **settings: Any) -> Path:
    """A run that a signal has stopped at a point."""
    order(monkeypatch, fault)
    with pytest.raises(KeyboardInterrupt):
        train(name, **settings)
    monkeypatch.delenv(faults.VARIABLE)
    return Path("runs") / name


def order(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, fault)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_at_any_batch_leaves_the_same_bytes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(train("whole", **KINDS[kind]))
    assert len([name for name in whole if name.startswith("last/")]) == 2 * 3
    for step in range(1, 11):
        folder = stopped(monkeypatch, f"stopped-{step}", f"SIGINT@step#{step}", **KINDS[kind])
        run = fovea.train(bars(150), resume=folder, verbose=False)
        assert content(run.path) == whole, f"stopped after step {step}"
