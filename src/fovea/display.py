"""What things are shown on: lines for the user, a terminal's width, small HTML for notebooks (_repr_html_).

Names are untrusted: all is escaped.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Sequence
from html import escape
from typing import TextIO

Say = Callable[[str, str], None]  # (topic, line) that the user should see


def say_nothing(topic: str, line: str) -> None:
    """Takes the place of a terminal."""


def terminal_width(stream: TextIO | None) -> int:
    """The width to write for: the terminal's, COLUMNS, or 100 in a pipe and where the stream is closed (None)."""
    default = 100
    try:
        asked = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        asked = 0
    if asked > 0:
        return asked
    return shutil.get_terminal_size((default, 24)).columns if stream is not None and stream.isatty() else default


def table_html(rows: Sequence[tuple[str, str]], title: str = "") -> str:
    """Two columns, name and value, below a title."""
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal;opacity:.75">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    caption = f'<caption style="text-align:left;font-weight:bold">{escape(title)}</caption>' if title else ""
    return f"<table>{caption}<tbody>{cells}</tbody></table>"


def image_html(png: bytes, alt: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{escape(alt)}" src="{data_uri(png)}">'


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Bytes as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
