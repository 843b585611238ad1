"""The terminal itself: whether lines can be wiped, where progress goes."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Callable
from typing import TextIO

from fovea.display import terminal_width

TOPIC_WIDTH = 11
COMMANDS = {"to go on"}  # topics whose line is typed again, and therefore not wrapped
WIPE = "\r\x1b[2K"  # back to the start of the line, and clear it


def is_live(stream: TextIO | None) -> bool:
    """Whether a line can be wiped and written again there."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def progress_stream() -> TextIO | None:
    """stderr, None where the shell has closed it; in a notebook stdout, for stderr is shown there as an error."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return sys.stdout if hasattr(shell, "kernel") else sys.stderr


def show(stream: TextIO | None, text: str, end: str = "\n") -> None:
    """Write to the terminal; one that was closed before or meanwhile breaks off no training."""
    if stream is None:  # print would take stdout for it
        return
    with contextlib.suppress(OSError, ValueError):
        print(text, end=end, file=stream, flush=True)


def say_on(stream: TextIO | None) -> Callable[[str, str], None]:
    """A function (topic, line) that writes to `stream`, wrapped to its width."""

    def say(topic: str, line: str) -> None:
        if is_live(stream):
            show(stream, WIPE, end="")  # a running line may stand there
        width = max(terminal_width(stream), 40)
        wrapped = [
            row
            for part in line.splitlines() or [""]  # a list of bad files has a line for each
            for row in textwrap.wrap(part, width - 1 - TOPIC_WIDTH, break_on_hyphens=False, break_long_words=False)
        ]
        wrapped = [f"{topic if number == 0 else '':<{TOPIC_WIDTH}}{row}" for number, row in enumerate(wrapped)]
        show(stream, f"{topic:<{TOPIC_WIDTH}}{line}" if topic in COMMANDS else "\n".join(wrapped))

    return say
