"""A budget of wall time: "90s", "5m", "1.5h", and the clock that it is held against."""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from fovea.errors import SettingsError

now = time.monotonic  # looked up at each call, so that a test can put another clock in its place
_LOADED = now()
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TEXT = re.compile(r"(\d+\.?\d*|\.\d+) *([smh]?)")


@dataclass(frozen=True)
class Budget:
    """How long a run may take, from its beginning to its last prediction.

    Attributes:
        began: what the clock (`now`) said at the beginning.
    """

    seconds: float
    began: float

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return now() - self.began


def clock() -> float:
    """What the clock says, in seconds from an arbitrary beginning."""
    return now()


def parse_seconds(text: str | float) -> float:
    """Seconds of "90s", "5m", "1h", "1.5h", "90" or a number.

    Raises:
        SettingsError: for anything else, and for no time at all.
    """
    found = _TEXT.fullmatch(str(text).strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found and not isinstance(text, bool) else 0.0
    if not 0 < seconds < math.inf:
        raise SettingsError(f"--budget {text!r} is no span of time: write 90s, 5m, 1.5h, or a number of seconds.")
    return seconds


def show_seconds(seconds: float) -> str:
    """A span of time in words: "55 ms", "12 s", "1 min 30 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def process_began() -> float:
    """What the clock said when this process began; where the system does not tell, when this module was loaded."""
    try:
        # proc(5): field 22 is the start in ticks since boot; the name in field 2 may hold spaces.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        age = since_boot - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _LOADED
    return now() - age if age >= 0 else _LOADED
