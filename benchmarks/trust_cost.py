"""What it costs to know how far to believe a run: calibration, weak slices, neighbours of mistakes, the data audit.

The default run on MNIST is profiled; then its figures and sections on trust are drawn again, timed on their own. The
rest of the run (data, training, plain evaluation, the plain report) is what the cost is held against, with and without
the plain report.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fovea.reporting.figures import plot_history, write_figure
from fovea.reporting.style import figure_bytes
from fovea.reporting.trust_sections import neighbour_blocks, trust_sections
from fovea.runview import Run

PARTS = ("calibration", "weak slices", "nearest training images")
ASKED = 0.10
_REPEATS = 3


def main(data: Path) -> dict[str, Any]:
    """Train as by default, and divide the time.

    Returns:
        "seconds" of each part, "shares" of the run without them, and the "figures" for the table.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile, run = _train(data, Path(folder))
        drawing, calibration = _drawing_seconds(run), _calibration(run)
    parts = {part["name"]: part["seconds"] for phase in profile["phases"] for part in phase.get("parts", [])}
    audit = {name: seconds for name, seconds in parts.items() if "audit" in name}
    seconds = {name: parts[name] for name in PARTS} | drawing | audit
    plain = profile["seconds"] - sum(seconds.values())
    training = plain - (parts.get("report", 0.0) - sum(drawing.values()))
    share = sum(seconds.values()) / training
    figure = {
        "name": "time on trust, beside data, training and plain evaluation of the default MNIST run",
        "asked": f"at most {ASKED:.0%}",
        "measured": f"{share:.1%} ({sum(seconds.values()):.1f} s of {training:.1f} s)",
        "reached": share <= ASKED,
    }
    return {
        "run_seconds": profile["seconds"],
        "seconds": seconds,
        "without_report_seconds": training,
        "shares": {name: each / training for name, each in seconds.items()},
        "calibration": calibration,
        "figures": [figure],
    }


def _train(data: Path, folder: Path) -> tuple[dict[str, Any], Run]:
    command = [sys.executable, "-m", "fovea", "train", "mnist", "--profile", "--json", "--out", str(folder)]
    environment = {**os.environ, "FOVEA_DATA": str(data)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    found = json.loads(done.stdout)
    return found["profile"], Run(found["run"])


def _calibration(run: Run) -> dict[str, Any]:
    """What the temperature did on the test images."""
    found = run.calibration or {}
    test = found["splits"]["test"]
    before = test["without_temperature"]
    return {
        "temperature": found["temperature"],
        "fitted_on": found["fitted_on"],
        "count": test["count"],
        "accuracy": test["accuracy"],
        "ece": test["ece"],
        "expected_ece": test["expected"],
        "loss": test["loss"],
        "without_temperature": {"ece": before["ece"], "loss": before["loss"]},
    }


def _drawing_seconds(run: Run) -> dict[str, float]:
    """Median seconds of the figures and the sections of the page on trust."""
    figure_bytes(plot_history(run), "png")  # the first figure of a process loads matplotlib and its fonts
    found = run.predictions(run.judged_by)
    ways: dict[str, Callable[[], object]] = {
        "figures": lambda: [write_figure(run, name, run.path) for name in ("calibration", "coverage")],
        "sections": lambda: (trust_sections(run), neighbour_blocks(run, found)),
    }
    return {name: statistics.median(_seconds(way) for _ in range(_REPEATS)) for name, way in ways.items()}


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
