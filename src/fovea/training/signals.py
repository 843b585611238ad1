"""Signals during training: the first asks to stop after the batch, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# SIGUSR1 is what Slurm sends ahead of a job's end (--signal=USR1@60), SIGHUP what a closed terminal sends.
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


@dataclass
class StopRequest:
    """Whether a signal asked for a stop: its number, None while there was none."""

    number: int | None = None

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name if self.number else ""


class StoppedBySignal(BaseException):
    """The state was saved because a signal asked for it; training ends here."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the context a first signal only sets the request.

    On the way out the handlers that were there before are put back. Where a signal came they get it then, so that the
    process ends as its caller meant it to: by KeyboardInterrupt, or with status 128 + number. Ignored signals stay
    ignored; outside of the main thread nothing is caught.
    """
    request = StopRequest()
    before: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: object) -> None:
        request.number = number
        put_back()  # a second signal meets the handlers of before, at once

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
        # None is a handler that was not set from Python: it could not be put back.
        before.update({n: h for n in numbers if (h := signal.getsignal(n)) not in (signal.SIG_IGN, None)})
        for number in before:
            signal.signal(number, handle)
    try:
        with contextlib.suppress(StoppedBySignal):
            yield request
    finally:
        put_back()
    if request.number is not None:
        signal.raise_signal(request.number)
        raise SystemExit(128 + request.number)
