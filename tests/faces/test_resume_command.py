"""fovea train --resume: what the shell answers, with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import bars, shell
from typer.testing import Result

import fovea
from fovea import faults
from fovea.runfolder import locked

QUICK = ("--epochs", "2", "-b", "22", "--set", "threads=1", "--set", "layers=[flatten, dense classes]")


@pytest.fixture
def archive(tmp_path: Path) -> str:
    images, labels = bars(150)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels)
    return str(tmp_path / "set.npz")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a run that Ctrl-C has stopped in its second epoch, and what the shell showed."""
    folder = tmp_path_factory.mktemp("stopped")
    images, labels = bars(150)
    np.savez(folder / "set.npz", x_train=images, y_train=labels)
    faults.forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(faults.VARIABLE, "SIGINT@step#8")
        result = shell("train", str(folder / "set.npz"), *QUICK, "--name", "a run")
    return folder / "runs", result


@pytest.fixture
def unfinished(stopped: tuple[Path, Result], archive: str) -> Path:
    """That run, in a working folder of its own."""
    folder, result = stopped
    shutil.copytree(folder, "runs")
    assert result.exit_code == 130
    text = " ".join(result.stderr.split())
    assert "SIGINT after batch 3 of epoch 2 (step 8), where the state was saved" in text
    assert "to go on fovea train --resume 'runs/a run'" in text
    assert "Traceback" not in result.stderr
    return Path("runs/a run")


def test_an_unfinished_run_goes_on_and_a_finished_one_says_so(unfinished: Path) -> None:
    with pytest.raises(fovea.DataError, match=r"broken off.*To go on: fovea train --resume 'runs/a run'"):
        fovea.load_run(unfinished)
    result = shell("train", "--resume", str(unfinished), "--json")
    assert result.exit_code == 0, result.stderr
    assert "going on after batch 3 of epoch 2 (step 8)" in " ".join(result.stderr.split())
    again = shell("train", "--resume", str(unfinished), "--json")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    assert again.stderr.split() == ["finished", "runs/a", "run:", "nothing", "is", "left", "to", "do"]
    text = shell("train", "--resume", str(unfinished)).stdout
    assert text.startswith("test accuracy")
    assert text.splitlines()[-1] == "runs/a run"
    assert not (unfinished / ".lock").exists()


def test_the_same_command_again_begins_anew_and_says_how_to_go_on(unfinished: Path, archive: str) -> None:
    result = shell("train", archive, *QUICK, "--name", "a run")
    assert result.exit_code == 0
    assert "runs/a run is not finished; to go on with it instead: fovea train --resume 'runs/a run'" in " ".join(
        result.stderr.split()
    )
    assert result.stdout.splitlines()[-1] == "runs/a run-2"


def test_a_second_process_in_the_same_folder_is_refused(unfinished: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fovea.runfolder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(unfinished)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        result = shell("train", "--resume", str(unfinished))
        holder.kill()
    assert result.exit_code == 2
    assert "is being trained by another process" in result.stderr
    assert shell("train", "--resume", str(unfinished)).exit_code == 0  # the lock ended with its process


def test_a_lock_is_held_against_the_same_process_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(fovea.SettingsError, match="another process"), locked(tmp_path):
        pass


MISTAKES = [
    (["--resume", "{run}", "--epochs", "5"], "epochs cannot be given with it"),
    (["--resume", "{run}", "--name", "x"], "leave out name"),
    (["--resume", "{run}", "--out", "x", "--seeds", "3"], "leave out seeds, out"),
    (["--resume", "{run}", "--model", "lenet5"], "leave out model"),
    (["--resume", "nowhere"], "There is no run folder nowhere"),
    (["--resume", "set.npz"], "There is no run folder set.npz"),
    (["--resume", "runs"], "runs holds no run to go on with: it has no config.yaml"),
    ([], "DATA is missing"),
    (["digits", "--force"], "--force belongs to --resume"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[words[:30] for _, words in MISTAKES])
def test_a_mistake_is_one_message_and_exit_code_2(unfinished: Path, arguments: list[str], words: str) -> None:
    result = shell("train", *[argument.format(run=unfinished) for argument in arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""


DAMAGED = ["config.yaml", "split.json", "environment.json"]


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("content", [b"", b"[1, 2", b"\xff\xfe\x00", b"7"])
def test_a_damaged_file_of_the_run_is_named(unfinished: Path, name: str, content: bytes) -> None:
    (unfinished / name).write_bytes(content)
    result = shell("train", "--resume", str(unfinished))
    assert result.exit_code == 2, result.stderr
    assert name in result.stderr
    assert result.stderr.startswith("error: ")


def test_a_full_disk_is_exit_code_1_with_the_way_to_go_on(archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, "ENOSPC@tensors.safetensors#3+100")
    result = shell("train", archive, *QUICK)
    assert result.exit_code == 1
    text = " ".join(result.stderr.split())
    assert "to go on fovea train --resume runs/set-layers" in text
    assert "error: runs/set-layers/last/epoch-0002 could not be written: No space left on device. It needs" in text


@pytest.mark.parametrize(
    "name", ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow), pytest.param("SIGHUP", marks=pytest.mark.slow)]
)
def test_a_signal_to_a_real_process_is_its_exit_code(archive: str, name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name} here")
    environment = {**os.environ, faults.VARIABLE: f"{name}@step#3"}
    command = [sys.executable, "-m", "fovea", "train", archive, *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 128 + getattr(signal, name)
    assert f"{name} after batch 3 of epoch 1 (step 3)" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    last = json.loads(Path("runs/set-layers/log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["reason"]) == ("stopped", name)
