"""A progress bar for what happens before training: downloads and decoding."""

from __future__ import annotations

import time
from typing import TextIO

from fovea.display import terminal_width
from fovea.reporting.terminal import WIPE, is_live, show

_AFTER_SECONDS = 0.5  # what is done by then needs no bar
_EVERY_SECONDS = 0.1


class ProgressBar:
    """Called with (what, done, total); a line that is written again in a terminal, one line a job elsewhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.live = stream, is_live(stream)
        self.what, self.began, self.begun_at = "", 0.0, 0
        self.shown = self.said = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self.what:
            self.what, self.began, self.begun_at, self.shown, self.said = what, now, done, 0.0, 0.0
        is_waiting, is_done = total == 0 and done == 0, 0 < total <= done
        if now - self.began < _AFTER_SECONDS and not is_waiting:
            return
        if not self.live:
            if not self.said:
                show(self.stream, f"{what} ..." if not total else f"{what}: {total:,} ...")
                self.said = now
            return
        if is_done:
            show(self.stream, WIPE, end="")
        elif now - self.shown > _EVERY_SECONDS:
            self.shown = now
            show(self.stream, f"{WIPE}{self._line(done, total, now)}", end="")

    def _line(self, done: int, total: int, now: float) -> str:
        if not total:
            return f"{self.what}: {done:,}" if done else f"{self.what} ..."
        made = max(done - self.begun_at, 1)
        left = round((now - self.began) / made * (total - done))
        counts = f" {done:,}/{total:,}, {left // 60}m{left % 60:02d}s left"
        room = max(terminal_width(self.stream) - len(self.what) - len(counts) - 5, 5)
        full = round(min(done / total, 1.0) * min(room, 40))
        return f"{self.what} [{'#' * full}{'-' * (min(room, 40) - full)}]{counts}"
