"""A record is examined: every rule reads it; what explains other findings comes first and silences them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.diagnosis.rules import RULES
from fovea.evaluation.findings import Finding, Severity, finding_from_json

_GRAVITY: dict[Severity, int] = {"severe": 0, "warning": 1, "note": 2}
_STAGES = ("program", "data", "settings", "batch", "evaluation", "curve")
# Checks of data and predictions that a run keeps; what rules said of it when it ended, they say again.
_OTHER_CHECKS = ("constant-predictor", "no-better-than-constant", "class-missing")
# What others than the rules here found about the same matter, and the rule that says it.
_SAID_BY_RULE = {
    "shared-images": "leakage-duplicates",
    "class-imbalance": "imbalance",
    "constant-images": "blank-images",
    "sorted-data": "data-sorted",
}


@dataclass(frozen=True)
class Examination:
    """What the rules say of a record.

    Attributes:
        findings: unverified, the most important first.
        unjudged: a sentence for each rule that failed by a fault of its own; the others were judged.
    """

    findings: tuple[Finding, ...]
    unjudged: tuple[str, ...] = ()


def suspicions(record: Record) -> list[tuple[Rule, Suspicion]]:
    """What the rules suspect, the most important first; consequences of a suspected cause are left out."""
    return _unexplained(_checked(record)[0])


def examine(record: Record) -> list[Finding]:
    """The findings of a record, unverified, the most important first; those of earlier checks are among them."""
    return list(examination(record).findings)


def examination(record: Record) -> Examination:
    """The findings of a record, and which rules could not be judged: one that fails silences no other."""
    found, unjudged = _checked(record)
    found = _unexplained(found)
    findings = [as_finding(rule, suspicion) for rule, suspicion in found]
    told = {finding.id for finding in findings} | _explained(found)
    for values in record.data_findings:
        name = str(values.get("id"))
        if name in RULES and name not in _OTHER_CHECKS:
            continue
        if name not in told and _SAID_BY_RULE.get(name, name) not in told:
            findings.append(finding_from_json(values))
    return Examination(tuple(sorted(findings, key=lambda finding: _GRAVITY[finding.severity])), tuple(unjudged))


def failure_words(error: Exception) -> str:
    """An error on one line: its kind, and what it says as far as there is room."""
    said = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _checked(record: Record) -> tuple[list[tuple[Rule, Suspicion]], list[str]]:
    """What the rules suspect, in their order, and a sentence for each that failed."""
    found, unjudged = [], []
    for rule in RULES.values():
        try:
            suspicion = rule.check(record)
        except Exception as error:  # a fault of the rule, whatever it is: the training and the other rules stand
            unjudged.append(f"The rule {rule.id} could not be judged ({failure_words(error)}); the others were.")
            continue
        if suspicion is not None:
            found.append((rule, suspicion))
    return found, unjudged


def _unexplained(found: Sequence[tuple[Rule, Suspicion]]) -> list[tuple[Rule, Suspicion]]:
    explained = _explained(found)
    return sorted((pair for pair in found if pair[0].id not in explained), key=_order)


def as_finding(rule: Rule, suspicion: Suspicion) -> Finding:
    """A suspicion in the form that is shown and stored."""
    severity = suspicion.severity or rule.severity
    words = (suspicion.cause, suspicion.cure)
    return Finding(rule.id, severity, suspicion.evidence, *words, line=suspicion.line, remedy=suspicion.remedy)


def most_important(findings: Sequence[Finding], limit: int = 5) -> list[Finding]:
    """The first few, without those that a trial has withdrawn; severe ones are never cut off."""
    kept = [finding for finding in findings if finding.status != "withdrawn"]
    return [finding for place, finding in enumerate(kept) if place < limit or finding.severity == "severe"]


def _explained(found: Sequence[tuple[Rule, Suspicion]]) -> set[str]:
    """The consequences of what is suspected; a note explains nothing, and of two that explain each other the first."""
    explained: set[str] = set()
    for rule, suspicion in sorted(found, key=_order):
        if (suspicion.severity or rule.severity) != "note" and rule.id not in explained:
            explained |= set(rule.explains)
    return explained


def _order(pair: tuple[Rule, Suspicion]) -> tuple[int, float, int]:
    rule, suspicion = pair
    return _GRAVITY[suspicion.severity or rule.severity], -suspicion.weight, _STAGES.index(rule.stage)
