"""Figures with a row a class: how many images it has, and how well it fares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.evaluation.metrics import ClassScore
from fovea.reporting.style import BLUE, GREY, ORANGE, YELLOW, new_figure, plain_labels, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ROWS = 30
_SPLITS = (("training", BLUE), ("validation", ORANGE), ("test", YELLOW))


def draw_class_counts(counts: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Images of each class, stacked: training, validation, test. Up to 30 classes by name, more by their number.

    Args:
        counts: int64 [3, K].
    """
    if len(classes) > MAX_ROWS:
        return _draw_many_counts(counts)
    figure = new_figure(7, 0.9 + 0.3 * len(classes))
    axes = figure.subplots()
    places = np.arange(len(classes))
    start = np.zeros(len(classes), np.int64)
    for (split, colour), of_split in zip(_SPLITS, counts, strict=True):
        axes.barh(places, of_split, left=start, color=colour, height=0.7, label=split)
        start += of_split
    for place, total in enumerate(start.tolist()):
        axes.text(total, place, f" {total:,}", va="center", fontsize=8)
    _name_rows(axes, classes)
    axes.set_xlim(0, float(start.max()) * 1.12)
    axes.set_xlabel("images")
    tidy(axes, "x")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw_many_counts(counts: NDArray[np.int64]) -> Figure:
    figure = new_figure(8, 3.6)
    axes = figure.subplots()
    places = np.arange(counts.shape[1])
    start = np.zeros(len(places), np.int64)
    for (split, colour), of_split in zip(_SPLITS, counts, strict=True):
        axes.bar(places, of_split, bottom=start, color=colour, width=1.0, label=split)
        start += of_split
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_xlabel(f"number of the class, 0 to {len(places) - 1}")
    axes.set_ylabel("images")
    tidy(axes, "y")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return figure


def draw_class_accuracy(scores: list[ClassScore], overall: float, title: str) -> Figure:
    """The accuracy of each class with its interval, the lowest on top; of many classes the lowest 30.

    Args:
        overall: accuracy over all images, drawn as a line.
    """
    from matplotlib.ticker import PercentFormatter

    shown = worst_classes(scores)
    figure = new_figure(7, 1.2 + 0.3 * len(shown))
    axes = figure.subplots()
    for place, score in enumerate(shown):
        recall = score.recall
        assert recall is not None
        assert recall.low is not None
        assert recall.high is not None
        axes.plot([recall.low, recall.high], [place, place], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot([recall.value], [place], color=BLUE, marker="o", markersize=5)
    axes.axvline(overall, color=GREY, linewidth=1, linestyle="--", zorder=0)
    _name_rows(axes, tuple(score.name for score in shown))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    tidy(axes)
    judged = sum(score.recall is not None for score in scores)
    few = f"\nthe lowest {len(shown)} of {judged} classes" if len(shown) < judged else ""
    few += f"\n{len(scores) - judged} without images" if judged < len(scores) else ""
    axes.set_title(f"{title}{few}", fontsize=10)
    axes.set_xlabel("accuracy and its interval; dashed: all images")
    return figure


def worst_classes(scores: list[ClassScore], limit: int = MAX_ROWS) -> list[ClassScore]:
    """The classes that have images, the lowest accuracy first."""
    judged = [(score.recall.value, score) for score in scores if score.recall is not None]
    return [score for _, score in sorted(judged, key=lambda pair: pair[0])][:limit]


def _name_rows(axes: Axes, names: tuple[str, ...]) -> None:
    axes.set_yticks(range(len(names)), [shortened(name, 24) for name in names])
    plain_labels(list(axes.get_yticklabels()))
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
