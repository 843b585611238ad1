"""Patient: who is watched while it trains, and what is said at the end."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from fovea.diagnosis.record import Record
from fovea.display import terminal_width
from fovea.evaluation.findings import Finding

_MOST_COLUMNS = 100
_LONGEST_NOTE = 200  # characters
Method = TypeVar("Method", bound=Callable[..., Any])


class Patient:
    """A training that is watched from outside.

    Attributes:
        record: what was seen; None before the training has ended.
        findings: what is suspected, the most important first.
        unseen: what could not be seen, and what failed while it was looked at, in words.
    """

    def __init__(self, verbose: bool = True) -> None:
        self.verbose = verbose
        self.record: Record | None = None
        self.findings: list[Finding] = []
        self.unseen: list[str] = []

    def conclude(self, make_record: Callable[[], Record]) -> None:
        """Finish with the record; if making or judging it fails, that is said, and the training is as it was."""
        from fovea.diagnosis.examine import failure_words

        try:
            self.finish(make_record())
        except Exception as error:  # whatever it is: a training of hours must not end in it
            said = f"fovea could not judge this training ({failure_words(error)}); the training itself is untouched."
            self.unseen.append(said)
            with contextlib.suppress(OSError, ValueError):  # a closed stream
                if self.verbose and sys.stderr is not None:
                    print(said, file=sys.stderr)

    def finish(self, record: Record) -> None:
        """Examine the record, keep the findings and print them."""
        from fovea.diagnosis.examine import examination  # the rules are not needed to watch
        from fovea.diagnosis.telling import Diagnosis, diagnosis_lines

        self.record = record
        examined = examination(record)
        self.findings = list(examined.findings)
        if self.verbose and sys.stderr is not None:  # a program without a console has none
            width = min(terminal_width(sys.stderr), _MOST_COLUMNS)
            print(diagnosis_lines(Diagnosis(record, examined.findings, examined.unjudged), width), file=sys.stderr)


def safely(method: Method) -> Method:
    """A method that never breaks the training it watches: what fails is noted in `unseen` and left out."""

    @functools.wraps(method)
    def guarded(self: Patient, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except Exception as error:
            note = f"{method.__name__.strip('_').replace('_', ' ')}: {type(error).__name__}: {error}"[:_LONGEST_NOTE]
            if note not in self.unseen:
                self.unseen.append(note)
            return None

    return guarded  # type: ignore[return-value]
