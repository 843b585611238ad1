"""Patient: who is watched while it trains, and what is said at the end."""

from __future__ import annotations

import shutil
import sys

from fovea.diagnosis.record import Record
from fovea.evaluation.findings import Finding


class Patient:
    """A training that is watched from outside.

    Attributes:
        record: what was seen; None before the training has ended.
        findings: what is suspected, the most important first.
    """

    def __init__(self, verbose: bool = True) -> None:
        self.verbose = verbose
        self.record: Record | None = None
        self.findings: list[Finding] = []

    def finish(self, record: Record) -> None:
        """Examine the record, keep the findings and print them."""
        from fovea.diagnosis.examine import examine  # the rules are not needed to watch
        from fovea.diagnosis.telling import Diagnosis, diagnosis_lines

        self.record = record
        self.findings = examine(record)
        if self.verbose:
            width = min(shutil.get_terminal_size().columns, 100)
            print(diagnosis_lines(Diagnosis(record, tuple(self.findings)), width), file=sys.stderr)
