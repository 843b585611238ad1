"""Groups of images that belong together, such as those of one person: no split cuts a group in two."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import RawData, RawSet
from fovea.errors import DataError, SettingsError


def group_column(groups: str | None) -> str | None:
    """The column of a table that the setting `groups` names; None where it names none."""
    kind, _, value = (groups or "").partition(":")
    return value if kind == "column" else None


def groups_of(raw: RawData, groups: str | None) -> dict[str, NDArray[Any]] | None:
    """Part -> the group of each image, [N] of str; None where the setting `groups` is None.

    Raises:
        SettingsError: for a column where the data is no table.
        DataError: for images whose name the regular expression does not fit.
    """
    if groups is None:
        return None
    kind, _, value = groups.partition(":")
    if kind == "column":
        return {part: _of_column(raw, part, value) for part in raw.parts}
    pattern = re.compile(value)
    return {part: _of_ids(found, pattern, f"{raw.name} ({part})") for part, found in raw.parts.items()}


def _of_column(raw: RawData, part: str, column: str) -> NDArray[Any]:
    found = raw.parts[part].groups
    if found is None:
        raise SettingsError(
            f"groups=column:{column} needs a table with that column, but {raw.name} ({part}) is none ({raw.form}). "
            "Groups can be told by names too: groups=regex:PATTERN."
        )
    return np.asarray(found, np.str_)


def _of_ids(found: RawSet, pattern: re.Pattern[str], where: str) -> NDArray[Any]:
    matches = [pattern.search(str(name)) for name in found.ids]
    bad = [row for row, match in enumerate(matches) if match is None or match.group(1) is None]
    if bad:
        raise DataError(
            f"groups=regex:{pattern.pattern} names no group for {len(bad):,} of {len(matches):,} images of {where}: "
            f"{str(found.ids[bad[0]])!r} is the first."
        )
    return np.array([match.group(1) for match in matches if match is not None], np.str_)
