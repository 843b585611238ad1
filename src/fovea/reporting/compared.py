"""What `fovea compare` prints: the verdict in a sentence, then the figures it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fovea.evaluation.ledger import Looks
from fovea.evaluation.metrics import accuracy
from fovea.evaluation.runs_compared import RunComparison, RunPair, p_text
from fovea.files import csv_table
from fovea.reporting.style import shortened
from fovea.studies.recipes_compared import RULE, RecipeComparison

_MOST, _GAP, _SHOWN = 100, 2, 5  # columns; between columns; changed images of each side


def comparison_lines(found: RunComparison | RecipeComparison, width: int) -> str:
    """The whole text.

    Args:
        width: of the terminal, in columns.
    """
    width = max(40, min(width, _MOST))
    blocks = _of_runs(found, width) if isinstance(found, RunComparison) else _of_recipes(found, width)
    return "\n".join(blocks)


def _of_runs(found: RunComparison, width: int) -> list[str]:
    blocks = [_wrapped(pair.sentence(), width) for pair in found.pairs]
    rows = [("run", "accuracy [95% interval]", "right")]
    for name, run in found.runs.items():
        predictions = run.predictions(found.split)
        right = f"{int(predictions.correct.sum()):,} of {len(predictions):,}"
        rows.append((name, str(accuracy(predictions)).partition(" (")[0], right))
    blocks += ["", _table(rows, width)]
    for pair in found.pairs:
        blocks += ["", *_changed(pair, width)]
    blocks.append("")
    blocks += [_wrapped(line, width) for line in [*found.limits, *found.notes]]
    blocks.append(
        _wrapped("Each run is one training. To compare settings, compare recipes: fovea compare A B --seeds 5.", width)
    )
    return [*blocks, *_ledger(found.looks, found.warnings, width)]


def _changed(pair: RunPair, width: int) -> list[str]:
    lost = [image for image in pair.changed if not image.is_gained]
    gained = [image for image in pair.changed if image.is_gained]
    first, second = (shortened(name, 30) for name in (pair.first_name, pair.second_name))
    if not pair.changed:
        return [_wrapped(f"No image changed sides between {first} and {second}.", width)]
    head = f"{len(lost):,} images only {first} answers rightly, {len(gained):,} only {second}:"
    rows: list[tuple[str, ...]] = [("id", "true", first, second)]
    rows += [
        tuple(shortened(text, 30) for text in (image.id, image.true, image.first, image.second))
        for image in [*lost[:_SHOWN], *gained[:_SHOWN]]
    ]
    more = len(pair.changed) - len(rows) + 1
    rest = [_wrapped(f"and {more:,} more; --out DIR writes all of them as a table", width)] if more else []
    return [_wrapped(head, width), _table(rows, width), *rest]


def _of_recipes(found: RecipeComparison, width: int) -> list[str]:
    blocks = [_wrapped(pair.sentence(), width) for pair in found.pairs]
    rows = [("recipe", "mean [95% interval]", "sd", "s a run")]
    for arm, mean, deviation in zip(found.arms, found.means, found.deviations, strict=True):
        rows.append((arm.name, str(mean).partition(" (")[0], f"{deviation * 100:.2f} points", f"{arm.seconds:.1f}"))
    blocks += ["", _table(rows, width)]
    for pair in found.pairs:
        chance = pair.probability
        if chance.low is not None and chance.high is not None:
            blocks.append(
                _wrapped(
                    f"P({pair.second} better than {pair.first}) = {chance.value:.0%} [{chance.low:.0%}, "
                    f"{chance.high:.0%}] from {chance.count} pairs",
                    width,
                )
            )
    blocks += ["", _seed_table(found, width), "", *(_wrapped(line, width) for line in [*found.notes, RULE])]
    blocks += _ledger(found.looks, [], width)
    return [*blocks, *([] if found.path is None else [str(found.path)])]


def _seed_table(found: RecipeComparison, width: int) -> str:
    head = ["seed", *(shortened(name, 30) for name in found.short_names)]
    two = len(found.pairs) == 1
    head += ["difference", "McNemar p"] if two else []
    columns = [arm.accuracies(found.split) for arm in found.arms]
    rows = [tuple(head)]
    for place, seed in enumerate(found.seeds):
        row = [str(seed), *(f"{column[place]:.2%}" for column in columns)]
        if two:
            pair = found.pairs[0]
            p_value = p_text(pair.each_seed[place].p_value).removeprefix("= ")
            row += [f"{pair.test.differences[place] * 100:+.2f}", p_value]
        rows.append(tuple(row))
    return _table(rows, width)


def _ledger(looks: Looks | None, warnings: Sequence[str], width: int) -> list[str]:
    lines = [] if looks is None or not len(looks) else [f"Ledger: {looks.words} (test_ledger.jsonl)."]
    return [_wrapped(line, width) for line in [*lines, *(f"warning: {text}" for text in warnings)]]


def _wrapped(text: str, width: int, topic: str = "") -> str:
    indent = "  " if topic else ""
    return textwrap.fill(
        topic + text, width - 1, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _table(rows: Sequence[Sequence[str]], width: int) -> str:
    """Columns under a head; where the terminal is too narrow, a row a paragraph."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if sum(widths) + _GAP * (len(widths) - 1) < width:
        padded = ([cell.ljust(size) for cell, size in zip(row, widths, strict=True)] for row in rows)
        return "\n".join((" " * _GAP).join(cells).rstrip() for cells in padded)
    head, *others = rows
    return "\n".join(
        _wrapped(
            "; ".join(f"{title} {cell}" for title, cell in zip(head[1:], row[1:], strict=True)), width, f"{row[0]}: "
        )
        for row in others
    )


def changed_table(found: RunComparison) -> str:
    """The images that changed sides as CSV: against which run, id, true class, both answers, which is right."""
    rows = [
        [pair.first_name, pair.second_name, image.id, image.true, image.first, image.second, "second" if image.is_gained
         else "first"]
        for pair in found.pairs
        for image in pair.changed
    ]  # fmt: skip
    return csv_table(["first", "second", "id", "true", "first_answer", "second_answer", "right"], rows)
