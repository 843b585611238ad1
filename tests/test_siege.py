"""A short siege: some of each kind of kill, stop and damage, in the processes that a user would have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "siege.py"


@pytest.mark.slow
def test_no_run_is_lost_and_no_byte_differs_in_a_short_siege() -> None:
    if not SCRIPT.exists():
        pytest.skip("benchmarks/ is not here: this is no clone")
    done = subprocess.run([sys.executable, str(SCRIPT), "--short"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 failed") == 12
