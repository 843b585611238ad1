"""Call: a call with its arguments evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fovea.diagnosis.script.values import UNKNOWN


@dataclass(frozen=True)
class Call:
    """A call: its line, its arguments and the names that its result is given."""

    line: int
    args: list[Any]
    keywords: dict[str, Any]
    hint: tuple[str, ...] = ()
    node: ast.Call | None = None

    def get(self, name: str, place: int | None = None, default: Any = UNKNOWN) -> Any:
        """An argument by its name, else by its place."""
        if name in self.keywords:
            return self.keywords[name]
        return self.args[place] if place is not None and place < len(self.args) else default

    def first(self, names: Iterable[str], place: int | None = None, default: Any = UNKNOWN) -> Any:
        """The first of several spellings that is given."""
        for name in names:
            if name in self.keywords:
                return self.keywords[name]
        return self.args[place] if place is not None and place < len(self.args) else default

    def values(self) -> list[Any]:
        """All that is passed."""
        return [*self.args, *self.keywords.values()]

    def line_of(self, name: str) -> int:
        """The line of a keyword, else of the call."""
        for keyword in self.node.keywords if self.node else ():
            if keyword.arg == name:
                return keyword.value.lineno
        return self.line
