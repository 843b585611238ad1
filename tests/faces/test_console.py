"""What the terminal shows while training runs."""

from __future__ import annotations

import io
import time

import pytest
from tests.conftest import bars
from torch import nn

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
