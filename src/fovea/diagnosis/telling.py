"""A diagnosis in plain words: what was seen, what it means, what to change, what that gives."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.diagnosis.examine import most_important
from fovea.diagnosis.record import Record, known_facts
from fovea.evaluation.findings import Finding

_PARTS = {
    "net": "the net",
    "training": "its settings",
    "batch": "single batches",
    "curves": "learning curves",
    "evaluation": "final figures",
}
_OFTEN_UNKNOWN = 3  # things unseen that are named before the rest is counted


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor found.

    Attributes:
        record: all that was known.
        findings: the most important first; those that a trial has withdrawn are among them, marked so.
        notes: what was tried, in words.
    """

    record: Record
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_severe(self) -> bool:
        """Whether something severe is suspected or confirmed: exit code 3."""
        return any(finding.severity == "severe" and finding.status != "withdrawn" for finding in self.findings)

    @property
    def checked(self) -> list[str]:
        """What could be looked at, in words."""
        return checked(self.record)

    def as_json(self) -> dict[str, Any]:
        """Plain values: what `fovea doctor --json` prints."""
        return {
            "patient": self.record.name,
            "kind": self.record.origin,
            "findings": [finding.as_json() for finding in self.findings if finding.status != "withdrawn"],
            "withdrawn": [finding.as_json() for finding in self.findings if finding.status == "withdrawn"],
            "checked": self.checked,
            "unseen": list(self.record.unseen),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return diagnosis_lines(self)


def checked(record: Record) -> list[str]:
    """What a record knows something of, in words."""
    splits = [name for name, facts in record.splits.items() if known_facts(facts)]
    names = {"train": "training", "val": "validation", "test": "test"}
    images = " and ".join(filter(None, [", ".join(names[n] for n in splits[:-1]), *(names[n] for n in splits[-1:])]))
    found = [f"{images} images"] if images else []
    parts = {part: known_facts(getattr(record, part)) for part in _PARTS}
    return found + [words for part, words in _PARTS.items() if parts[part].keys() - {"is_complete"}]


def diagnosis_lines(diagnosis: Diagnosis, width: int = 80) -> str:
    """The diagnosis as text of at most `width` columns."""
    record, shown = diagnosis.record, most_important(diagnosis.findings)
    looked = ", ".join(diagnosis.checked) or "nothing: no fact could be read"
    lines = []
    if not shown:
        lines += textwrap.wrap(f"{record.name}: nothing wrong found. Looked at {looked}.", max(width - 1, 40))
    else:
        lines += textwrap.wrap(f"{record.name}: {_count(shown)}. Looked at {looked}.", max(width - 1, 40))
    for number, finding in enumerate(shown, 1):
        lines += ["", *_finding_lines(number, finding, max(width - 1, 40), record)]
    more = len([finding for finding in diagnosis.findings if finding.status != "withdrawn"]) - len(shown)
    notes = [f"{more} lesser {'finding is' if more == 1 else 'findings are'} left out here; --json has all."] * (
        more > 0
    )
    notes += [_withdrawn(finding) for finding in diagnosis.findings if finding.status == "withdrawn"]
    notes += [*diagnosis.notes, *_unseen(record.unseen)]
    if notes:
        lines.append("")
    for note in notes:
        lines += textwrap.wrap(note, max(width - 1, 40), subsequent_indent="  ")
    return "\n".join(lines)


def _count(shown: Sequence[Finding]) -> str:
    severe = sum(finding.severity == "severe" for finding in shown)
    words = f"{len(shown)} finding{'' if len(shown) == 1 else 's'}"
    return f"{words}, {severe} severe" if severe else words


def _finding_lines(number: int, finding: Finding, width: int, record: Record) -> list[str]:
    line = "" if finding.line is None else f", {record.place_of(finding.line)}"
    lines = [f"{number}. {finding.id}: {finding.severity}, {finding.status}{line}"]
    for name, text in finding_parts(finding):
        lines += textwrap.wrap(text, width, initial_indent=f"   {name:<12}", subsequent_indent=" " * 15)
    return lines


def finding_parts(finding: Finding) -> list[tuple[str, str]]:
    """What was seen, what to change, and, where there is such, the settings of it and what a trial has measured."""
    parts = [("seen", finding.cause), ("change", finding.cure)]
    if finding.remedy:
        words = " ".join(f"--set {name}={_plain(value)}" for name, value in finding.remedy.items())
        parts.append(("as settings", words))
    if finding.trial:
        parts.append(("measured", trial_words(finding.trial)))
    return parts


def finding_line(finding: Finding) -> str:
    """A finding in one line: how grave it is, whether a trial has confirmed it, what was seen, what to change."""
    status = f", {finding.status}" if finding.trial else ""
    measured = f" Measured: {trial_words(finding.trial)}." if finding.trial else ""
    return f"{finding.severity}{status}: {finding.cause} {finding.cure}{measured}"


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def trial_words(trial: Mapping[str, Any]) -> str:
    """What an experiment measured, in one sentence."""
    if "problem" in trial:
        return f"no trial: {trial['problem']}"
    if "before" not in trial or "after" not in trial:
        return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in trial.items())
    difference, seeds = trial.get("difference"), trial.get("seeds")
    words = f"accuracy {trial['before']:.1%} as it is, {trial['after']:.1%} with the change"
    if isinstance(difference, Mapping) and difference.get("low") is not None:
        words += f": {_points(difference['value'])} points [{_points(difference['low'])}, "
        words += f"{_points(difference['high'])}]"
    words += f", {seeds} seeds" if seeds else ""
    return words + (f", {trial['size']}" if trial.get("size") else "")


def _points(share: float) -> str:
    return f"{share * 100:+.1f}"


def _withdrawn(finding: Finding) -> str:
    measured = f": {trial_words(finding.trial)}" if finding.trial else ""
    return f"Suspected and withdrawn after a trial: {finding.id}{measured}."


def _unseen(unseen: Sequence[str]) -> list[str]:
    more = len(unseen) - _OFTEN_UNKNOWN
    return [*(f"Not seen: {what}" for what in unseen[:_OFTEN_UNKNOWN]), *([f"... and {more} more"] if more > 0 else [])]
