"""Labels that are probably wrong: as lines, as plain values, as a CSV to mark them in, as a page with pictures."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fovea.data.label_fixes import COLUMNS
from fovea.files import csv_table, write_text
from fovea.reporting.blocks import Block, Code, Paragraph, Picture, Pictures, Report, Section
from fovea.reporting.page import render
from fovea.reporting.pictures import picture_source
from fovea.reporting.style import shortened
from fovea.runfolder import check_target
from fovea.studies.label_errors import WORDS, LabelErrors, as_rows

_MOST_PICTURES = 200
_MOST_LINES = 10
Judgement = tuple[LabelErrors, tuple[Path, Path] | None]  # what was found; the CSV and the page


def write_label_errors(found: LabelErrors, folder: Path, name: str) -> tuple[Path, Path]:
    """Write labels-<name>.csv and labels-<name>.html; a taken name gets -2: someone may have marked rows there.

    Raises:
        SettingsError: when they cannot be written there.
    """
    name = name if found.judged == "train" else f"{name}-{found.judged}"
    stem = next(stem for stem in _stems(folder / f"labels-{name}") if not _is_taken(stem))
    table, page = (check_target(stem.with_name(stem.name + suffix)) for suffix in (".csv", ".html"))
    rows = [[_cell(row[column]) for column in COLUMNS] for row in as_rows(found)]
    write_text(table, csv_table(list(COLUMNS), rows))
    write_text(page, render(_report(found, name, table)))
    return folder / table.name, folder / page.name


def _stems(first: Path) -> itertools.chain[Path]:
    return itertools.chain([first], (first.with_name(f"{first.name}-{number}") for number in itertools.count(2)))


def _is_taken(stem: Path) -> bool:
    return any(stem.with_name(stem.name + suffix).exists() for suffix in (".csv", ".html"))


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def with_labels(facts: dict[str, Any], judged: Sequence[Judgement]) -> dict[str, Any]:
    """The JSON of `fovea data` with what was found in labels: "label_errors", and a finding of that id each."""
    if not judged:
        return facts
    findings = [finding.as_json() for found, _ in judged if (finding := found.finding()) is not None]
    lists = {found.judged: _as_json(found, files) for found, files in judged}
    return {**facts, "findings": [*facts["findings"], *findings], "label_errors": lists}


def _as_json(found: LabelErrors, files: tuple[Path, Path] | None) -> dict[str, Any]:
    return {
        "judged": found.agreement.count,
        "agreement": found.agreement.as_json(),
        "estimated": found.suspects.estimated_errors,
        "list": as_rows(found),
        "csv": None if files is None else str(files[0]),
        "page": None if files is None else str(files[1]),
    }


def label_lines(judged: Sequence[Judgement], width: int) -> list[str]:
    """The same for stdout: what was judged, the first of the list, where all of it is."""
    return [line for found, files in judged for line in _lines(found, files, max(width - 1, 40))]


def _lines(found: LabelErrors, files: tuple[Path, Path] | None, width: int) -> list[str]:
    finding = found.finding()
    words = ["none is suspect"] if finding is None else [str(finding)]
    texts = [f"labels    {_judged_words(found)}", *words]
    lines = [row for text in texts for row in textwrap.wrap(text, width, subsequent_indent="  ")]
    rows = as_rows(found)[:_MOST_LINES]
    cells = [[shortened(row[column], 20) for column in ("id", "given", "suggested")] for row in rows]
    head = ["image", "label", "suggested"]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    shares = [["of label", "of other"], *([f"{row['p_given']:.1%}", f"{row['p_suggested']:.1%}"] for row in rows)]
    for texts_of_row, numbers in zip([head, *cells] if rows else [], shares, strict=False):
        padded = [f"{text:<{size}}" for text, size in zip(texts_of_row, widths, strict=True)]
        lines.append("  " + "  ".join([*padded, *(f"{number:>8}" for number in numbers)]).rstrip())
    more = len(found) - _MOST_LINES
    return [*lines, *([f"  and {more:,} more"] if more > 0 else []), *map(str, files or ())]


def _judged_words(found: LabelErrors) -> str:
    how = (
        f"out of fold, by {found.num_trainings} trainings of a quick net"
        if found.judged == "train"
        else "by a quick net trained on the training images; choose nothing by it"
    )
    count, share = found.agreement.count, found.agreement.value
    return f"{count:,} {WORDS[found.judged]} labels judged {how}, which agrees with {share:.2%}"


def _report(found: LabelErrors, name: str, table: Path) -> Report:
    finding = found.finding()
    command = f"fovea train DATA --set label_fixes={table.name}"
    text = (
        "Below each image its label → the class suggested, then the probability of both and its name in the data. "
        "Write fix or exclude into the column action of the CSV (another class into suggested, where neither is right)."
    )
    pictures = [
        Picture(
            picture_source(image),
            f"{row['id']}: labelled {row['given']}, suggested {row['suggested']}",
            [
                f"{shortened(row['given'], 14)} → {shortened(row['suggested'], 14)}",
                f"{row['p_given']:.0%}, {row['p_suggested']:.0%}",
                shortened(row["id"], 30),
            ],
        )
        for image, row in zip(found.images[:_MOST_PICTURES], as_rows(found), strict=False)
    ]
    caption = f"The first {len(pictures):,} of {len(found):,}, the least probable label first"
    blocks: list[Block] = [
        Paragraph(text),
        Code(command, "Train with the marked rows"),
        Pictures("tiles", pictures, caption),
    ]
    many = f"{found.num_trainings}, each without the images that it answers"
    trained = many if found.judged == "train" else "1, on the training images"
    return Report(
        title=f"labels of {name}",
        headline=f"{len(found):,} labels",
        interval=f"of {found.agreement.count:,}",
        sentence="No label is suspect." if finding is None else f"{finding.cause} {finding.cure}",
        facts=[
            ("wrong labels, estimated", f"{found.suspects.estimated_errors:,}"),
            ("the nets agree with", str(found.agreement)),
            ("nets trained", trained),
        ],
        alerts=[],
        sections=[Section("labels", "Labels that are probably wrong", blocks)],
        footer="Made by Fovea. This page needs no network and no other file.",
    )
