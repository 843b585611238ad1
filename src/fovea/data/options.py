"""ReadOptions: what the user decides about reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]  # what is going on, how many are done, of how many


def show_nothing(what: str, done: int, total: int) -> None:
    """Takes the place of a progress bar."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    Attributes:
        image_size: height, width that image files are decoded to; None: as they are, or 64 x 64.
        skip_bad: leave images out that cannot be decoded, instead of refusing the data.
        label_column: the column of a table that holds the labels, by name or number (from 0; -1 is the last); for
            CIFAR-100 "fine" or "coarse"; None: found by name and content.
        group_column: the column of a table that says which images belong together, by name or number; None: none.
        outside_paths: whether the paths in a table may lead out of its folder.
        progress: called as work goes on.
    """

    image_size: tuple[int, int] | None = None
    skip_bad: bool = False
    label_column: str | int | None = None
    group_column: str | None = None
    outside_paths: bool = False
    progress: Progress = show_nothing
