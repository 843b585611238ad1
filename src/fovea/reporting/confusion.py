"""The confusion matrix, with counts or with shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.reporting.style import new_figure, plain_labels, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_WRITTEN = 30  # classes, up to which each cell holds its figure
_MAX_NAMED = 50  # classes, up to which each one is named on the axes


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str, normalize: bool = False) -> Figure:
    """True class down, predicted class across; cell colours show the share of the true class.

    Args:
        matrix: counts [K, K].
        normalize: write shares of the true class in percent instead of counts.
    """
    count = len(classes)
    side = min(max(3.2 + 0.42 * count, 4.5), 13)
    figure = new_figure(side, side)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    step = max(1, -(-count // _MAX_NAMED))
    ticks = range(0, count, step)
    names = [shortened(classes[tick], 18) for tick in ticks]
    axes.set_xticks(ticks, names, rotation=0 if max(map(len, names)) <= 2 else 90)
    axes.set_yticks(ticks, names)
    plain_labels([*axes.get_xticklabels(), *axes.get_yticklabels()])
    if count <= _MAX_WRITTEN:
        _write_cells(axes, matrix, shares, normalize)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title + (", % of the true class" if normalize else ""), fontsize=10)
    return figure


def _write_cells(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64], normalize: bool) -> None:
    size = 9 if len(matrix) <= 12 else 6
    for (row, column), cell in np.ndenumerate(matrix):
        if cell:
            share = float(shares[row, column])
            text = _percent(share) if normalize else str(cell)
            axes.text(
                column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black", fontsize=size
            )


def _percent(share: float) -> str:
    return f"{share * 100:.1f}" if 0 < share < 0.995 else f"{share * 100:.0f}"
