"""The text of a program: a .py file or the code cells of a notebook, as one syntax tree. Nothing is executed."""

from __future__ import annotations

import ast
import json
import tokenize
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from fovea.diagnosis.script.repair import parse_text, without_magics
from fovea.errors import DataError

LARGEST_FILE = 64 << 20  # bytes; more is no program
LONGEST_TEXT = 200_000  # characters that are read: some 5000 lines


@dataclass(frozen=True)
class Program:
    """A program that was read.

    Attributes:
        tree: what could be read of it.
        cell_starts: for a notebook, the line on which each code cell begins in the text of all cells; else empty.
        unseen: what was left out, in words.
        is_python2: whether lines of Python 2 had to be rewritten.
    """

    tree: ast.Module
    text: str
    cell_starts: tuple[int, ...] = ()
    unseen: tuple[str, ...] = ()
    is_python2: bool = False


def read_source(path: Path) -> Program:
    """Read a program from its file.

    Raises:
        DataError: the file cannot be opened, is no text, or is a notebook that is no JSON.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(
                f"{path} has {path.stat().st_size >> 20} MB: that is no program. Give a .py or .ipynb file."
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Give a .py or .ipynb file.") from error
    text, cells = _notebook_text(path, content) if path.suffix == ".ipynb" else (_decoded(path, content), ())
    unseen: list[str] = []
    if len(text) > LONGEST_TEXT:
        text = text[: text.rfind("\n", 0, LONGEST_TEXT) + 1]
        unseen.append(f"what comes after line {text.count(chr(10))}: the program is long")
    tree, notes, is_python2 = parse_text(text)
    return Program(tree, text, cells, (*unseen, *notes), is_python2)


def _decoded(path: Path, content: bytes) -> str:
    if b"\x00" in content:
        raise DataError(f"{path} is no text (it holds zero bytes). Give a Python program (.py) or a notebook (.ipynb).")
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(content).readline)
    except (SyntaxError, UnicodeDecodeError):
        encoding = "latin-1"
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        text = content.decode("latin-1")
    if sum(character < " " and character not in "\t\n\r\f" for character in text[:4096]) > 40:
        raise DataError(f"{path} is no text. Give a Python program (.py) or a notebook (.ipynb).")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")


def _notebook_text(path: Path, content: bytes) -> tuple[str, tuple[int, ...]]:
    """The code cells one after the other, and the lines on which they begin; notebooks of format 3 and 4."""
    try:
        notebook = json.loads(content)
        sheets = notebook.get("worksheets") or [notebook]
        cells = [cell for sheet in sheets for cell in sheet["cells"] if cell.get("cell_type") == "code"]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells]
        texts = [source if isinstance(source, str) else "".join(source) for source in sources]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is no notebook: JSON with a list of cells is expected ({error}).") from error
    starts, lines = [], 1
    texts = [without_magics(text) for text in texts]
    for text in texts:
        starts.append(lines)
        lines += text.count("\n") + 1
    return "\n".join(texts), tuple(starts)
