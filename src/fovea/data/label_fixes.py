"""Label fixes: a CSV that says which labels to change and which images to leave out."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import RawData
from fovea.data.split import Split
from fovea.data.tree import listed
from fovea.errors import DataError

COLUMNS = ("part", "id", "index", "given", "suggested", "p_given", "p_suggested", "action")
_NEEDED = ("id", "given", "suggested", "action")
_ACTIONS = ("", "fix", "exclude")


@dataclass(frozen=True, eq=False)
class LabelFixes:
    """What a file of label fixes says of data.

    Attributes:
        sha256: of the file (hex).
        changed: part -> (rows int64 [n], their new class indices int64 [n]).
        excluded: part -> rows int64 [n].
    """

    sha256: str
    changed: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    excluded: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def labels(self, labels: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """Part -> class indices, with the changes."""
        fixed = dict(labels)
        for part, (rows, classes) in self.changed.items():
            fixed[part] = labels[part].copy()
            fixed[part][rows] = classes
        return fixed

    def without_excluded(self, split: Split) -> Split:
        """The split without the images that are left out; the others stay where they are."""
        indices = {
            name: rows[~np.isin(rows, self.excluded.get(split.sources[name], np.empty(0, np.int64)))]
            for name, rows in split.indices.items()
        }
        return Split(split.sources, indices, split.split_seed)

    @property
    def counts(self) -> dict[str, int]:
        """{"changed", "excluded"}: how many images."""
        return {
            "changed": sum(len(rows) for rows, _ in self.changed.values()),
            "excluded": sum(map(len, self.excluded.values())),
        }


def read_label_fixes(
    path: str | Path,
    raw: RawData,
    labels: Mapping[str, NDArray[np.int64]],
    classes: tuple[str, ...],
    sha256: str | None = None,
) -> LabelFixes:
    """Read a file of label fixes and hold it against the data.

    Args:
        labels: part -> class indices, as they were read.
        sha256: that the file had when its settings were written down; None: not known.

    Raises:
        DataError: names the line that does not fit the data, or says that the file is no such file or has changed.
    """
    text, digest = _read(Path(path).expanduser())
    if sha256 not in (None, digest):
        raise DataError(
            f"{path} is not the file that these settings were written with: its sha256 is {digest[:12]}..., not "
            f"{str(sha256)[:12]}.... Restore it, or name it anew: --set label_fixes={path}"
        )
    header, rows = _table(text, path)
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: expected a file that `fovea data DATA --labels` wrote, with "
            f"the columns {', '.join(COLUMNS)}."
        )
    places: dict[str, dict[str, int]] = {}
    seen: dict[tuple[str, int], tuple[str, int | None]] = {}
    for number, row in enumerate(rows, 2):
        part = row.get("part") or "train"
        action = (row["action"] or "").strip().lower()
        where = f"{path}, line {number}"
        if action not in _ACTIONS:
            raise DataError(f"{where}: the action {row['action']!r} is none of fix, exclude and nothing.")
        if part not in labels:
            raise DataError(f"{where}: {raw.name} has no part {part!r}, only {', '.join(labels)}.")
        if part not in places:
            places[part] = _places(raw.parts[part].ids)
        place = _place(row, places[part], raw.parts[part].ids, f"{where}: {raw.name} ({part})")
        _check_given(row, classes[labels[part][place]], where)
        new = _class_of(row["suggested"], classes, where) if action == "fix" else None
        if seen.setdefault((part, place), (action, new)) != (action, new):
            raise DataError(f"{where}: image {row['id']!r} stands there twice, with different actions.")
    return _fixes(digest, seen)


def _read(path: Path) -> tuple[str, str]:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
    except (OSError, ValueError) as error:
        reason = "it is no UTF-8 text" if isinstance(error, ValueError) else getattr(error, "strerror", error)
        raise DataError(f"The label fixes {path} cannot be read: {reason}.") from None


def _table(text: str, path: str | Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and the rows of a CSV as any program saves it: CR alone, or semicolons."""
    delimiter = max(",;\t", key="".join(text.splitlines()[:1]).count)
    reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
    try:
        return list(reader.fieldnames or []), list(reader)
    except csv.Error as error:
        raise DataError(
            f"The label fixes {path} cannot be read, at line {reader.reader.line_num}: {error}. Is a quote left open?"
        ) from None


def _places(ids: NDArray[Any]) -> dict[str, int]:
    """Id -> row, of those that are there once."""
    names, first, counts = np.unique(np.asarray(ids, np.str_), return_index=True, return_counts=True)
    return dict(zip(names[counts == 1].tolist(), first[counts == 1].tolist(), strict=True))


def _place(row: Mapping[str, Any], places: Mapping[str, int], ids: NDArray[Any], where: str) -> int:
    """The row of the image that a line of the file names: by its id, or its index where several have that id."""
    name = str(row["id"])
    if name in places:
        return places[name]
    index = str(row.get("index") or "")
    if index.isascii() and index.isdigit() and int(index) < len(ids) and str(ids[int(index)]) == name:
        return int(index)
    raise DataError(f"{where} has no image {name!r}. The file belongs to other data.")


def _check_given(row: Mapping[str, Any], label: str, where: str) -> None:
    if row["given"] != label:
        raise DataError(
            f"{where}: image {row['id']!r} has the label {label!r} in this data, not {row['given']!r}. The file "
            "belongs to other data, or the data has been mended since."
        )


def _class_of(name: str | None, classes: tuple[str, ...], where: str) -> int:
    wanted = (name or "").strip()
    if wanted not in classes:
        raise DataError(f"{where}: the suggested label {wanted!r} is no class of this data: {listed(classes)}.")
    return classes.index(wanted)


def _fixes(digest: str, seen: Mapping[tuple[str, int], tuple[str, int | None]]) -> LabelFixes:
    parts = list(dict.fromkeys(part for part, _ in seen))
    changed, excluded = {}, {}
    for part in parts:
        marked = {place: new for (of, place), (action, new) in seen.items() if of == part and action == "fix"}
        left_out = [place for (of, place), (action, _) in seen.items() if of == part and action == "exclude"]
        if marked:
            changed[part] = (np.array(list(marked), np.int64), np.array(list(marked.values()), np.int64))
        if left_out:
            excluded[part] = np.array(sorted(left_out), np.int64)
    return LabelFixes(digest, changed, excluded)
