"""What stands after --set: key=value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from fovea.errors import SettingsError
from fovea.settings import setting_path


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
        _add(changes, key.strip(), _value(text))
    return changes


def _add(changes: dict[str, Any], name: str, value: Any) -> None:
    """Add a setting, unless it is there with another value, by whichever of its names."""
    for known, before in changes.items():
        if _path(known) == _path(name) and before != value:
            raise SettingsError(f"{name} is given twice, as {before!r} and as {value!r}: leave one out.")
    changes[name] = value


def _path(name: str) -> str:
    try:
        return setting_path(name)
    except SettingsError:  # said where all settings are checked
        return name


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
