"""What the terminal shows while training runs."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import bars
from torch import nn

from fovea.cli_base import tell
from fovea.data.load import read_raw
from fovea.display import terminal_width
from fovea.reporting.console import EpochLines, _columns
from fovea.reporting.terminal import say_on
from fovea.settings import Recipe, with_settings
from fovea.training.callbacks import TrainingState
from fovea.training.plan import plan_run

METRICS = {
    "train_loss": 0.5,
    "train_accuracy": 0.9,
    "running_loss": 0.6,
    "running_accuracy": 0.8,
    "val_loss": 0.55,
    "val_accuracy": 0.875,
    "lr": 0.05,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(stream: io.StringIO) -> str:
    plan = plan_run(with_settings(Recipe(), {"epochs": 3, "device": "cpu"}), read_raw(bars(150)))
    lines = EpochLines(plan, stream)
    lines.shown = -1.0  # long ago: the live line is due
    state = TrainingState(nn.Identity(), epochs=3, steps_per_epoch=4, base_lr=0.1, epoch=1, step=1)
    state.seconds_before, lines.since = 10.0, time.monotonic() - 10
    lines.on_step(state)
    state.history.append(METRICS)
    state.best_epoch = 1
    lines.on_epoch(state, METRICS)
    lines.on_end(state)
    return stream.getvalue()


def test_a_pipe_gets_one_line_an_epoch_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    text = show(io.StringIO())
    assert "\r" not in text
    assert "\x1b" not in text
    header, line = text.splitlines()
    assert " ".join(header.split()) == "epoch train loss train acc val loss val acc best lr images/s left"
    assert line.split() == ["1/3", "0.5000", "90.00%", "0.5500", "87.50%", "*", "0.05", "3", "20s"]


def test_a_terminal_gets_a_running_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TERM", raising=False)
    text = show(Terminal())
    assert "\r\x1b[2Kepoch 1/3, step 1/4" in text
    assert text.endswith("\r\x1b[2K")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in show(Terminal())


@pytest.mark.parametrize("width", [50, 60, 80, 100, 200])
def test_the_columns_fit_the_width(width: int) -> None:
    columns = _columns(width)
    assert sum(columns.values()) + 2 * (len(columns) - 1) < width
    assert {"epoch", "val acc", "best"} <= set(columns)


def test_lines_are_wrapped_under_their_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    assert terminal_width(stream) == 60
    say_on(stream)("data", "many words " * 12)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) < 60
    assert all(line.startswith(" " * 11) for line in lines[1:])


def test_each_line_of_a_list_keeps_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    say_on(stream)("note", "2 images cannot be decoded and are left out: a.png: is empty\n  b.png: is damaged")
    first, second, third = stream.getvalue().splitlines()
    assert first == "note       2 images cannot be decoded and are left out:"
    assert second == "           a.png: is empty"
    assert third == "             b.png: is damaged"


@pytest.mark.parametrize("closed", ["stderr", "stdout"])
def test_a_stream_that_the_shell_has_closed_breaks_nothing_off(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.cli import app

    other = io.StringIO()
    monkeypatch.setattr(sys, closed, None)
    monkeypatch.setattr(sys, "stdout" if closed == "stderr" else "stderr", other)
    images, labels = bars(60, side=11)
    np.savez("set.npz", x_train=images, y_train=labels)
    told = ["--set", "report=false", "--set", "audit=false", "--model", "p4-dense", "--epochs", "1"]
    assert app(["train", "set.npz", *told], standalone_mode=False) is None
    assert app(["data", "set.npz"], standalone_mode=False) is None
    assert ("precision" in other.getvalue()) == (closed == "stdout")
    assert ("test accuracy  " in other.getvalue()) == (closed == "stderr")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_result_that_meets_a_full_disk_is_one_message() -> None:
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run([sys.executable, "-m", "fovea", "list", "models"], stdout=full, stderr=subprocess.PIPE)
    assert (found.returncode, found.stderr.decode()) == (
        1,
        "error: stdout cannot be written: No space left on device.\n",
    )


def test_letters_that_stdout_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    tell("Ω and \udcff")
    assert written.getvalue() == rb"\u03a9 and \udcff" + b"\n"
