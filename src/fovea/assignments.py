"""What stands after --set: key=value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import yaml

from fovea.errors import SettingsError


def parse_assignments(assignments: list[str], reserved: Collection[str] = ()) -> dict[str, Any]:
    """["lr=.01", "optimizer.momentum=0.9"] -> {"lr": ".01", ...}, values read as YAML.

    Args:
        reserved: names that have an option or argument of their own.

    Raises:
        SettingsError: for an entry that is not key=value, or a reserved name.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {assignment!r} is not of the form key=value, for example lr=0.01.")
        if key.strip() in reserved:
            raise SettingsError(
                f"--set {assignment!r}: {key.strip()} is no setting of a recipe; see fovea train --help."
            )
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            changes[key.strip()] = text
    return changes


def parse_varied(assignments: list[str]) -> dict[str, list[Any]]:
    """["augmentation=none,digits"] -> {"augmentation": ["none", "digits"]}, the values read as a YAML list.

    Raises:
        SettingsError: for an entry that is not key=value,value.
    """
    varied: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]")
        except (yaml.YAMLError, RecursionError):
            values = []
        if not equals or not key.strip() or not isinstance(values, list) or len(values) < 2:
            raise SettingsError(f"--vary {assignment!r} is not of the form key=value,value, for example lr=0.01,0.03.")
        varied[key.strip()] = values
    return varied
