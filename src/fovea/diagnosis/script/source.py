"""The text of a program: a .py file or the code cells of a notebook, as one syntax tree with what could not be read.

Nothing is executed. Python 2 is rewritten where that takes one line (print, except, raise, octal and long numbers);
statements that still cannot be read are left out one by one, and their lines are named.
"""

from __future__ import annotations

import ast
import json
import re
import tokenize
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from fovea.errors import DataError

LARGEST_FILE = 64 << 20  # bytes; more is no program
LONGEST_TEXT = 200_000  # characters that are read: some 5000 lines
MOST_REPAIRS = 40
_MAGIC = re.compile(r"^(\s*)(?:[%!?]|\w+\?+\s*$)")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w, ]+)=\s*[%!].*")


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
    tree, notes, is_python2 = parse_text(_without_magics(text))
    return Program(tree, text, cells, (*unseen, *notes), is_python2)


def parse_text(text: str) -> tuple[ast.Module, tuple[str, ...], bool]:
    """The syntax tree of a text, what was left out of it, and whether it is Python 2."""
    tree = _parsed(text)
    if isinstance(tree, ast.Module):
        return tree, (), False
    lines = text.expandtabs(8).split("\n")
    modern = [_modern_line(line) for line in lines]
    is_python2 = any(new != old and _OLD_WORD.match(old) for new, old in zip(modern, lines, strict=True))
    left_out: list[int] = []
    for _ in range(MOST_REPAIRS):
        tree = _parsed("\n".join(modern))
        if isinstance(tree, ast.Module):
            return tree, _what_was_left_out(left_out, lines, is_python2), is_python2
        left_out.append(_leave_out(modern, tree))
    tree, more = _piece_by_piece(modern)
    return tree, _what_was_left_out(left_out + more, lines, is_python2), is_python2


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
    texts = ["\n".join("" for _ in text.split("\n")) if text.lstrip().startswith("%%") else text for text in texts]
    for text in texts:
        starts.append(lines)
        lines += text.count("\n") + 1
    return "\n".join(texts), tuple(starts)


def _without_magics(text: str) -> str:
    """Shell lines and magics become `pass`, so that every other line keeps its number."""
    if not re.search(r"(?m)^\s*[%!?]|\?\s*$|=\s*[%!]", text):
        return text
    lines = []
    for line in text.split("\n"):
        is_operator = re.match(r"\s*%\s*[(\w'\"]+.*[)\]]\s*$", line) and not re.match(r"\s*%[a-z_]+(\s|$)", line)
        magic = None if is_operator else _MAGIC.match(line)
        assigned = _ASSIGNED_MAGIC.match(line)
        lines.append(f"{magic[1]}pass" if magic else f"{assigned[1]}= None" if assigned else line)
    return "\n".join(lines)


def _parsed(text: str) -> ast.Module | int:
    """The tree, or the line at which it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1


_REWRITES = (
    (re.compile(r"^(\s*(?:.*:\s+)?)print\s*>>\s*[\w.]+\s*,?(.*)$"), r"\1print(\2)"),
    (re.compile(r"^(\s*except\s+[\w.() ,]+?)\s*,\s*(\w+)\s*:"), r"\1 as \2:"),
    (re.compile(r"^(\s*raise\s+[\w.]+)\s*,\s*([^,]+)$"), r"\1(\2)"),
    (re.compile(r"^(\s*)exec\s+([^(].*)$"), r"\1pass"),
    (re.compile(r"\b(\d+)[lL]\b"), r"\1"),
    (re.compile(r"(?<![\w.])0(\d+)(?![\w.])"), r"0o\1"),
    (re.compile(r"<>"), "!="),
    (re.compile(r"\bur(['\"])"), r"r\1"),
    (re.compile(r"`([^`]+)`"), r"repr(\1)"),
)
_OLD_WORD = re.compile(r"\s*(print|except|raise|exec)\b")
_PRINT = re.compile(r"^(\s*(?:(?:if|else|elif|for|while|try|with)\b.*:\s*)?)print(?:\s+(?!=)(.*)|\s*)$")


def _modern_line(line: str) -> str:
    """A line of Python 2 as Python 3 has it; other lines as they are."""
    if re.match(r"\s*print\b", line) or ": print " in line:
        found = _PRINT.match(line)
        if found and not (found[2] or "").startswith(("(", ">>")):
            rest = re.sub(r"\s+#[^'\"]*$", "", found[2] or "").rstrip().rstrip(",").rstrip(";")
            closed = rest.count("(") <= rest.count(")") and not rest.endswith("\\")
            return f"{found[1]}print({rest})" if closed else f"{found[1]}{rest}"
    for pattern, replacement in _REWRITES:
        line = pattern.sub(replacement, line)
    return line


def _leave_out(lines: list[str], at: int) -> int:
    """Replace the line that cannot be read (the one before, where that is empty); its number."""
    place = min(max(at, 1), len(lines)) - 1
    while place > 0 and lines[place].strip() in ("", "pass"):
        place -= 1
    line = lines[place]
    indent = line[: len(line) - len(line.lstrip())]
    opens_block = line.rstrip().endswith(":") and not re.match(r"\s*(else|elif|except|finally)\b", line)
    lines[place] = f"{indent}if True:" if opens_block and line.strip() != "if True:" else f"{indent}pass"
    if line.strip() in ("if True:", "pass"):
        lines[place] = ""
    return place + 1


def _piece_by_piece(lines: list[str]) -> tuple[ast.Module, list[int]]:
    """Statement after statement, each from one line without indent to the next; the lines of those left out."""
    starts = [place for place, line in enumerate(lines) if re.match(r"[^\s#)\]}]", line)]
    starts = [place for place in starts if not re.match(r"(else|elif|except|finally)\b", lines[place])]
    body: list[ast.stmt] = []
    left_out: list[int] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        piece = _parsed("\n".join(lines[start:end]))
        if isinstance(piece, ast.Module):
            body += [ast.increment_lineno(statement, start) for statement in piece.body]
        else:
            left_out.append(start + 1)
    return ast.Module(body=body, type_ignores=[]), left_out


def _what_was_left_out(places: list[int], lines: list[str], is_python2: bool) -> tuple[str, ...]:
    notes = ["what only Python 2 understands: the program was read statement by statement"] if is_python2 else []
    places = sorted({place for place in places if lines[place - 1].strip() not in ("", "pass")})
    if places:
        shown = ", ".join(map(str, places[:8])) + (" ..." if len(places) > 8 else "")
        notes.append(f"line {shown}: no valid Python")
    return tuple(notes)
