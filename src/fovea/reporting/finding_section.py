"""What is wrong with a run, on its page: each finding with its status, what to change and what a trial has measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fovea.diagnosis.telling import finding_parts, trial_words
from fovea.evaluation.findings import Finding, finding_from_json
from fovea.evaluation.stored import StoredRun
from fovea.reporting.blocks import Block, Card, Details, Paragraph, Section, Table
from fovea.reporting.datapage import evidence_rows


def finding_alerts(run: StoredRun) -> list[Paragraph]:
    """The warnings and what is severe, in a sentence or two each, for the top of the page."""
    findings = [finding_from_json(found) for found in run.findings]
    return [Paragraph(_alert(finding), finding.severity) for finding in findings if finding.severity != "note"]


def _alert(finding: Finding) -> str:
    text = f"{finding.cause} {finding.cure}"
    if finding.status == "confirmed" and finding.trial:
        text += f" Confirmed by a trial: {trial_words(finding.trial)}."
    return text


def finding_sections(run: StoredRun) -> list[Section]:
    """The section of the findings; it stands there without any too, and says what was looked at."""
    findings, diagnosis = [finding_from_json(found) for found in run.findings], run.diagnosis
    blocks: list[Block] = [Paragraph(_looked(run, diagnosis, len(findings)))]
    blocks += [_card(finding) for finding in findings]
    if diagnosis is not None:
        blocks += _withdrawn(diagnosis) + _unseen(diagnosis)
    return [Section("findings", "What was found", blocks)]


def _looked(run: StoredRun, diagnosis: Mapping[str, Any] | None, count: int) -> str:
    command = f"fovea doctor {run.path}"
    if diagnosis is not None:
        looked = ", ".join(diagnosis.get("checked", ())) or "nothing"
        return f"The doctor looked at {looked}." + ("" if count else " It found nothing wrong.")
    if not count:
        return f"Settings, curves and figures were looked at: nothing is suspected. “{command}” looks closer."
    return f"Suspected at the end of the training, not tried: “{command}” tries what a change of settings would mend."


def _card(finding: Finding) -> Card:
    rows = evidence_rows(finding)
    table = Table("The numbers behind it", ["what", "value"], rows, figures=False)
    inside = [Details("The numbers behind it", [table])] if rows else []
    return Card(finding.id, f"{finding.severity}, {finding.status}", finding.severity, finding_parts(finding), inside)


def _withdrawn(diagnosis: Mapping[str, Any]) -> list[Block]:
    found = [finding_from_json(values) for values in diagnosis.get("withdrawn", ())]
    if not found:
        return []
    word = "suspicion" if len(found) == 1 else "suspicions"
    texts = [f"{each.id}: {each.cause} In the trial: {trial_words(each.trial or {})}." for each in found]
    return [Details(f"{len(found)} {word} withdrawn after a trial", [Paragraph(text, "note") for text in texts])]


def _unseen(diagnosis: Mapping[str, Any]) -> list[Block]:
    said = [*diagnosis.get("notes", ()), *(f"Not seen: {what}." for what in diagnosis.get("unseen", ()))]
    return [Details("What could not be looked at", [Paragraph(text, "note") for text in said])] if said else []
