"""What `fovea data` shows: as text and as one JSON object."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from fovea.data.audit import DataFacts, PartFacts
from fovea.data.near import NearDuplicates, near_as_json
from fovea.evaluation.findings import Finding, as_finding
from fovea.reporting.style import shortened

_MAX_CLASSES = 30
_NAME_WIDTH = 24


def data_findings(facts: DataFacts) -> list[Finding]:
    """The problems of data as findings, the worst first."""
    return [as_finding(problem) for problem in facts.problems]


def has_severe(facts: DataFacts) -> bool:
    """Whether something was found for which `fovea data` exits with 3."""
    return any(problem.severity == "severe" for problem in facts.problems)


def data_as_json(facts: DataFacts, picture: Path | None, page: Path | None = None) -> dict[str, Any]:
    """The facts as plain values."""
    return {
        "name": facts.name,
        "form": facts.form,
        "place": facts.place,
        "published": facts.known,
        "classes": list(facts.classes),
        "parts": {part: found.as_json() for part, found in facts.parts.items()},
        "samples": None if picture is None else str(picture),
        "page": None if page is None else str(page),
        "notes": facts.notes,
        "near_duplicates": None if facts.near is None else near_as_json(facts.sets, facts.near),
        "findings": [finding.as_json() for finding in data_findings(facts)],
    }


def data_lines(facts: DataFacts, picture: Path | None, width: int, page: Path | None = None) -> str:
    """The facts for stdout: where, what form, each part, the classes, what is wrong, the paths of page and picture."""
    lines = [f"{facts.name}: {facts.form}" + (f", {facts.place}" if facts.place else "")]
    if facts.known is not None:
        lines.append("content   " + ("the published one" if facts.known else "not the published one"))
    for part, found in facts.parts.items():
        lines.append(f"{part:<9} {part_line(found)}")
    lines += _class_lines(facts)
    unreadable = {problem.evidence.get("files") for problem in facts.problems}
    lines += [f"note: {note}" for note in facts.notes if note not in unreadable]
    lines += [f"{finding.severity} [{finding.id}]: {finding.cause} {finding.cure}" for finding in data_findings(facts)]
    if facts.near is not None and not facts.problems:
        lines.append(f"nothing wrong was found; {searched(facts.near)}")
    elif facts.near is not None:
        lines.append(searched(facts.near))
    parts = [part for line in lines for part in line.splitlines()]  # a list of bad files has a line for each
    wrapped = [row for part in parts for row in textwrap.wrap(part, max(width - 1, 40), subsequent_indent="  ")]
    return "\n".join([*wrapped, *(str(path) for path in (page, picture) if path)])


def searched(near: NearDuplicates) -> str:
    """How near-duplicates were looked for."""
    if not near.looked_up:
        return "near-duplicates were not looked for: the images are too small to tell"
    which = f"{near.looked_up:,} of {near.of:,} images" if near.looked_up < near.of else f"all {near.of:,} images"
    limit = f"from a similarity of {near.threshold:.3f} on"
    if near.by_compression:
        limit += ", if their images are about as alike as each is to itself compressed"
    return f"near-duplicates were looked for among {which}; pairs count {limit}"


def part_line(found: PartFacts) -> str:
    """How many images of what size, colour and values."""
    height, width, channels = found.shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{found.count:,} images, {height}x{width} {colour}, {found.dtype}, values {found.low:g} to {found.high:g}"


def _class_lines(facts: DataFacts) -> list[str]:
    counted = {part: found.class_counts for part, found in facts.parts.items() if found.class_counts}
    if not counted:
        return ["labels    none: this data can be predicted, not trained on or tested with"]
    first = next(iter(counted.values()))
    name_width = max(len("class"), *(min(len(name), _NAME_WIDTH) for name in first))
    lines = [f"{len(facts.classes)} classes"]
    rows = [["class", *counted]]
    shown = list(facts.classes)[:_MAX_CLASSES]
    rows += [[shortened(name, _NAME_WIDTH), *(f"{counts[name]:,}" for counts in counted.values())] for name in shown]
    for name, *cells in rows:
        lines.append(f"  {name:<{name_width}}" + "".join(f"  {cell:>8}" for cell in cells))
    if len(facts.classes) > len(shown):
        rest = [sum(list(counts.values())[len(shown) :]) for counts in counted.values()]
        more = f"{len(facts.classes) - len(shown)} more"
        lines.append(f"  {more:<{name_width}}" + "".join(f"  {count:>8,}" for count in rest))
    return lines
