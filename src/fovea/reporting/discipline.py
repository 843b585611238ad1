"""What a report says of its test set: what it cannot show, who has looked at it, what may have been chosen by it."""

from __future__ import annotations

import json
from typing import Any

from fovea.evaluation.ledger import Looks, read_looks, selection_warning
from fovea.evaluation.stored import StoredRun
from fovea.reporting.blocks import Block, Details, Paragraph, Table
from fovea.reporting.style import shortened
from fovea.runfolder import COMPARISON, SEEDS
from fovea.studies.seeds import study_plan

_MOST_LOOKS, _MOST_CHANGES = 100, 8
_HOW = (
    "A paired test tells two nets apart by the images that one alone answers rightly. How many those are is assumed "
    "here: as many as this net gets wrong."
)


def discipline_alerts(run: StoredRun) -> list[Paragraph]:
    """Warnings about a figure that may have been picked: by looking at the test set, or as the best of some seeds."""
    found = [selection_warning(run)]
    parent = run.path.resolve().parent
    if (parent / SEEDS).is_file():
        seeds, _ = study_plan(parent)
        found.append(
            f"One of the {len(seeds)} seeds of the study {shortened(parent.name, 40)}: the figure to report is their "
            "mean, not that of one."
        )
    elif (parent / COMPARISON).is_file():
        found.append(
            f"One of the trainings of {shortened(parent.name, 60)}: the figures to report are the means of its recipes."
        )
    return [Paragraph(text, "warning") for text in found if text is not None]


def discipline_blocks(run: StoredRun) -> list[Block]:
    """What the test set can show, and the ledger of those who looked at it."""
    limits = run.test_limits
    if limits is None:
        return [Paragraph("The test stayed closed: no figure of it was seen.")]
    return [Paragraph(f"{limits.words}."), Paragraph(_HOW, "note"), *ledger_blocks(read_looks(run))]


def ledger_blocks(looks: Looks) -> list[Block]:
    """Which run looked when, and what had been changed since the look before."""
    if not len(looks):
        return []
    rows = []
    for number in range(max(len(looks) - _MOST_LOOKS, 0), len(looks)):
        look, changes = looks.entries[number], looks.changes(number)
        rows.append([look.time, shortened(look.run, 60), look.purpose, _changes(changes, number)])
    table = Table(
        "Looks, the latest last", ["time", "run", "purpose", "changed since the look before"], rows, figures=False
    )
    words = looks.words
    return [Paragraph(f"{words[0].upper()}{words[1:]} (test_ledger.jsonl)."), Details("Every look", [table])]


def _changes(changes: list[tuple[str, Any, Any]] | None, number: int) -> str:
    if changes is None:
        return "the first look" if number == 0 else "not known"
    if not changes:
        return "nothing"
    shown = [f"{name} {_value(before)} → {_value(now)}" for name, before, now in changes[:_MOST_CHANGES]]
    more = len(changes) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _value(value: Any) -> str:
    return "default" if value is None else shortened(value if isinstance(value, str) else json.dumps(value), 40)
