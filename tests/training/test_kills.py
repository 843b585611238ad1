"""Real SIGKILLs: processes that stop without a word, at the worst places and at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

import fovea
from fovea.runfolder import is_finished

if sys.platform == "win32":
    pytest.skip("there is no SIGKILL on Windows", allow_module_level=True)

LAYERS = ["conv 8 3x3 same relu", "batchnorm", "maxpool 2", "dropout .3", "flatten", "dense classes"]
SETTINGS = {"epochs": 2, "batch_size": 22, "threads": 1, "device": "cpu", "layers": LAYERS, "ema_decay": 0.8}
# (fault, the step that the killed run stands at when it goes on)
POINTS = [
    ("SIGKILL@config.yaml+900", None),
    ("SIGKILL@best.safetensors+300", 0),
    ("SIGKILL@tensors.safetensors#3+5000", 5),
    ("SIGKILL@folder written#3", 5),
    ("SIGKILL@folder renamed#3", 10),
    ("SIGKILL@test_ledger.jsonl+30", 10),
    ("SIGKILL@result.json+10", 10),  # best.safetensors has its metrics by then
]


def child(folder: str, fault: str) -> None:
    """Runs in a process of its own."""
    import torch
    from tests.conftest import bars

    import fovea
    import fovea.runs

    os.chdir(folder)
    os.environ["FOVEA_FAULT"] = fault
    torch.set_num_threads(1)
    fovea.runs.draw_run = lambda _: None
    run = Path("runs/run")
    if (run / "config.yaml").exists():
        fovea.train(bars(150), resume=run, verbose=False)
    else:
        fovea.train(bars(150), name="run", verbose=False, **SETTINGS)


@pytest.fixture(scope="module")
def forks() -> multiprocessing.context.ForkServerContext:
    """Processes forked from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    late = ["sklearn.model_selection", "sklearn.metrics", "scipy.stats", "scipy.ndimage"]
    context.set_forkserver_preload(["fovea.api", "tests.conftest", *late])
    return context


def test_a_run_killed_at_the_worst_places_is_never_lost_and_leaves_the_same_bytes(
    forks: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    def start(place: str, fault: str = "") -> int | None:
        (tmp_path / place).mkdir(exist_ok=True)
        process = forks.Process(target=child, args=(str(tmp_path / place), fault))
        process.start()
        process.join(60)
        return process.exitcode

    assert start("whole") == 0
    whole = contents(tmp_path / "whole" / "runs" / "run")
    for number, (fault, step) in enumerate(POINTS):
        place = f"killed-{number}"
        assert start(place, fault) == -signal.SIGKILL, fault
        run = tmp_path / place / "runs" / "run"
        assert not is_finished(run)
        if step is None:  # killed before there was anything to go on with
            with pytest.raises(fovea.SettingsError, match="stopped before training began: train anew"):
                fovea.train(resume=run, verbose=False)
            continue
        assert start(place) == 0, fault
        assert contents(run) == whole, fault
        assert f'"event": "resume", "step": {step},' in (run / "log.jsonl").read_text(), fault
        assert not list(run.rglob("*.partial")), fault
        looks = (tmp_path / place / "runs" / "test_ledger.jsonl").read_text().splitlines()
        assert len([line for line in looks if line.endswith("}")]) == 1, fault


def contents(run: Path) -> dict[str, bytes]:
    files = [run / name for name in ("best.safetensors", "metrics.csv", "predictions-test.npz")]
    files += [path for path in (run / "last").rglob("*") if path.is_file()]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}
