"""Text that is not quite today's Python: notebooks with magics, Python 2, statements that nobody can read.

Python 2 is rewritten where that can be done statement by statement (print, except, raise, exec, octal and long
numbers, backquotes); a statement that still cannot be read is left out, and its line is named.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

MOST_REPAIRS = 40
_SCAN = re.compile(
    r"(?P<triple>\"\"\"|''')|(?P<string>\"(?:\\[\s\S]|[^\"\\\n])*\"?|'(?:\\[\s\S]|[^'\\\n])*'?)"
    r"|(?P<comment>#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<join>\\\n)|(?P<newline>\n)"
)
_BEGINS = re.compile(r"(def|class|import|from|return|try|while|with|print|raise|for|if)\b|[^\n#=]+\s=\s|[\w.]+\(")
_GOES_ON = re.compile(r"\s*(else|elif|except|finally)\b")
_MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\?+\s*$)")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w, ]+)=\s*[%!].*")
_IN_STRINGS_TOO = (
    (re.compile(r"^(\s*except\s+[\w.() ,]+?)\s*,\s*(\w+)\s*:"), r"\1 as \2:"),
    (re.compile(r"^((?:\s*\w[^'\"]*:)?\s*raise\s+[\w.]+)\s*,\s*([\s\S]+)$"), r"\1(\2)"),
    (re.compile(r"^(\s*)exec\s+([^(][\s\S]*)$"), r"\1pass"),
)
_OUTSIDE_STRINGS = (
    (re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[lL]\b"), r"\1"),
    (re.compile(r"(?<![\w.])0(\d+)(?![\w.])"), r"0o\1"),
    (re.compile(r"<>"), "!="),
    (re.compile(r"`([^`]+)`"), r"repr(\1)"),
    (re.compile(r"\b[uU][rR]$"), "r"),
)
_PRINT = re.compile(r"^(\s*(?:(?:if|else|elif|for|while|try|with)\b[^\n]*?:\s*)?)print\b(?!\s*=)([\s\S]*)$")
_OLD_WORD = re.compile(r"\s*(.*:\s*)?(print|except|raise|exec)\b")


@dataclass
class _Piece:
    """A statement, or the head of one with a block: its first line (from 1) and its text, which may span lines."""

    line: int
    text: str
    is_left_out: bool = False

    @property
    def last_line(self) -> int:
        return self.line + self.text.count("\n")


def parse_text(text: str) -> tuple[ast.Module, tuple[str, ...], bool]:
    """The syntax tree of a text, what was left out of it in words, and whether it is Python 2."""
    tree = _parsed(text)
    if isinstance(tree, ast.Module):
        return tree, (), False
    without = without_magics(text)
    tree = _parsed(without)
    if isinstance(tree, ast.Module):
        return tree, (), False
    pieces = _pieces(without.expandtabs(8))
    is_python2 = False
    for piece in pieces:
        modern = modern_statement(piece.text)
        is_python2 |= modern != piece.text and _OLD_WORD.match(piece.text) is not None
        piece.text = modern
    for _ in range(MOST_REPAIRS):
        tree = _parsed(_text_of(pieces))
        if isinstance(tree, ast.Module):
            return tree, _in_words(pieces, is_python2), is_python2
        _mend(pieces, tree)
    tree = _one_by_one(pieces)
    return tree, _in_words(pieces, is_python2), is_python2


def without_magics(text: str) -> str:
    """Shell lines and magics become `pass`, so that every other line keeps its number."""
    if text.lstrip().startswith("%%"):
        first = text.lstrip().split(None, 1)[0]
        if first not in ("%%time", "%%timeit", "%%capture"):
            return "\n" * text.count("\n")
    if isinstance(_parsed(text), ast.Module):
        return text
    lines = []
    for line in text.split("\n"):
        timed = re.match(r"^(\s*)%time\s+(.*)$", line)
        magic, assigned = _MAGIC.match(line), _ASSIGNED_MAGIC.match(line)
        is_operator = re.match(r"\s*%\s*[(\w'\"]+.*[)\]]\s*$", line) and not re.match(r"\s*%[a-z_]+(\s|$)", line)
        if timed and timed[2].strip():
            lines.append(timed[1] + timed[2])
        elif assigned:
            lines.append(f"{assigned[1]}= None")
        else:
            lines.append(f"{magic[1]}pass" if magic and not is_operator else line)
    return "\n".join(lines)


def modern_statement(text: str) -> str:
    """A statement of Python 2 as Python 3 has it; others as they are."""
    found = _PRINT.match(text)
    if found and not _is_call(found[2].strip()):
        rest = re.sub(r"^\s*>>\s*[\w.]+\s*,?", "", _without_comment(found[2])).strip().rstrip(",;")
        return _outside_strings(f"{found[1]}print({rest})")
    for pattern, replacement in _IN_STRINGS_TOO:
        text = pattern.sub(replacement, text)
    return _outside_strings(text)


def _is_call(rest: str) -> bool:
    """Whether what follows `print` is one pair of parentheses."""
    if not rest.startswith("("):
        return False
    depth = 0
    for found in _SCAN.finditer(rest):
        depth += (found.lastgroup == "open") - (found.lastgroup == "close")
        if depth == 0 and found.lastgroup == "close":
            return not re.match(r"\s*[%,.+]", rest[found.end() :])
    return True


def _without_comment(text: str) -> str:
    for found in _SCAN.finditer(text):
        if found.lastgroup == "comment" and "\n" not in text[found.start() :]:
            return text[: found.start()]
    return text


def _outside_strings(text: str) -> str:
    """Numbers, operators and backquotes of Python 2 rewritten, but not within texts and comments."""
    parts, at = [], 0
    for found in _SCAN.finditer(text):
        if found.lastgroup in ("string", "comment", "triple"):
            parts += [_rewritten(text[at : found.start()]), found[0]]
            at = found.end()
    return "".join([*parts, _rewritten(text[at:])])


def _rewritten(code: str) -> str:
    for pattern, replacement in _OUTSIDE_STRINGS:
        code = pattern.sub(replacement, code)
    return code


def _parsed(text: str) -> ast.Module | SyntaxError:
    """The tree, or the error that says where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):
        return SyntaxError("too deeply nested")


def _pieces(text: str) -> list[_Piece]:
    """The text statement by statement; a bracket that is never closed ends where another statement begins."""
    pieces, start, depth, at = [], 0, 0, 0
    while at < len(text):
        found = _SCAN.search(text, at)
        if found is None:
            break
        at = found.end()
        if found.lastgroup == "triple":
            end = text.find(found[0], at)
            at = len(text) if end < 0 else end + 3
        elif found.lastgroup == "open":
            depth += 1
        elif found.lastgroup == "close":
            depth = max(0, depth - 1)
        elif found.lastgroup == "newline":
            if depth and _begins_anew(text, start, at):
                depth = 0
            if not depth:
                pieces.append(text[start : at - 1])
                start = at
    pieces.append(text[start:])
    lines, line = [], 1
    for piece in pieces:
        lines.append(_Piece(line, piece))
        line += piece.count("\n") + 1
    return lines


def _begins_anew(text: str, start: int, at: int) -> bool:
    """Whether the line at `at` is a statement of its own although a bracket is open since the one at `start`."""
    line = text[at : text.find("\n", at) if "\n" in text[at:] else len(text)]
    indent, opened = len(line) - len(line.lstrip()), text[start:at]
    return indent <= len(opened) - len(opened.lstrip()) and _BEGINS.match(line.lstrip()) is not None


def _text_of(pieces: list[_Piece]) -> str:
    return "\n".join(piece.text for piece in pieces)


def _mend(pieces: list[_Piece], error: SyntaxError) -> None:
    """Leave out the statement that cannot be read, or give a head without a block an empty one."""
    empty = re.search(r"expected an indented block after .* on line (\d+)", error.msg or "")
    line = int(empty[1]) if empty else error.lineno or 1
    place = next((at for at, piece in enumerate(pieces) if piece.line <= line <= piece.last_line), len(pieces) - 1)
    if empty:
        pieces[place].text += " pass"
        return
    while place > 0 and not pieces[place].text.strip():
        place -= 1
    piece = pieces[place]
    indent = piece.text[: len(piece.text) - len(piece.text.lstrip())]
    rest = "\n" * piece.text.count("\n")
    if piece.is_left_out:
        piece.text = rest
    elif _without_comment(piece.text).rstrip().endswith(":"):
        piece.text = f"{indent}if True:{rest}"
    else:
        piece.text = f"{indent}pass{rest}"
    piece.is_left_out = True


def _one_by_one(pieces: list[_Piece]) -> ast.Module:
    """Statement after statement, each from one that is not indented to the next; the others are left out."""
    starts = [
        at for at, piece in enumerate(pieces) if re.match(r"[^\s#)\]}]", piece.text) and not _GOES_ON.match(piece.text)
    ]
    body: list[ast.stmt] = []
    for start, end in zip(starts, [*starts[1:], len(pieces)], strict=True):
        tree = _parsed(_text_of(pieces[start:end]))
        if isinstance(tree, ast.Module):
            body += [ast.increment_lineno(statement, pieces[start].line - 1) for statement in tree.body]
        else:
            pieces[start].is_left_out = True
    return ast.Module(body=body, type_ignores=[])


def _in_words(pieces: list[_Piece], is_python2: bool) -> tuple[str, ...]:
    notes = ["what only Python 2 understands: the program was read statement by statement"] if is_python2 else []
    lines = [piece.line for piece in pieces if piece.is_left_out]
    if lines:
        shown = ", ".join(map(str, lines[:8])) + (" ..." if len(lines) > 8 else "")
        notes.append(f"line {shown}: no valid Python")
    return tuple(notes)
