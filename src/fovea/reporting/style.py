"""How figures look and how they are saved."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import SettingsError
from fovea.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
INTERVAL_ALPHA = 0.25
FORMATS = ("png", "svg")
_DOTS_AN_INCH = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that notebooks show without pyplot."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains where its home cannot be written
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            return figure_bytes(self, "png")

    return NotebookFigure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes, grid: str = "both") -> None:
    """Light lines behind the data, no box around it."""
    axes.grid(alpha=INTERVAL_ALPHA, axis=grid)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_labels(texts: list[Any]) -> None:
    """Class and file names are the user's: a $ in them is no formula."""
    for text in texts:
        text.set_parse_math(False)


def shortened(name: str, width: int) -> str:
    """A name as printable text of `width` characters at most: its middle goes, for names often differ in their ends."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(printable) <= width:
        return printable
    end = (width - 1) // 2
    return f"{printable[: width - 1 - end]}…{printable[len(printable) - end :]}"


def figure_bytes(figure: Figure, form: str) -> bytes:
    """A figure as PNG at 150 dots an inch, or as SVG whose text stays text."""
    import matplotlib

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fovea"}):
        # A class name in a script that the font lacks is drawn as boxes: no reason to fill the terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, dpi=_DOTS_AN_INCH, metadata=metadata, transparent=form == "svg")
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, as the suffix says, whole or not at all.

    Raises:
        SettingsError: for another suffix.
        RunFailedError: when it cannot be written.
    """
    form = path.suffix.lower().lstrip(".")
    if form not in FORMATS:
        raise SettingsError(f"A figure cannot be written as {path.name}: expected a name that ends in .png or .svg.")
    write_bytes(path, figure_bytes(figure, form))
