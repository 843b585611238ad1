"""Faults on order: how tests stop a process at a chosen place, as a power cut or a full disk would.

FOVEA_FAULT holds entries ACTION@POINT[#NTH][+BYTES], separated by commas. ACTION is the name of a signal (SIGKILL,
SIGTERM ...), which the process sends itself, or of an error number (ENOSPC, EROFS, EIO ...), which is raised as an
OSError. POINT is the name of a place in the program, or of a file, whose writing then breaks off after BYTES bytes;
NTH counts how often the point has been reached (1 where it is left out). Without the variable nothing here acts.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter
from typing import BinaryIO

VARIABLE = "FOVEA_FAULT"
_ENTRY = re.compile(r"(?P<action>\w+)@(?P<point>[^#+,]+)(#(?P<nth>\d+))?(\+(?P<bytes>\d+))?")
_reached: Counter[tuple[str, str]] = Counter()


def reach(point: str) -> None:
    """Act if a fault was ordered for this place of the program."""
    entry = _ordered(point)
    if entry is not None:
        _act(entry["action"])


def write(file: BinaryIO, content: bytes, name: str) -> None:
    """Write `content` to `file`; if a fault was ordered for the file called `name`, only the bytes before it."""
    entry = _ordered(name)
    if entry is None:
        file.write(content)
        return
    before = int(entry["bytes"] or 0)
    file.write(content[:before])
    file.flush()
    _act(entry["action"])
    file.write(content[before:])  # a signal that was handled does not break off the writing


def _ordered(point: str) -> re.Match[str] | None:
    orders = os.environ.get(VARIABLE)
    if not orders:
        return None
    entries = [entry for entry in _ENTRY.finditer(orders) if entry["point"] == point]
    if not entries:
        return None
    _reached[orders, point] += 1
    return next((entry for entry in entries if int(entry["nth"] or 1) == _reached[orders, point]), None)


def _act(action: str) -> None:
    if action.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, action))
    else:
        number = getattr(errno, action)
        raise OSError(number, os.strerror(number))


def forget() -> None:
    """Count from the beginning again, for a test that runs several faults in one process."""
    _reached.clear()
