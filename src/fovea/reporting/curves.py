"""Learning curves: of one run, or of several in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fovea.reporting.style import BLUE, CYCLE, GREY, ORANGE, new_figure, plain_labels, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, list[float]]
_MARKED_EPOCHS = 30  # more of them and marks would run into each other


def draw_curves(history: History, best_epoch: int) -> Figure:
    """Loss above accuracy, training and validation, with the chosen epoch marked."""
    figure, above, below = _two_panels(len(history["train_loss"]))
    for axes, metric in ((above, "loss"), (below, "accuracy")):
        _draw_metric(axes, history, metric, best_epoch)
    figure.legend(*above.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside upper center", ncols=2)
    return figure


def draw_curves_of_runs(histories: Mapping[str, History]) -> Figure:
    """Several runs in one figure: a colour a run, validation solid, training dashed.

    Args:
        histories: name of the run -> its history.
    """
    figure, above, below = _two_panels(max(len(history["train_loss"]) for history in histories.values()))
    for number, (name, history) in enumerate(histories.items()):
        epochs = range(1, len(history["train_loss"]) + 1)
        style: dict[str, Any] = {"color": CYCLE[number % len(CYCLE)]}
        if number >= len(CYCLE):
            style["alpha"] = 0.5
        marker = "o" if len(epochs) == 1 else ""
        for axes, metric in ((above, "loss"), (below, "accuracy")):
            label = shortened(name, 40)
            if f"val_{metric}" in history:
                axes.plot(epochs, history[f"val_{metric}"], label=f"{label}, validation", marker=marker, **style)
            axes.plot(
                epochs,
                history[f"train_{metric}"],
                label=f"{label}, training",
                linestyle="--",
                linewidth=1,
                marker=marker,
                markersize=3,
                **style,
            )
    if len(histories) <= 2 * len(CYCLE):
        handles = above.get_legend_handles_labels()
        legend = figure.legend(*handles, frameon=False, fontsize=9, loc="outside upper center", ncols=2)
        plain_labels(legend.get_texts())
    return figure


def _two_panels(num_epochs: int) -> tuple[Figure, Axes, Axes]:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    figure = new_figure(7, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.set_yscale("log")  # the end of training is where runs differ, and where a linear axis shows nothing
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    above.yaxis.set_minor_formatter(NullFormatter())
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.set_xlim(0.5, num_epochs + 0.5)
    below.set_xlabel("epoch")
    for axes, metric in ((above, "loss"), (below, "accuracy")):
        axes.set_ylabel(metric)
        tidy(axes)
    return figure, above, below


def _draw_metric(axes: Axes, history: History, metric: str, best_epoch: int) -> None:
    epochs = range(1, len(history["train_loss"]) + 1)
    marker = "o" if len(epochs) <= _MARKED_EPOCHS else ""
    axes.plot(
        epochs,
        history[f"running_{metric}"],
        color=GREY,
        linewidth=1,
        linestyle=":",
        marker="x" if len(epochs) == 1 else "",
        label="training, augmented (running)",
    )
    axes.plot(epochs, history[f"train_{metric}"], color=BLUE, marker=marker, markersize=3.5, label="training")
    if f"val_{metric}" in history:
        axes.plot(epochs, history[f"val_{metric}"], color=ORANGE, marker=marker, markersize=3.5, label="validation")
    axes.axvline(best_epoch, color=GREY, linewidth=0.8, zorder=0, label=f"epoch {best_epoch}, whose weights are kept")
