"""The bar of downloads and decoding: nothing for what is quick, one line in a pipe, a live line in a terminal."""

from __future__ import annotations

import io

import pytest

from fovea.reporting import progress
from fovea.reporting.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def advance(bar: ProgressBar, clock: list[float], seconds: float, steps: int = 10) -> None:
    for step in range(steps + 1):
        bar("decoding images", step * 100, steps * 100)
        clock[0] += seconds / steps


def test_what_is_done_in_a_moment_shows_nothing(clock: list[float]) -> None:
    for stream in (io.StringIO(), Terminal()):
        advance(ProgressBar(stream), clock, 0.4)
        assert stream.getvalue() in ("", "\r\x1b[2K")


def test_in_a_pipe_a_long_job_is_one_line(clock: list[float]) -> None:
    stream = io.StringIO()
    advance(ProgressBar(stream), clock, 60)
    assert stream.getvalue() == "decoding images: 1,000 ...\n"


def test_in_a_terminal_the_line_fits_and_is_wiped_at_the_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    advance(ProgressBar(stream), clock, 100)
    shown = [line for line in stream.getvalue().split("\r\x1b[2K") if line]
    assert len(shown) == 9
    assert all(len(line) < 60 for line in shown)
    assert "500/1,000, 0m50s left" in shown[4]
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_waiting_and_a_length_that_nobody_knows_are_shown_too(clock: list[float]) -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    bar("waiting for another process", 0, 0)
    bar("downloading x", 10, 0)
    clock[0] += 5
    bar("downloading x", 20, 0)
    assert stream.getvalue() == "waiting for another process ...\ndownloading x ...\n"
