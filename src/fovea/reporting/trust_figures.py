"""Figures of how far to believe single answers: reliability, accuracy against coverage, saliency of mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError
from fovea.evaluation.intervals import accuracy_score
from fovea.evaluation.stored import StoredRun
from fovea.reporting.pictures import mistakes_of
from fovea.reporting.style import BLUE, GREY, INTERVAL_ALPHA, ORANGE, new_figure, plain_labels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SALIENCY_SHOWN, _SALIENCY_COLUMNS = 12, 3


def plot_calibration(run: StoredRun) -> Figure:
    """The reliability diagram: how often answers of each probability are right, and how many there are."""
    found = calibration_of_run(run)
    judged = found["splits"][run.judged_by]
    figure = new_figure(6, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    if found["temperature"] != 1:
        _draw_bins(above, judged["without_temperature"]["bins"], ORANGE, "without temperature", None)
    label = "answers" if found["temperature"] == 1 else f"with temperature {found['temperature']:.3g}"
    _draw_bins(above, judged["bins"], BLUE, label, run.recipe.evaluation.confidence)
    above.set_ylabel("share that is right")
    above.set_ylim(-0.03, 1.03)
    above.legend(loc="upper left", frameon=False, fontsize=8)
    centres = [(each["low"] + each["high"]) / 2 for each in judged["bins"]]
    width = 0.9 / len(centres)
    below.bar(centres, [each["count"] for each in judged["bins"]], width=width, color=BLUE)
    below.set_yscale("symlog", linthresh=1)
    below.set_ylim(0, None)
    below.set_ylabel("images")
    below.set_xlabel("probability of the answer")
    below.set_xlim(0, 1)
    for axes in (above, below):
        tidy(axes)
    return figure


def calibration_of_run(run: StoredRun) -> Mapping[str, Any]:
    """calibration.json of a run.

    Raises:
        DataError: when the run was made before there was one.
    """
    if run.calibration is None:
        raise DataError(f"The run {run.path} has no calibration.json: an older Fovea made it. Train it again.")
    return run.calibration


def _draw_bins(axes: Axes, bins: list[dict[str, Any]], colour: str, label: str, confidence: float | None) -> None:
    """Draw bins as dots with intervals of this level; None: hollow, without."""
    filled = [each for each in bins if each["count"]]
    x = np.array([each["confidence"] for each in filled])
    y = np.array([each["accuracy"] for each in filled])
    if confidence is not None:
        for place, each in zip(x, filled, strict=True):
            score = accuracy_score(round(each["accuracy"] * each["count"]), each["count"], confidence)
            axes.plot([place, place], [score.low or 0.0, score.high or 1.0], color=colour, linewidth=2, clip_on=False)
    face = "none" if confidence is None else colour
    axes.plot(
        x, y, color=colour, marker="o", markersize=5, linestyle="", markerfacecolor=face, label=label, clip_on=False
    )


def plot_coverage(run: StoredRun) -> Figure:
    """Accuracy of the surest answers against how many are given, with the thresholds chosen on validation."""
    from matplotlib.ticker import PercentFormatter

    reject = calibration_of_run(run)["reject"]
    figure = new_figure(6, 3.6)
    axes = figure.subplots()
    curve = reject["curve"]
    axes.plot([each["coverage"] for each in curve], [each["accuracy"] for each in curve], color=BLUE, linewidth=1.5)
    shown = [each for each in reject["thresholds"] if each["accuracy"] is not None]
    for each in shown:
        score, place = each["accuracy"], each["coverage"]["value"]
        axes.plot([place, place], [score["low"], score["high"]], color=ORANGE, linewidth=2, alpha=1 - INTERVAL_ALPHA)
        axes.plot([place], [score["value"]], color=ORANGE, marker="o", markersize=4)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1.02)
    dots = "\ndots: thresholds chosen on validation, with the interval" if shown else ""
    axes.set_xlabel(f"images that are answered, the surest first{dots}")
    axes.set_ylabel("of those right")
    tidy(axes)
    return figure


def plot_saliency(run: StoredRun) -> Figure:
    """The worst mistakes, and beside each the pixels that moved the answer away from the true class.

    Raises:
        ModelError: for a module of the user's own that has not been passed again.
    """
    from fovea.evaluation.saliency import saliency_maps

    found, gallery = run.predictions(run.judged_by), run.gallery
    rows = gallery.mistake_rows[:_SALIENCY_SHOWN]
    if not len(rows):
        figure = new_figure(6, 1)
        figure.text(0.5, 0.5, f"All {len(found):,} images were answered rightly.", ha="center", va="center")
        return figure
    model = run.model
    images, enlarged = _of_size(gallery.mistakes[: len(rows)], model.preprocessor.image_shape)
    net = model.net.to("cpu")
    maps = saliency_maps(net, model.preprocessor, images, found.predicted[rows], found.labels[rows])
    columns = min(_SALIENCY_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    height, width = images.shape[1:3]
    figure = new_figure(8, 0.6 + lines * (0.3 + 8 / columns / 2.15 * height / width))
    places = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes in places:
        axes.set_axis_off()
    mistakes = mistakes_of(gallery, found)
    for number, axes in enumerate(places[: len(rows)]):
        axes.imshow(_beside(images[number], maps[number]), interpolation="nearest")
        axes.set_title(f"{mistakes[number].pair}, {mistakes[number].probability:.0%}", fontsize=8)
        plain_labels([axes.title])
    kept = "; enlarged from the 64 pixels that the run keeps" if enlarged else ""
    figure.suptitle(f"mistakes, and the pixels that answer against truth hangs on (SmoothGrad){kept}", fontsize=9)
    return figure


def _of_size(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], bool]:
    """Images of the gallery in the size that the net takes, and whether that enlarged them."""
    from PIL import Image

    from fovea.data.pixels import as_array, from_array

    height, width, _ = shape
    if images.shape[1:3] == (height, width):
        return images, False
    large = [as_array(from_array(image).resize((width, height), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(large), True


def _beside(image: NDArray[np.uint8], saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image and its map side by side, float32 [H, 2 W + 1, 3] in [0, 1]: the map on a faint image, in one colour."""
    grey = image.mean(axis=2, dtype=np.float32, keepdims=True).repeat(3, axis=2) / 255
    plain = image.astype(np.float32).repeat(3 // image.shape[2], axis=2) / 255
    top = np.quantile(saliency, 0.99)  # of a few extreme pixels the others would not be seen
    share = (saliency / max(float(top), 1e-12)).clip(0, 1)[..., None]
    heat = np.array([1.0, 0.45, 0.0], np.float32)
    marked = (1 - share) * (0.35 * grey) + share * heat
    gap = np.ones((len(image), 1, 3), np.float32)
    return np.concatenate([plain, gap, marked], axis=1)
