"""Figures of a run, drawn with matplotlib from plain values."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet
from fovea.evaluation.run import Run
from fovea.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def draw_curves(history: dict[str, list[float]], best_epoch: int) -> Figure:
    """Loss above accuracy, training and validation, with the chosen epoch marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, metric in ((above, "loss"), (below, "accuracy")):
        _draw_metric(axes, history, metric, best_epoch)
    above.set_yscale("log")  # the end of training is where runs differ, and where a linear axis shows nothing
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    above.yaxis.set_minor_formatter(NullFormatter())
    above.legend(frameon=False, fontsize=8, loc="upper right")
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlim(0.5, len(history["val_loss"]) + 0.5)
    below.set_xlabel("epoch")
    return figure


def _draw_metric(axes: Axes, history: dict[str, list[float]], metric: str, best_epoch: int) -> None:
    epochs = range(1, len(history["val_loss"]) + 1)
    marker = "o" if len(epochs) <= 30 else ""
    axes.plot(
        epochs,
        history[f"running_{metric}"],
        color=GREY,
        linewidth=1,
        linestyle=":",
        label="training, augmented (running)",
    )
    axes.plot(epochs, history[f"train_{metric}"], color=BLUE, marker=marker, markersize=3.5, label="training")
    axes.plot(epochs, history[f"val_{metric}"], color=ORANGE, marker=marker, markersize=3.5, label="validation")
    axes.axvline(best_epoch, color=GREY, linewidth=0.8, zorder=0, label=f"epoch {best_epoch}, whose weights are kept")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Figure:
    """Counts, true class down, predicted class across; cell colours show the share of the true class."""
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(max(3.2 + 0.42 * count, 4.5), 16)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    step = max(1, count // 50)
    ticks = range(0, count, step)
    names = [shortened(classes[tick], 18) for tick in ticks]
    longest = max(map(len, names))
    axes.set_xticks(ticks, names, rotation=0 if longest <= 2 else 90)
    axes.set_yticks(ticks, names)
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        text.set_parse_math(False)  # class names are the user's: a $ in them is no formula
    if count <= 30:
        _write_counts(axes, matrix, shares)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    return figure


def _write_counts(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 9 if len(matrix) <= 12 else 6
    for (row, column), cell in np.ndenumerate(matrix):
        if cell:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(cell), ha="center", va="center", color=colour, fontsize=size)


MAX_CLASSES_SHOWN, SAMPLES_SHOWN = 25, 10


def draw_samples(sets: dict[str, ImageSet]) -> Figure:
    """Some images of the first part: a row a class, ten images spread over those of the class."""
    _hush_matplotlib()
    from matplotlib.figure import Figure

    part, images = next(iter(sets.items()))
    present = [label for label in range(len(images.classes)) if (images.labels == label).any()]
    shown = present[:MAX_CLASSES_SHOWN]
    figure = Figure(figsize=(8, 0.5 + 0.72 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), SAMPLES_SHOWN, squeeze=False)
    for row, label in zip(grid, shown, strict=True):
        of_class = np.flatnonzero(images.labels == label)
        picked = of_class[np.linspace(0, len(of_class) - 1, SAMPLES_SHOWN).astype(int)]
        for column, axes in enumerate(row):
            axes.set_axis_off()
            if column < len(of_class):
                axes.imshow(_as_picture(images.images[picked[column : column + 1]][0]), cmap="gray", vmin=0, vmax=255)
        name = shortened(images.classes[label], 14)
        text = row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=8)
        text.set_parse_math(False)
    left_out = f", {len(shown)} of {len(present)} classes" if len(shown) < len(present) else ""
    figure.suptitle(f"{part}: {len(images):,} images{left_out}", fontsize=10)
    return figure


def shortened(name: str, width: int) -> str:
    """A name cut to `width` characters."""
    return name if len(name) <= width else name[: width - 1] + "…"


def _as_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., 0] if image.shape[-1] == 1 else image


def _hush_matplotlib() -> None:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains where its home cannot be written


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at 150 dots an inch, whole or not at all."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes: no reason to fill the terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def write_figures(run: Run) -> None:
    """Draw curves.png and confusion_matrix.png into the run folder."""
    _hush_matplotlib()
    split = "test" if run.has_test else "val"
    found = run.predictions(split)
    save_figure(draw_curves(run.history, int(run.result["best_epoch"])), run.path / "curves.png")
    title = f"{split} split, {len(found):,} images, {int(found.correct.sum()):,} right"
    save_figure(draw_confusion(run.confusion_matrix, found.classes, title), run.path / "confusion_matrix.png")
