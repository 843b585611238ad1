"""Patient: who is watched while it trains, and what is said at the end."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from fovea.diagnosis.record import Record
from fovea.evaluation.findings import Finding

_WIDTH = 98


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

        self.record = record
        self.findings = examine(record)
        if self.verbose:
            print(told(record, self.findings), file=sys.stderr)


def told(record: Record, findings: Sequence[Finding], width: int = _WIDTH) -> str:
    """Findings in plain words, a paragraph each; one line where there are none."""
    from fovea.diagnosis.examine import most_important

    lines = [f"fovea doctor: {record.name}"]
    shown = most_important(findings)
    if not shown:
        lines.append(f"  nothing wrong found; looked at {', '.join(seen(record))}")
    for finding in shown:
        head = f"  {finding.severity} ({finding.status}) {finding.id}: "
        text = f"{finding.cause} {finding.cure}"
        lines += textwrap.wrap(text, width, initial_indent=head, subsequent_indent="    ")
    if record.unseen:
        lines += textwrap.wrap(f"not seen: {'; '.join(record.unseen)}", width, initial_indent="  ")
    return "\n".join(lines)


def seen(record: Record) -> list[str]:
    """What a record knows something of, in words."""
    known = [f"{name} images" for name in record.splits]
    known += ["the net"] if record.net.layers else []
    known += ["the settings"] if record.training.optimizer is not None else []
    known += ["single batches"] if record.batch.first or record.batch.initial_loss is not None else []
    return [*known, *(["the curves"] if record.curves.running_loss or record.curves.val_loss else [])]
