"""A matplotlib figure as inline SVG that follows the page: dark or light, any width, read aloud by its description."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from fovea.reporting.style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW, figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_INCHES = 5.6
# Fixed colour -> the page's variable, which is another one in the dark.
_VARIABLES = {
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PINK: "var(--pink)",
    YELLOW: "var(--yellow)",
    SKY: "var(--sky)",
    GREY: "var(--grey)",
    "#000000": "currentColor",
    "#b0b0b0": "var(--line)",
}


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """A figure as an <svg> element.

    Args:
        name: unique on the page: the ids inside begin with it.
        alt: what the figure shows, for who cannot see it.
    """
    figure.set_size_inches(_WIDTH_INCHES, figure.get_figheight())  # narrower than a figure of its own, for phones
    text = figure_bytes(figure, "svg").decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _adapted(tag[0], name), text)  # what stands between tags is the user's
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width = float(box[1]) if box else 500.0
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{width * 4 / 3:.0f}px" '
    text = re.sub(r'<svg ([^>]*?)\bwidth="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)\bheight="[^"]*"', r"<svg \1", text, count=1)
    return opening + text[len("<svg") :]


_COLOURS = re.compile("|".join(map(re.escape, _VARIABLES)).lower())


def _adapted(tag: str, name: str) -> str:
    """A tag with ids of its own and colours of the page."""
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    return re.sub(r'style="[^"]*"', lambda style: _COLOURS.sub(lambda c: _variable(c[0]), style[0]), tag)


def _variable(colour: str) -> str:
    return next(variable for fixed, variable in _VARIABLES.items() if fixed.lower() == colour)
