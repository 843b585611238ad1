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


def is_live(stream: TextIO) -> bool:
    """Whether a line can be wiped and written again there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def progress_stream() -> TextIO:
    """stderr; in a notebook stdout, because notebooks show stderr as if it were an error."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return sys.stdout if hasattr(shell, "kernel") else sys.stderr


def show(stream: TextIO, text: str, end: str = "\n") -> None:
    """Write to the terminal; one that was closed meanwhile breaks off no training."""
    with contextlib.suppress(OSError, ValueError):
        print(text, end=end, file=stream, flush=True)


def say_on(stream: TextIO) -> Callable[[str, str], None]:
    """A function (topic, line) that writes to `stream`, wrapped to its width."""

    def say(topic: str, line: str) -> None:
        if is_live(stream):
            show(stream, WIPE, end="")  # a running line may stand there
        width = max(terminal_width(stream), 40)
        indent = " " * TOPIC_WIDTH
        wrapped = textwrap.wrap(
            line,
            width - 1,
            initial_indent=f"{topic:<{TOPIC_WIDTH}}",
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        show(stream, f"{topic:<{TOPIC_WIDTH}}{line}" if topic in COMMANDS else "\n".join(wrapped))

    return say
