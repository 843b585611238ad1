"""What stands after --set: key=value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from fovea.errors import SettingsError


def parse_assignments(
    assignments: list[str], reserved: Collection[str] = (), given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """["lr=.01", "optimizer.momentum=0.9"] -> {"lr": ".01", ...}, values read as YAML.

    Args:
        reserved: names that have an option or argument of their own.
        given: settings by options of their own, which come before them.

    Raises:
        SettingsError: for an entry that is not key=value, a reserved name, or a setting with two values.
    """
    changes: dict[str, Any] = dict(given or {})
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {assignment!r} is not of the form key=value, for example lr=0.01.")
        if key.strip() in reserved:
            raise SettingsError(
                f"--set {assignment!r}: {key.strip()} is no setting of a recipe; see fovea train --help."
            )
        value = _value(text)
        if key.strip() in changes and changes[key.strip()] != value:
            raise SettingsError(
                f"{key.strip()} is given twice, as {changes[key.strip()]!r} and as {value!r}: leave one out."
            )
        changes[key.strip()] = value
    return changes


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return text


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
