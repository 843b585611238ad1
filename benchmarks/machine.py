"""Where figures were measured, as the results of all benchmarks hold it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from fovea.runfolder import now_utc, processor_name


def describe_machine() -> dict[str, Any]:
    """Time, processor, cores that this process may use, and versions; torch is not imported for it."""
    return {
        "time": now_utc(),
        "processor": processor_name(),
        "cores": available_cores(),
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def available_cores() -> int | None:
    """Cores that this process may use; None where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
