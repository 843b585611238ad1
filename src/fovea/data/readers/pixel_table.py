"""Tables of pixels: a row an image, a column a pixel, and a column of labels first, last or nowhere."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.archives import open_unpacked
from fovea.data.csv_text import (
    ID_NAMES,
    LABEL_NAMES,
    Head,
    as_pixels,
    blocks,
    chosen_column,
    group_column_of,
    is_number,
    parse_cells,
    parse_digits,
    skip_head,
)
from fovea.data.imageset import RawSet
from fovea.data.options import ReadOptions
from fovea.data.parallel import in_order
from fovea.data.readers.pixel_layout import layout_of, square_side
from fovea.data.tree import Tree
from fovea.errors import DataError, SettingsError

_PIXEL_NAME = re.compile(r"[a-z]{0,9}[ _-]?\d+([x_, -]\d+){0,2}", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d{1,18}(\.0*)?", re.ASCII)
_IMAGE_IDS = {"id", "imageid", "image_id"}  # of the columns that are no pixels, those that name images
_MIN_PIXELS = 4


def is_pixel_table(head: Head) -> bool:
    """Whether a table's first line of data is mostly numbers, enough of them for an image."""
    numbers = sum(map(is_number, head.first))
    return len(head.header or head.first) > _MIN_PIXELS and numbers >= max(_MIN_PIXELS, len(head.first) - 3)


@dataclass
class _Columns:
    """Which columns are pixels; the others are kept as they are."""

    pixels: list[int]
    others: list[int]
    label: int | None
    provisional: bool = False  # whether `others` only may be labels
    ids: int | None = None  # which of the others is kept as text
    group: int | None = None  # which of the others says what images belong together


def read_pixel_table(tree: Tree, name: str, head: Head, options: ReadOptions) -> tuple[RawSet, list[str]]:
    """Read one table, whose first lines say `head`.

    Returns:
        Images [N, H, W] or [N, H, W, 3] (uint8, or float32 where values are fractions) with their labels, None where
        the table has none; lines to show.

    Raises:
        DataError: names the line and column of what is no pixel value, of ragged lines, of a number of columns that
            makes no square image.
    """
    where = tree.where(name)
    width = len(head.header or head.first)
    columns = _named_columns(head, options.label_column, where, group_column_of(head, options.group_column, where))
    cells, others = _read_rows(tree, name, head, width, columns)
    notes: list[str] = []
    if columns.provisional:
        columns.label = _label_by_content(others, columns.others, cells[:, columns.pixels])
        if columns.label is not None:
            place = "first" if columns.label == 0 else "last"
            notes.append(f"{name} has no header: its {place} column is taken as the label")
    # Without a header the first and last column were kept aside; the one that is no label is a pixel after all.
    aside = {columns.label} if columns.provisional else set(columns.others)
    kept = [column for column in range(width) if column not in aside]
    for column, values in zip(columns.others, others, strict=True):
        if column not in aside:
            _check_range(values, column, head, where)
            if values.dtype.kind == "f":
                cells = cells.astype(np.float32, copy=False)
            cells[:, column] = values.astype(cells.dtype)
    pixels = _picked(cells, kept)
    layout = layout_of(pixels, _names(head, kept), where)
    images = layout.images(pixels)
    labels = None if columns.label is None else others[columns.others.index(columns.label)]
    groups = None if columns.group is None else others[columns.others.index(columns.group)]
    return RawSet(images, labels, np.arange(len(images)), groups), notes + ([layout.note] if layout.note else [])


@dataclass(frozen=True, eq=False)
class TableStream:
    """A table read block by block, never as a whole.

    Attributes:
        has_ids: whether it has a column of ids.
        notes: lines to show.
        blocks: images [n, H, W] or [n, H, W, 3] (uint8, or float32 where values are fractions), their ids as they are
            written (None: there are none), and the bytes of text that were read for them.
    """

    has_ids: bool
    notes: list[str]
    blocks: Iterator[tuple[NDArray[Any], NDArray[Any] | None, int]] = field(repr=False)


def stream_pixel_table(tree: Tree, name: str, head: Head, shape: tuple[int, int, int]) -> TableStream:
    """Read a table of images for a net; a column of labels is left out, a column called "id" or so names the images.

    Args:
        shape: height, width and channels of the net's input: of a table without header whose rows have so many values,
            all are pixels.

    Raises:
        DataError: as `read_pixel_table`; later blocks raise it when their turn comes.
    """
    where = tree.where(name)
    width = len(head.header or head.first)
    columns = _columns_without_labels(tree, name, head, shape)
    notes = []
    if columns.label is not None:
        title = head.header[columns.label] if head.header else "the first" if columns.label == 0 else "the last"
        notes.append(f"{name} has labels (column {title!r}), which are not looked at")
    first = next((cells for _, cells, _ in _row_blocks(tree, name, head, width, columns) if len(cells)), None)
    if first is None:
        raise DataError(f"{where} holds no line of data.")
    layout = layout_of(first[:, columns.pixels], _names(head, columns.pixels), where, shape)
    notes += [layout.note] if layout.note else []

    def images() -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, int]]:
        for block, cells, others in _row_blocks(tree, name, head, width, columns):
            ids = None if columns.ids is None else others[columns.others.index(columns.ids)]
            yield layout.images(_picked(cells, columns.pixels)), ids, len(block)

    return TableStream(columns.ids is not None, notes, images())


def _columns_without_labels(tree: Tree, name: str, head: Head, shape: tuple[int, int, int]) -> _Columns:
    """Which columns are pixels; where no header says it, the first block does."""
    width = len(head.header or head.first)
    every = list(range(width))
    if head.header is None and width == math.prod(shape):
        return _Columns(every, [], None)
    columns = _named_columns(head, None, tree.where(name))
    if columns.provisional:
        nothing = (b"", np.empty((0, width), np.uint8), [np.empty(0)] * 2)
        _, cells, others = next(_row_blocks(tree, name, head, width, columns), nothing)
        label = _label_by_content(others, columns.others, cells[:, columns.pixels])
        if label is None and width == math.prod(shape) + 1:
            label = 0
        return _Columns([c for c in every if c != label], [] if label is None else [label], label)
    names = [cell.lower() for cell in head.header or ()]
    columns.ids = next((column for column in columns.others if names[column] in _IMAGE_IDS), None)
    return columns


def _picked(cells: NDArray[Any], columns: list[int]) -> NDArray[Any]:
    """Some columns; not copied where they stand side by side."""
    is_block = columns[-1] - columns[0] + 1 == len(columns)
    return cells[:, columns[0] : columns[-1] + 1] if is_block else cells[:, columns]


def _names(head: Head, columns: list[int]) -> tuple[str, ...] | None:
    return tuple(head.header[column] for column in columns) if head.header else None


def _named_columns(head: Head, wanted: str | int | None, where: str, group: int | None = None) -> _Columns:
    width = len(head.header or head.first)
    every = list(range(width))
    if wanted is not None:
        label: int | None = chosen_column(head, wanted, where)
    elif head.header is None and group is not None:
        raise SettingsError(f"{where} has no header: say beside groups which column is the label (label_column).")
    elif head.header is None:
        return _Columns(every[1:-1], [0, width - 1], None, provisional=True)
    else:
        label = _label_by_name(head.header, group)
    names = [""] * width if head.header is None else [cell.lower() for cell in head.header]
    ids = [c for c in every if head.header is not None and names[c] in ID_NAMES and c != label]
    others = sorted({*ids, *(column for column in (label, group) if column is not None)})
    return _Columns([column for column in every if column not in others], others, label, group=group)


def _label_by_name(header: tuple[str, ...], group: int | None = None) -> int | None:
    lower = [cell.lower() for cell in header]
    for column, cell in enumerate(lower):
        if cell in LABEL_NAMES:
            return column
    strangers = [c for c, cell in enumerate(lower) if cell not in ID_NAMES and not _PIXEL_NAME.fullmatch(cell)]
    strangers = [c for c in strangers if c != group]
    return strangers[0] if len(strangers) == 1 else None


def _label_by_content(values: list[NDArray[Any]], columns: list[int], pixels: NDArray[Any]) -> int | None:
    """The first or the last column, whichever looks like labels: several values, none of them nearly all rows.

    Of two such columns the one with values that no pixel has, else the one with fewer values.
    """
    spans: dict[int, tuple[bool, int]] = {}
    of_pixels = np.unique(pixels)
    total = columns[-1] + 1
    for candidate, column in zip(values, columns, strict=True):
        found, counts = np.unique(candidate, return_counts=True)
        if found.dtype.kind == "U" or (len(found) > 1 and counts.max() <= 0.9 * len(candidate)):
            like_pixels = found.dtype.kind != "U" and bool(np.isin(found, of_pixels).all())
            spans[column] = (like_pixels, len(found))
    if spans and square_side(total - 1) is not None:
        return min(spans, key=lambda column: (spans[column], column))
    if square_side(total) is not None:
        return None
    return min(spans, key=lambda column: (spans[column], column)) if spans else 0


class _GrowingTable:
    """Rows appended block by block to one array that grows in place, so that the whole is never there twice."""

    def __init__(self, width: int, others: int) -> None:
        self._cells: NDArray[Any] = np.empty((max(1, min(1024, 2**20 // width)), width), np.uint8)
        self._others: list[list[NDArray[Any]]] = [[] for _ in range(others)]
        self._count = 0

    def append(self, cells: NDArray[Any], others: list[NDArray[Any]]) -> None:
        if np.result_type(cells, self._cells) != self._cells.dtype:
            self._cells = self._cells.astype(np.result_type(cells, self._cells))
        needed = self._count + len(cells)
        if needed > len(self._cells):
            self._cells.resize((max(needed, len(self._cells) * 5 // 4), self._cells.shape[1]), refcheck=False)
        self._cells[self._count : needed] = cells
        self._count = needed
        for kept, values in zip(self._others, others, strict=True):
            kept.append(values)

    def finish(self) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """All rows, and the columns that were kept aside."""
        self._cells.resize((self._count, self._cells.shape[1]), refcheck=False)
        return self._cells, [_joined(column) for column in self._others]


def _read_rows(
    tree: Tree, name: str, head: Head, width: int, columns: _Columns
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Every cell of a pixel column, and the columns that are kept aside."""
    table = _GrowingTable(width, len(columns.others))
    for _, cells, others in _row_blocks(tree, name, head, width, columns):
        table.append(cells, others)
    cells, others = table.finish()
    if not len(cells):
        raise DataError(f"{tree.where(name)} holds no line of data.")
    return cells, others


def _row_blocks(
    tree: Tree, name: str, head: Head, width: int, columns: _Columns
) -> Iterator[tuple[bytes, NDArray[Any], list[NDArray[Any]]]]:
    """Block after block: its text, every cell of its pixel columns, and the columns that are kept aside."""
    where = tree.where(name)
    line = 1 if head.header is None else 2

    def parse(block: bytes) -> tuple[bytes, NDArray[Any] | None]:
        return block, parse_digits(block, head.delimiter, width)

    cores = os.cpu_count() or 1
    with open_unpacked(tree, name) as file, ThreadPoolExecutor(cores) as pool:
        skip_head(file, head, where)
        for block, parsed in in_order(pool, parse, blocks(file, where), ahead=cores + 1):
            if parsed is not None and (parsed.max() <= 255 or parsed[:, columns.pixels].max() <= 255):
                aside: list[NDArray[Any]] = [
                    _texts(block, head, column) if column == columns.ids else parsed[:, column].astype(np.int64)
                    for column in columns.others
                ]
                yield block, parsed.astype(np.uint8), aside
            else:
                yield block, *_slow_block(block, head, width, columns, where, line)
            line += block.count(b"\n")


def _texts(block: bytes, head: Head, column: int) -> NDArray[Any]:
    """The cells of one column of a block that holds digits alone, as they are written."""
    lines = block.replace(b"\r", b"").decode("ascii").split("\n")[:-1]
    return np.array([line.split(head.delimiter, column + 1)[column] for line in lines])


def _slow_block(
    block: bytes, head: Head, width: int, columns: _Columns, where: str, line: int
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """A block with fractions, words, quotes or mistakes, cell by cell."""
    rows, numbers = parse_cells(block, head.delimiter, width, where, line)
    if not rows:
        return np.empty((0, width), np.uint8), [np.empty(0, np.int64) for _ in columns.others]
    values = as_pixels(rows, columns.pixels, numbers, where)
    table = np.zeros((len(rows), width), values.dtype)
    table[:, columns.pixels] = values
    others: list[NDArray[Any]] = []
    for column in columns.others:
        texts = [row[column].strip() for row in rows]
        others.append(np.array(texts, np.str_) if column == columns.ids else _as_values(texts))
    return table, others


def _as_values(cells: list[str]) -> NDArray[Any]:
    """Cells as int64 where all are whole numbers, else as float64 where all are numbers, else as text.

    A whole number is written in one way, so that "7" and "007" are one label in whatever block they stand.
    """
    if all(map(_WHOLE.fullmatch, cells)):
        return np.array([int(cell.partition(".")[0]) for cell in cells], np.int64)
    try:
        return np.array(cells, np.float64)
    except ValueError:
        whole = [str(int(cell.partition(".")[0])) if _WHOLE.fullmatch(cell) else cell for cell in cells]
        return np.array(whole, np.str_)


def _joined(column: list[NDArray[Any]]) -> NDArray[Any]:
    if any(values.dtype.kind == "U" for values in column):
        column = [values if values.dtype.kind == "U" else _as_text(values) for values in column]
    return np.concatenate(column) if column else np.empty(0, np.int64)


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    return np.array([f"{value:g}" if values.dtype.kind == "f" else str(value) for value in values.tolist()], np.str_)


def _check_range(values: NDArray[Any], column: int, head: Head, where: str) -> None:
    bad = None
    if values.dtype.kind == "U":
        bad = 0
    elif (outside := np.flatnonzero((values < 0) | (values > 255))).size:
        bad = int(outside[0])
    if bad is not None:
        line = bad + (1 if head.header is None else 2)
        raise DataError(f"{where}, line {line}, column {column + 1}: '{values[bad]}' is no pixel value of 0 to 255.")
