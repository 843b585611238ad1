"""What a report consists of, as plain values: sections, and the blocks in them. Every text in them is untrusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Paragraph:
    """A text; "warning" and "note" are set off."""

    text: str
    tone: str = "plain"
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first cell of each is its name, the others are aligned right if they are figures."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: bool = True
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chart:
    """A drawing as inline SVG that says by itself what it shows (see `inline_svg`)."""

    svg: str
    caption: str = ""
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Picture:
    """An image inside the page: `source` is a data: address."""

    source: str
    alt: str
    caption: Sequence[str] = ()


@dataclass(frozen=True)
class Pictures:
    """Images of one kind: "strips" (a row of samples each), "tiles" or "whole" (a figure)."""

    form: str
    items: Sequence[Picture]
    caption: str = ""
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Cell:
    """A cell of a confusion matrix: its count, the share of the true class, whether it is on the diagonal."""

    count: int
    share: float
    is_right: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: true class down, predicted class across."""

    caption: str
    classes: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: ClassVar[str] = "matrix"

    @property
    def is_short(self) -> bool:
        """Whether the names are short enough to stand upright above the columns."""
        return max(map(len, self.classes)) <= 3


@dataclass(frozen=True)
class Code:
    """Text to be copied: a command, a file."""

    text: str
    label: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away below a line."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "details"


@dataclass(frozen=True)
class Card:
    """One finding: its name, what it is ("warning, confirmed"), named texts, and blocks that go with it.

    Attributes:
        tone: "severe", "warning" or "note".
        rows: (name, text) in their order.
    """

    title: str
    state: str
    tone: str
    rows: Sequence[tuple[str, str]]
    blocks: Sequence[Block] = ()
    kind: ClassVar[str] = "card"


Block = Paragraph | Table | Chart | Pictures | Matrix | Code | Details | Card


@dataclass(frozen=True)
class Section:
    """A part of the page, with its place in the list of contents."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A page: the result in a sentence, what it rests on, then the sections.

    Attributes:
        headline, interval: the one figure, large, and its error bar.
        sentence: what it means.
        facts: (name, value) beside it.
    """

    title: str
    headline: str
    interval: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    alerts: Sequence[Paragraph]
    sections: Sequence[Section]
    footer: str
