"""Extension points are dicts that refuse duplicates and answer an unknown name with the nearest spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fovea.errors import SettingsError

Entry = TypeVar("Entry")


def nearest_name(name: str, choices: Iterable[str]) -> str | None:
    """The choice spelled most like `name`, or None where nothing is close."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def unknown_name(kind: str, name: str, choices: Iterable[str], keras: Mapping[str, str] | None = None) -> SettingsError:
    """The error for a name that is none of `choices`: it offers the nearest one and lists them all.

    Args:
        keras: names of Keras that are spelled like something else here -> what they are here.
    """
    choices = sorted(choices)
    nearest = nearest_name(name, choices)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    if keras and name in keras:
        hint = f" Keras' {name} here: {keras[name]}."
    return SettingsError(f"Unknown {kind} {name!r}.{hint} Choices: {', '.join(choices)}.")


class Registry(dict[str, Entry]):
    """A dict from names to entries of one kind ("model", "optimizer" ...).

    Raises:
        SettingsError: when an unknown name is asked for.
        KeyError: when a name is registered twice.
    """

    def __init__(self, kind: str, entries: dict[str, Entry] | None = None) -> None:
        super().__init__()
        self.kind = kind
        for name, entry in (entries or {}).items():
            self[name] = entry

    def __setitem__(self, name: str, entry: Entry) -> None:
        if name in self:
            raise KeyError(f"The {self.kind} {name!r} is registered already.")
        super().__setitem__(name, entry)

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)
