"""What `fovea reproduce` prints: each published figure beside the measured one, then the answer in words."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from fovea.evaluation.intervals import PredictionInterval
from fovea.reporting.sections import duration
from fovea.studies.published import Figure
from fovea.studies.reproduce import Comparison, Reproduction

_MOST = 100  # columns: longer lines are hard to read
_GAP = 2


def reproduction_lines(found: Reproduction, width: int) -> str:
    """The whole text.

    Args:
        width: of the terminal, in columns; below about 80 the table is stacked.
    """
    width = max(40, min(width, _MOST))
    record = found.program.record
    seconds = sum(one.train_seconds for one in found.each_seed) / len(found.each_seed)
    head = (
        f"{record.program}, {found.program.name}: {_count(len(found.seeds), 'seed')}, {_count(found.epochs, 'epoch')}, "
        f"{found.parameters:,} parameters, {duration(seconds)} of training a seed"
    )
    blocks = [_wrapped(head, width)]
    if found.mark:
        blocks.append(_wrapped(f"The test images are the validation images: {found.mark}.", width))
    if found.changed:
        blocks.append(_wrapped(f"Not as published: {', '.join(found.changed)}.", width))
    shown = [one for one in found.comparisons if one.measured is not None]
    blocks.append(_table(shown, width) if shown else "No figure to compare.")
    blocks += [_wrapped(line, width) for line in _remarks(found)]
    blocks += [f"\n{_wrapped(f'Asked: {record.asked}', width)}"]
    blocks += [_wrapped(line, width) for line in found.answer.lines]
    blocks += [_wrapped(record.teaches, width)]
    blocks += [f"\n{found.study}"]
    return "\n".join(blocks)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _wrapped(text: str, width: int, topic: str = "") -> str:
    indent = "  " if topic else ""
    return textwrap.fill(
        topic + text, width - 1, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _remarks(found: Reproduction) -> list[str]:
    lines = [*found.notes, *found.program.record.explained]
    left_out = Counter(one.reason for one in found.comparisons if one.measured is None)
    lines += [f"{_count(number, 'published figure')} left out: {reason}." for reason, number in left_out.items()]
    inside, told = found.num_inside
    if told:
        lines.append(
            f"{inside} of {told} published figures lie inside. Where all is the same, one in twenty lies outside by "
            "chance."
        )
    if len(found.seeds) == 1:
        lines.append("One seed gives no interval: --seeds 5 or more does.")
    if any(one.figure.figure.startswith("seconds") for one in found.comparisons):
        lines.append("Times are of other machines: they are not compared.")
    return lines


def _table(comparisons: Sequence[Comparison], width: int) -> str:
    """A row a figure; where the terminal is too narrow, a figure a paragraph."""
    rows = [("figure", "published", "measured [95% prediction]", "inside")]
    for one in comparisons:
        measured = "" if one.measured is None else interval_text(one.figure, one.measured)
        rows.append((one.figure.words, one.figure.published, measured, _inside(one)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    if sum(widths) + 3 * _GAP < width:
        padded = ([cell.ljust(size) for cell, size in zip(row, widths, strict=True)] for row in rows)
        return "\n".join((" " * _GAP).join(cells).rstrip() for cells in padded)
    return "\n".join(_wrapped("; ".join(filter(None, row[1:])), width, f"{row[0]}: ") for row in rows)


def interval_text(figure: Figure, measured: PredictionInterval) -> str:
    """A mean with the ends of its prediction interval."""
    if measured.low is None or measured.high is None:
        return figure.show(measured.value)
    return f"{figure.show(measured.value)} [{figure.show(measured.low)}, {figure.show(measured.high)}]"


def _inside(one: Comparison) -> str:
    return "" if one.inside is None else "yes" if one.inside else "no"
