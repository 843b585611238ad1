"""A record is examined: every rule reads it; what explains other findings comes first and silences them."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.diagnosis.rules import RULES
from fovea.evaluation.findings import Finding, Severity

_GRAVITY: dict[Severity, int] = {"severe": 0, "warning": 1, "note": 2}
_STAGES = ("program", "data", "settings", "batch", "evaluation", "curve")


def suspicions(record: Record) -> list[tuple[Rule, Suspicion]]:
    """What the rules suspect, the most important first; consequences of a suspected cause are left out."""
    found = [(rule, suspicion) for rule in RULES.values() if (suspicion := rule.check(record)) is not None]
    explained = {consequence for rule, _ in found for consequence in rule.explains}
    return sorted((pair for pair in found if pair[0].id not in explained), key=_order)


def examine(record: Record) -> list[Finding]:
    """The findings of a record, unverified, the most important first."""
    return [as_finding(rule, suspicion) for rule, suspicion in suspicions(record)]


def as_finding(rule: Rule, suspicion: Suspicion) -> Finding:
    """A suspicion in the form that is shown and stored."""
    severity = suspicion.severity or rule.severity
    words = (suspicion.cause, suspicion.cure)
    return Finding(rule.id, severity, suspicion.evidence, *words, line=suspicion.line, remedy=suspicion.remedy)


def most_important(findings: Sequence[Finding], limit: int = 5) -> list[Finding]:
    """The first few, without those that a trial has withdrawn; severe ones are never cut off."""
    kept = [finding for finding in findings if finding.status != "withdrawn"]
    return [finding for place, finding in enumerate(kept) if place < limit or finding.severity == "severe"]


def _order(pair: tuple[Rule, Suspicion]) -> tuple[int, float, int]:
    rule, suspicion = pair
    return _GRAVITY[suspicion.severity or rule.severity], -suspicion.weight, _STAGES.index(rule.stage)
