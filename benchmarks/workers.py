"""Workers as the driver holds them: a process each, frozen while others are measured."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import Peers
from workloads import Job

HERE = Path(__file__).resolve().parent
READY_SECONDS, ANSWER_SECONDS = 300.0, 120.0
FREEZE, THAW = getattr(signal, "SIGSTOP", None), getattr(signal, "SIGCONT", None)


class NotMeasuredError(Exception):
    """A contender that could not be measured; the text says why."""


class Worker:
    """A contender's process.

    Between its turns it is stopped by a signal: threads that wait by spinning, and those that prepare batches ahead,
    would take time from whoever is measured.

    Args:
        python: the interpreter to run the worker with.

    Raises:
        NotMeasuredError: when it ends, or does not get through its first steps in time.
    """

    def __init__(self, job: Job, python: Path) -> None:
        self.job = job
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            [str(python), str(HERE / job.contender.script), json.dumps(job.spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        try:
            self.ready = self._answer(READY_SECONDS)
        except NotMeasuredError:
            self.close()
            raise
        self._send(FREEZE)

    def ask(self, steps: int, lead_in: int) -> dict[str, Any]:
        """Run `lead_in` steps untimed and `steps` timed: {"seconds", "peak_memory_mb"}.

        Raises:
            NotMeasuredError: when the process ends or does not answer in time.
        """
        assert self.process.stdin is not None
        self._send(THAW)
        try:
            self.process.stdin.write(json.dumps({"steps": steps, "lead_in": lead_in}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise NotMeasuredError(self._reason()) from None
        answer = self._answer(ANSWER_SECONDS)
        self._send(FREEZE)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()

    def _send(self, number: signal.Signals | None) -> None:
        if number is not None:
            os.kill(self.process.pid, number)

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise NotMeasuredError(f"no answer in {seconds:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise NotMeasuredError(self._reason())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _reason(self) -> str:
        status = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return (lines or [f"ended with status {status}"])[-1][:200]


def starter(peers: Peers) -> Callable[[Job], Worker]:
    """A function that starts the worker of a job in the environment that it needs."""

    def start(job: Job) -> Worker:
        if not job.contender.peer:
            return Worker(job, Path(sys.executable))
        if peers.python is None:
            raise NotMeasuredError(peers.reason)
        return Worker(job, peers.python)

    return start
