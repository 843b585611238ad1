"""The text of a table: its delimiter, its header, its columns of digits parsed by the block."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fovea.data.archives import open_unpacked
from fovea.data.decode import has_image_suffix
from fovea.data.tree import READ_ERRORS, Tree, reason_of, unreadable
from fovea.errors import DataError, SettingsError

BLOCK_BYTES = 2**18  # a block and what is computed from it stay in the second-level cache
MAX_LINE_BYTES = 2**24
MAX_COLUMNS = 300_000  # a colour image of 316 x 316
MAX_CELL = 4096  # characters; labels and paths are kept at the length of the longest
LABEL_NAMES = {"label", "labels", "class", "classes", "target", "y", "digit", "category", "class_name", "classname"}
ID_NAMES = {"id", "imageid", "image_id", "index", "row", "unnamed: 0", ""}
_DELIMITERS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*nan\s*", re.IGNORECASE)
_MAX_BLANK_LINES = 1000  # between the header and the data
_SHOWN = 40  # characters of a bad cell in a message


@dataclass(frozen=True)
class Head:
    """What the first lines of a table say.

    Attributes:
        delimiter: between the cells.
        header: the column names; None: the first line is data.
        first: the cells of the first line of data.
        skip: the bytes before the data: byte order mark and header.
    """

    delimiter: str
    header: tuple[str, ...] | None
    first: tuple[str, ...]
    skip: int


def read_head(tree: Tree, name: str, least_columns: int = 2) -> Head | None:
    """Look at the first two lines of a table; None where the file is no text or has fewer columns.

    Blank lines between them are left out.

    Raises:
        DataError: for a file that cannot be read, or lines of more than 16 MB.
    """
    where = tree.where(name)
    try:
        with open_unpacked(tree, name) as file:
            start = file.read(3)
            mark = 3 if start == b"\xef\xbb\xbf" else 0
            rest = io.BytesIO(start[mark:])
            lines = [_line(rest, file, where), _line(rest, file, where)]
            for _ in range(_MAX_BLANK_LINES):
                if lines[1].strip() or not lines[1]:
                    break
                lines[1] = _line(rest, file, where)
    except READ_ERRORS as error:
        raise unreadable(where, error) from None
    if b"\0" in lines[0] or b"\0" in lines[1] or not lines[0].strip():
        return None
    first, second = (_text(line).rstrip("\r\n") for line in lines)
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        cells, below = split_line(first, delimiter), split_line(second, delimiter)
    except csv.Error:  # a line end inside a line: no text, or one of old Macintosh programs
        return None
    if len(cells) < least_columns:
        return None
    if len(cells) > MAX_COLUMNS:
        raise DataError(f"{where} has {len(cells):,} columns, over the limit of {MAX_COLUMNS:,}.")
    return (
        Head(delimiter, cells, below, mark + len(lines[0])) if is_header(cells) else Head(delimiter, None, cells, mark)
    )


def _line(begun: BinaryIO, file: BinaryIO, where: str) -> bytes:
    """The next line of `begun` and, where that ends, of `file`."""
    line = begun.readline()
    if not line.endswith(b"\n"):
        line += file.readline(MAX_LINE_BYTES)
    if len(line) >= MAX_LINE_BYTES:
        raise DataError(f"{where} has a line of more than {MAX_LINE_BYTES:,} bytes: this is no table of images.")
    return line


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")  # a look, at files too that are no tables; `utf8_text` reads in earnest


def utf8_text(content: bytes, where: str, line: int) -> str:
    """Lines of a table as text.

    Args:
        line: the number of the first one in the file, from 1.

    Raises:
        DataError: names the line and the byte that is no UTF-8: names that differ in it would be read as one.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before, found = content[: error.start], content[error.start]
        number, place = line + before.count(b"\n"), error.start - before.rfind(b"\n")
        raise DataError(
            f"{where}, line {number}, byte {place}: 0x{found:02X} is no UTF-8: save the table as UTF-8."
        ) from None


def skip_head(file: BinaryIO, head: Head, where: str) -> None:
    """Read on to the first line of data.

    Raises:
        DataError: when the header is no UTF-8.
    """
    utf8_text(file.read(head.skip), where, 1)


def split_line(line: str, delimiter: str) -> tuple[str, ...]:
    """The cells of one line, quotes taken off."""
    return tuple(cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), []))


def is_number(cell: str) -> bool:
    """Whether a cell holds a number (or nan)."""
    return _NUMBER.fullmatch(cell) is not None


def is_header(cells: tuple[str, ...]) -> bool:
    """Whether a first line names columns.

    Most of its cells are words, one is called like a label, or they count up (as pandas names columns); and none of
    them is an image's name.
    """
    words = sum(not is_number(cell) for cell in cells)
    if any(has_image_suffix(cell) for cell in cells):
        return False
    if any(cell.lower() in LABEL_NAMES for cell in cells):
        return True
    numbers = [cell for cell in cells if cell.isascii() and cell.isdigit()]
    counts_up = len(numbers) >= len(cells) - 2 and any(
        numbers == [str(first + i) for i in range(len(numbers))] for first in (0, 1)
    )
    return counts_up or words > len(cells) / 2


def chosen_column(head: Head, wanted: str | int, where: str, setting: str = "data.label_column") -> int:
    """The column that the user named, or numbered from 0 (-1: the last).

    Raises:
        SettingsError: when there is no such column.
    """
    width = len(head.header or head.first)
    if isinstance(wanted, str) and head.header and wanted in head.header:
        return head.header.index(wanted)
    if isinstance(wanted, int) and -width <= wanted < width:
        return wanted % width
    names = ", ".join(head.header[:6]) + (" ..." if width > 6 else "") if head.header else f"0 to {width - 1}"
    raise SettingsError(f"{setting} is {wanted!r}, which is no column of {where}: its columns are {names}.")


def group_column_of(head: Head, wanted: str | None, where: str) -> int | None:
    """The column that says which images belong together; None where none was named.

    Raises:
        SettingsError: when there is no such column.
    """
    if wanted is None:
        return None
    named = head.header is not None and wanted in head.header
    return chosen_column(head, wanted if named or not wanted.isdecimal() else int(wanted), where, "data.groups")


def blocks(file: BinaryIO, where: str) -> Iterator[bytes]:
    """A stream cut at line ends into blocks of about 256 KB; each ends with a line end.

    Raises:
        DataError: for a line of more than 16 MB, or a file that cannot be read to its end.
    """
    rest = b""
    while content := _read_block(file, where):
        cut = content.rfind(b"\n")
        if cut < 0:
            rest += content
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(f"{where} has a line of more than {MAX_LINE_BYTES:,} bytes: this is no table.")
            continue
        yield rest + content[: cut + 1]
        rest = content[cut + 1 :]
    if rest.strip():
        yield rest + b"\n"


def _read_block(file: BinaryIO, where: str) -> bytes:
    try:
        return file.read(BLOCK_BYTES)
    except READ_ERRORS as error:
        raise unreadable(where, error) from None


def _byte_kinds(delimiter: str) -> bytes:
    """A translation of bytes: digits to 0..9, the delimiter to 10, the line end to 11, all else to 255."""
    kinds = bytearray([255]) * 256
    kinds[48:58] = range(10)
    kinds[ord(delimiter)], kinds[10] = 10, 11
    return bytes(kinds)


def parse_digits(block: bytes, delimiter: str, columns: int) -> NDArray[np.int64] | NDArray[np.uint16] | None:
    """A block of whole numbers of up to nine digits -> [rows, columns]; None where it holds anything else.

    All cells are parsed at once: the value of a cell is read off the digits before its separator.
    """
    kinds = np.frombuffer(block.replace(b"\r", b"").translate(_byte_kinds(delimiter)), np.uint8)
    if kinds.max() == 255 or kinds[0] >= 10:
        return None
    is_end = kinds >= 10
    ends = np.flatnonzero(is_end)
    separators = kinds[ends]
    if len(ends) % columns or (is_end[1:] & is_end[:-1]).any():
        return None
    by_row = separators.reshape(-1, columns)
    if not (by_row[:, -1] == 11).all() or not (by_row[:, :-1] == 10).all():
        return None
    digit = ~is_end
    if (digit[3:] & digit[2:-1] & digit[1:-2] & digit[:-3]).any():
        return _parse_long(kinds, ends, columns)
    # At the separator i stand the digits i-1, i-2 and, where i-2 is a digit, i-3; separators count as 0.
    padded = np.zeros(len(kinds) + 3, np.uint8)
    np.multiply(kinds, digit, out=padded[3:])
    tens = padded[1:-2].astype(np.uint16)
    hundreds = padded[:-3].astype(np.uint16)
    hundreds[2:] *= digit[:-2]
    values = padded[2:-1] + tens * np.uint16(10) + hundreds * np.uint16(100)
    table: NDArray[np.uint16] = values[ends].reshape(-1, columns)
    return table


def _parse_long(kinds: NDArray[np.uint8], ends: NDArray[np.int64], columns: int) -> NDArray[np.int64] | None:
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.max() > 9:
        return None
    values, power = np.zeros(len(ends), np.int64), 1
    for place in range(1, int(lengths.max()) + 1):
        inside = lengths >= place
        values[inside] += kinds[ends[inside] - place].astype(np.int64) * power
        power *= 10
    return values.reshape(-1, columns)


def parse_cells(block: bytes, delimiter: str, columns: int, where: str, line: int) -> tuple[list[list[str]], list[int]]:
    """The cells of a block, line by line, and the number of each line in its file; empty lines are left out.

    Args:
        line: the number of the block's first line in the file, from 1.

    Raises:
        DataError: for a line with more or fewer cells than `columns`, or bytes that are no UTF-8.
    """
    rows, numbers = [], []
    reader = csv.reader(io.StringIO(utf8_text(block, where, line), newline=""), delimiter=delimiter)
    try:
        for row in reader:
            number = line + reader.line_num - 1
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if len(row) != columns:
                raise DataError(
                    f"{where}, line {number}: {len(row)} cells, expected {columns} as in the first line. "
                    "Is the file cut short, or a line broken?"
                )
            if sum(map(len, row)) > 64 * columns + MAX_CELL:
                longest = max(range(columns), key=lambda column: len(row[column]))
                raise DataError(
                    f"{where}, line {number}, column {longest + 1}: {row[longest][:_SHOWN]!r}... is a cell of "
                    f"{len(row[longest]):,} characters."
                )
            rows.append(row)
            numbers.append(number)
    except csv.Error as error:
        raise DataError(f"{where}, line {line + reader.line_num - 1}: {reason_of(error)}.") from None
    return rows, numbers


def as_pixels(rows: list[list[str]], columns: list[int], numbers: list[int], where: str) -> NDArray[Any]:
    """Cells -> values of 0 to 255, uint8 where all are whole, else float32.

    Raises:
        DataError: names the line and the column of a cell that is no such number.
    """
    picked = [[row[column] for column in columns] for row in rows]
    try:
        values = np.array(picked, dtype=np.float64)
        good = not any("_" in "".join(row) for row in picked)  # which Python reads as part of a number
        good = good and bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 255).all())
    except (ValueError, OverflowError):
        good = False
    if not good:
        for row, number in zip(picked, numbers, strict=True):
            for column, cell in zip(columns, row, strict=True):
                _check_cell(cell, column, number, where)
    whole = values.astype(np.uint8)
    return whole if (whole == values).all() else values.astype(np.float32)


def _check_cell(cell: str, column: int, number: int, where: str) -> None:
    shown = cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}... ({len(cell):,} characters)"
    value = float(cell) if is_number(cell) else math.nan
    if not 0 <= value <= 255:
        raise DataError(f"{where}, line {number}, column {column + 1}: {shown!r} is no pixel value of 0 to 255.")
