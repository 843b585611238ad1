"""The page of recipes compared over paired seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.evaluation.runs_compared import SPLIT_WORDS, p_text
from fovea.reporting.again import call_of, machine_blocks
from fovea.reporting.blocks import Block, Chart, Code, Paragraph, Report, Section, Table
from fovea.reporting.comparison import settings_blocks
from fovea.reporting.discipline import ledger_blocks
from fovea.reporting.sections import duration, interval_words
from fovea.reporting.style import BLUE, CYCLE, GREY, new_figure, plain_labels, shortened, tidy
from fovea.reporting.svg import inline_svg
from fovea.studies.recipes_compared import RULE, ArmPair, RecipeComparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME = 48


def recipes_report(found: RecipeComparison) -> Report:
    """The page: the verdict, the recipes, every seed, what differs, what it cost.

    Raises:
        DataError: when a file of a run is missing or damaged.
    """
    pair, split = found.pairs[0], SPLIT_WORDS[found.split]
    short = {arm.name: shortened(arm.name, _NAME) for arm in found.arms}
    looks = found.looks
    sections = [
        Section("recipes", "Recipes", _recipes(found)),
        Section("seeds", "Every seed", _seeds(found)),
        Section(
            "settings", "Settings that differ", settings_blocks({a.name: a.runs[0] for a in found.arms}, _LEFT_OUT)
        ),
    ]
    if looks is not None and len(looks):
        sections.append(Section("test-set", "The test set", ledger_blocks(looks)))
    sections.append(Section("machine", "Machine and versions", machine_blocks(found.arms[0].runs[0])))
    again = [
        Code(call_of(arm.runs[0]), f"What trains seed {found.seeds[0]} of {short[arm.name]}") for arm in found.arms
    ]
    return Report(
        title=" and ".join(short.values()) if len(short) <= 3 else f"{len(short)} recipes",
        headline=f"{pair.test.difference.value * 100:+.2f} points",
        interval=_ends(pair),
        sentence=" ".join(each.sentence(short[each.first], short[each.second]) for each in found.pairs),
        facts=[
            (name, f"{mean.value:.2%} mean {split} accuracy ({interval_words(mean)})")
            for name, mean in zip(short.values(), found.means, strict=True)
        ],
        alerts=[Paragraph(found.mark, "warning")] if found.mark else [],
        sections=[*sections, Section("again", "Make them again", again)],
        footer="Made by Fovea. This page needs no network and no other file.",
    )


_LEFT_OUT = {"training.seed", "data.split_seed", "data.val_seed"}


def _ends(pair: ArmPair) -> str:
    low, high = pair.test.difference.low, pair.test.difference.high
    return "no interval" if low is None or high is None else f"{low * 100:+.2f} to {high * 100:+.2f}"


def _recipes(found: RecipeComparison) -> list[Block]:
    rows = [
        [
            shortened(arm.name, _NAME),
            f"{mean.value:.2%}",
            interval_words(mean),
            "" if len(found.seeds) < 2 else f"{deviation * 100:.2f}",
            duration(arm.seconds),
        ]
        for arm, mean, deviation in zip(found.arms, found.means, found.deviations, strict=True)
    ]
    head = ["recipe", "mean", "95% interval", "sd, points", "training, a run"]
    pairs = []
    for pair in found.pairs:
        test, chance = pair.test, pair.probability
        p_value = "" if test.p_value is None else p_text(test.p_value).removeprefix("= ")
        adjusted = "" if pair.adjusted_p is None else p_text(pair.adjusted_p).removeprefix("= ")
        share = f"{chance.value:.0%} ({chance.low:.0%} to {chance.high:.0%})"
        gain = f"{test.difference.value * 100:+.2f} ({_ends(pair)})"
        pairs.append([shortened(pair.second, _NAME), gain, p_value, adjusted, share, pair.verdict])
    first = shortened(found.arms[0].name, _NAME)
    against = ["recipe", "difference, 95% interval", "p", "p, Holm", "P(better), 95% interval", "verdict"]
    return [
        Table(f"Accuracy on the {SPLIT_WORDS[found.split]} images over {len(found.seeds)} seeds", head, rows),
        Table(f"Against {first}, in points: paired t test over seeds", against, pairs),
        Paragraph(RULE, "note"),
        *(Paragraph(line, "note") for line in found.notes),
    ]


def _seeds(found: RecipeComparison) -> list[Block]:
    columns = [arm.accuracies(found.split) for arm in found.arms]
    head = ["seed", *(shortened(name, 24) for name in found.short_names)]
    head += [
        f"difference {number}" if len(found.pairs) > 1 else "difference" for number in range(1, len(found.pairs) + 1)
    ]
    head += ["McNemar p"] if len(found.pairs) == 1 else []
    rows = []
    for place, seed in enumerate(found.seeds):
        row = [str(seed), *(f"{column[place]:.2%}" for column in columns)]
        row += [f"{pair.test.differences[place] * 100:+.2f}" for pair in found.pairs]
        if len(found.pairs) == 1:
            row.append(p_text(found.pairs[0].each_seed[place].p_value).removeprefix("= "))
        rows.append(row)
    said = "; ".join(
        f"{arm.name}: {', '.join(f'{value:.2%}' for value in column)}"
        for arm, column in zip(found.arms, columns, strict=True)
    )
    alt = f"Accuracy of each seed, the runs of a seed joined by a line. {said}."
    return [
        Chart(inline_svg(_draw(found, columns), "seeds", alt), "A line joins the runs of one seed; bars: the means."),
        Table("Accuracy of each seed; McNemar's exact test on its images", head, rows),
        Paragraph("McNemar speaks of the two nets of a seed, the t test of the recipes.", "note"),
    ]


def _draw(found: RecipeComparison, columns: list[list[float]]) -> Figure:
    from matplotlib.ticker import PercentFormatter

    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()
    places = range(len(columns))
    for values in zip(*columns, strict=True):
        axes.plot(places, values, color=GREY, linewidth=1, zorder=1)
    for place, column in enumerate(columns):
        colour = CYCLE[place % len(CYCLE)] if len(columns) > 1 else BLUE
        axes.scatter([place] * len(column), column, color=colour, zorder=2)
        mean = sum(column) / len(column)
        axes.plot([place - 0.18, place + 0.18], [mean, mean], color=colour, linewidth=3, zorder=3)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_xticks(list(places), [shortened(name, 24) for name in found.short_names])
    plain_labels(list(axes.get_xticklabels()))
    axes.set_ylabel(f"{SPLIT_WORDS[found.split]} accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    tidy(axes, "y")
    return figure
