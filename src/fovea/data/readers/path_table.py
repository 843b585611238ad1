"""Tables of paths: one line an image file, with its label, and perhaps the split it belongs to."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fovea.data.archives import open_unpacked
from fovea.data.csv_text import LABEL_NAMES, Head, blocks, chosen_column, group_column_of, parse_cells, skip_head
from fovea.data.decode import has_image_suffix
from fovea.data.imageset import RawSet
from fovea.data.labels import SPLIT_NAMES
from fovea.data.options import ReadOptions
from fovea.data.pixel_cache import decode_images
from fovea.data.tree import Stamp, Tree, listed_lines, stamp_of
from fovea.errors import DataError

_SPLIT_COLUMNS = {"split", "set", "subset", "partition", "fold", "data set", "dataset", "usage"}


def is_path_table(head: Head) -> bool:
    """Whether the first line of data names an image file."""
    return any(has_image_suffix(cell) for cell in head.first)


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str | None
    part: str
    group: str | None = None


def read_path_table(
    tree: Tree, name: str, head: Head, options: ReadOptions
) -> tuple[dict[str, RawSet], list[str], tuple[tuple[int, int], ...]]:
    """Read a table of paths, whose first lines say `head`, and decode the images that it names.

    Paths are relative to the table's folder.

    Returns:
        Part -> images, labels (None where the table has none) and ids; lines to show; the sizes of the files.

    Raises:
        DataError: for paths that are missing or lead outside the folder, a file listed with two labels, and images
            that cannot be decoded.
    """
    where = tree.where(name)
    rows = _rows(tree, name, head, options)
    found, ids = _files(tree, name, rows, options)
    _check_labels(rows, where)
    order = sorted({row.part for row in rows}, key=["train", "val", "test"].index)
    listed = {part: [i for i, row in enumerate(rows) if row.part == part] for part in order}
    files = [ids[i] for part in order for i in listed[part]]
    pictures = decode_images(found, files, options)
    parts, start = {}, 0
    for part in order:
        chosen = listed[part]
        good = pictures.good(start, start + len(chosen), f"{tree.where(name)} ({part})")
        kept = [rows[chosen[i - start]] for i in good.tolist()]
        labels = None if any(row.label is None for row in kept) else np.array([row.label for row in kept])
        groups = None if options.group_column is None else np.array([row.group for row in kept])
        parts[part] = RawSet(pictures.rows(good), labels, np.array([row.path for row in kept]), groups)
        start += len(chosen)
    return parts, pictures.notes, pictures.sizes


def listed_files(tree: Tree, name: str, head: Head, options: ReadOptions) -> tuple[Tree, list[str], list[str]]:
    """The files that a table names, in its order; its labels and splits are not looked at.

    Returns:
        A tree of the files, the name of each row's file in it, and the path as the row has it.

    Raises:
        DataError: as `read_path_table`, for paths.
    """
    rows = _rows(tree, name, head, options, paths_alone=True)
    found, files = _files(tree, name, rows, options)
    return found, files, [row.path for row in rows]


def _rows(tree: Tree, name: str, head: Head, options: ReadOptions, paths_alone: bool = False) -> list[_Row]:
    where = tree.where(name)
    width = len(head.header or head.first)
    path_column = next(c for c, cell in enumerate(head.first) if has_image_suffix(cell))
    group_column = None if paths_alone else group_column_of(head, options.group_column, where)
    aside = {path_column} if group_column is None else {path_column, group_column}
    label_column = None if paths_alone else _label_column(head, aside, options.label_column, where)
    lower = [] if paths_alone else [cell.lower() for cell in head.header or ()]
    split_column = next((c for c, cell in enumerate(lower) if cell in _SPLIT_COLUMNS), None)
    rows, line = [], 1 if head.header is None else 2
    with open_unpacked(tree, name) as file:
        skip_head(file, head, where)
        for block in blocks(file, where):
            cells, numbers = parse_cells(block, head.delimiter, width, where, line)
            line += block.count(b"\n")
            for row, number in zip(cells, numbers, strict=True):
                part = "train" if split_column is None else SPLIT_NAMES.get(row[split_column].strip().lower(), "")
                if not part:
                    raise DataError(
                        f"{where}, line {number}: the split {row[split_column or 0]!r} is none of train, val and test."
                    )
                label = None if label_column is None else row[label_column].strip()
                if label == "":
                    raise DataError(f"{where}, line {number}: {row[path_column]} has no label.")
                group = None if group_column is None else row[group_column].strip()
                rows.append(_Row(number, row[path_column].strip(), label, part, group))
    if not rows:
        raise DataError(f"{where} names no image.")
    return rows


def _label_column(head: Head, aside: set[int], wanted: str | int | None, where: str) -> int | None:
    width = len(head.header or head.first)
    lower = [cell.lower() for cell in head.header or ()]
    if wanted is not None:
        return chosen_column(head, wanted, where)
    others = [c for c in range(width) if c not in aside and (not lower or lower[c] not in _SPLIT_COLUMNS)]
    named = [c for c in others if lower and lower[c] in LABEL_NAMES]
    candidates = named or others
    if named or len(others) <= 1:
        return candidates[0] if candidates else None
    raise DataError(
        f"{where} has the columns {', '.join(head.header or head.first)}: which of them is the label cannot be told. "
        "Name it: --set data.label_column=NAME (or its number, from 0)."
    )


def _files(tree: Tree, table: str, rows: list[_Row], options: ReadOptions) -> tuple[Tree, list[str]]:
    """A tree of the named files, and the name of each row's file in it."""
    if tree.is_archive:
        return _members(tree, table, rows)
    root = tree.place.absolute() if tree.place.is_dir() else tree.place.absolute().parent
    base = root / PurePosixPath(table).parent if tree.place.is_dir() else root
    real_root = root.resolve()
    stamps: dict[str, Stamp] = {}
    places: dict[str, Path] = {}
    missing: list[str] = []
    ids: list[str] = []
    for row in rows:
        place = base / _local(base, row.path)
        key = str(place)
        if key not in stamps:
            try:
                real = place.resolve()
                inside = real.is_relative_to(real_root)
                status = place.stat() if inside or options.outside_paths else None
            except (OSError, ValueError, RuntimeError):
                inside, status = True, None
            if not inside and not options.outside_paths:
                raise DataError(
                    f"{tree.where(table)}, line {row.line}: {row.path!r} leads out of the table's folder. "
                    "If you trust the table, allow it: --set data.outside_paths=true"
                )
            if status is None or not place.is_file():
                missing.append(f"line {row.line}: {row.path}")
                continue
            stamps[key], places[key] = stamp_of(status), place
        ids.append(key)
    _refuse_missing(tree.where(table), missing)
    return replace(tree, place=base, stamps=stamps, opener=lambda name: places[name].open("rb")), ids


def _local(base: Path, path: str) -> str:
    """A path that was written on Windows, as it is called here."""
    return path.replace("\\", "/") if "\\" in path and not (base / path).exists() else path


def _members(tree: Tree, table: str, rows: list[_Row]) -> tuple[Tree, list[str]]:
    base = PurePosixPath(table).parent
    ids = [os.path.normpath(str(base / row.path.replace("\\", "/"))) for row in rows]
    missing = [f"line {row.line}: {row.path}" for row, name in zip(rows, ids, strict=True) if name not in tree.stamps]
    _refuse_missing(tree.where(table), missing)
    return tree, ids


def _refuse_missing(where: str, missing: list[str]) -> None:
    if missing:
        raise DataError(
            f"{len(missing)} of the files that {where} names are not there (paths are relative to the table):"
            f"\n  {listed_lines(missing)}"
        )


def _check_labels(rows: list[_Row], where: str) -> None:
    first: dict[str, _Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other.label != row.label:
            raise DataError(
                f"{where}, line {row.line}: {row.path} is labelled {row.label!r}, but {other.label!r} in line "
                f"{other.line}."
            )
