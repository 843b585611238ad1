"""The shell face: parse, call the API, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

# Each adds its commands to the app, in the order in which `fovea --help` lists them.
from fovea import cli_train  # noqa: F401  isort: skip
from fovea import cli_judge  # noqa: F401  isort: skip
from fovea import cli_use  # noqa: F401  isort: skip
from fovea.cli_base import app

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of the command `fovea`."""
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _terminated)
    app()


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
