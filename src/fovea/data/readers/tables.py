"""CSV files, one or several: which part each one is, and whether its lines hold pixels or paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from fovea.data.csv_text import Head, read_head
from fovea.data.decode import has_image_suffix
from fovea.data.imageset import RawData, RawSet
from fovea.data.labels import SPLIT_NAMES
from fovea.data.options import ReadOptions
from fovea.data.readers.folder import has_class_folders
from fovea.data.readers.path_table import is_path_table, read_path_table
from fovea.data.readers.pixel_table import is_pixel_table, read_pixel_table
from fovea.data.tree import Tree
from fovea.errors import DataError

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bz2", ".csv.xz")

_LEAST_COLUMNS = 50  # a table of 7 x 7 images and their label


@dataclass(frozen=True)
class Table:
    """A file with a table of pixels or of paths, and what its first lines say."""

    name: str
    kind: Literal["pixels", "paths"]
    head: Head


def recognises_tables(tree: Tree) -> bool:
    """Whether a tree has a table of pixels or paths at its top."""
    tables = tables_of(tree)
    if tables and all(_is_beside_the_point(table) for table in tables) and has_class_folders(tree):
        return False
    return bool(tables) or _is_table_by_name(tree)


def _is_beside_the_point(table: Table) -> bool:
    """Whether class folders may lie beside a table: it repeats them, or holds other numbers than images."""
    return _repeats_folders(table) if table.kind == "paths" else len(table.head.first) < _LEAST_COLUMNS


def _repeats_folders(table: Table) -> bool:
    """Whether a table of paths says only what the class folders say."""
    first = table.head.first
    for column, cell in enumerate(first):
        if has_image_suffix(cell):
            return PurePosixPath(cell).parent.name in (*first[:column], *first[column + 1 :])
    return False


def _is_table_by_name(tree: Tree) -> bool:
    """A single file that is called a table is read as one, so that what is wrong with it is said."""
    names = _candidates(tree)
    return len(tree.stamps) == len(names) == 1 and names[0].lower().endswith(_SUFFIXES)


def _candidates(tree: Tree) -> list[str]:
    names = [name for name in tree.stamps if "/" not in name]
    if len(tree.stamps) == 1:  # told by its content, whatever its name
        return names
    return [name for name in names if name.lower().endswith(_SUFFIXES) and not is_sample_submission(name)]


def tables_of(tree: Tree) -> list[Table]:
    """The tables at the top of a tree but for an example of a submission; of a single file, whatever its name."""
    found = []
    for name in _candidates(tree):
        head = read_head(tree, name)
        if head is not None and (kind := _kind(head)) is not None:
            found.append(Table(name, kind, head))
    return found


def is_sample_submission(name: str) -> bool:
    """Whether a file is called like the example of a submission that comes with Kaggle's data."""
    return re.fullmatch(r"sample[-_ ]?submission\.csv", name, re.IGNORECASE) is not None


def table_to_answer(tree: Tree, beside_images: bool = False) -> Table | None:
    """The table whose images are to be answered: the only one, or the one called test; None: there is none.

    A single file may also be a list of paths, one a line. Beside image files, small tables say something about these.

    Raises:
        DataError: when several could be meant.
    """
    found = tables_of(tree)
    if beside_images:
        found = [table for table in found if table.kind == "pixels" and len(table.head.first) >= _LEAST_COLUMNS]
    if not found and len(tree.stamps) == 1:
        (name,) = tree.stamps
        head = read_head(tree, name, least_columns=1)
        return Table(name, "paths", head) if head is not None and is_path_table(head) else None
    if len(found) > 1:
        called_test = [table for table in found if _part_by_name(table.name) == "test"]
        if len(called_test) != 1:
            listed = ", ".join(table.name for table in found)
            raise DataError(f"{tree.place} holds the tables {listed}: name the one that is meant.")
        return called_test[0]
    return found[0] if found else None


def _part_by_name(name: str) -> str | None:
    words = re.split(r"[^a-z]+", PurePosixPath(name).name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _kind(head: Head) -> Literal["pixels", "paths"] | None:
    if is_path_table(head):
        return "paths"
    return "pixels" if is_pixel_table(head) else None


def read_tables(tree: Tree, options: ReadOptions) -> RawData:
    """Read the tables of a folder or archive, or a single one.

    Raises:
        DataError: for a damaged table, or several of which it cannot be told which is meant.
    """
    tables = tables_of(tree)
    if not tables:
        name = next(iter(tree.stamps))
        head = read_head(tree, name) if tree.size(name) else None
        if not tree.size(name) or (head is not None and head.header is not None and not any(head.first)):
            raise DataError(f"{tree.where(name)} holds no line of data.")
        start = tree.head(name, 10_000)
        if b"\r" in start and b"\n" not in start:
            raise DataError(f"{tree.where(name)} has line ends of CR alone: save it as CSV with LF or CRLF.")
        raise DataError(
            f"{tree.where(next(iter(tree.stamps)))} is no table of images: expected lines of pixel values 0 to 255 "
            "with a label (784 or 3072 of them, say), or lines of path,label that name image files."
        )
    by_part = _by_part(tree, tables)
    if by_part["train"].kind == "paths":
        _refuse_folders_too(tree, by_part["train"].name)
    parts: dict[str, RawSet] = {}
    notes: list[str] = []
    sizes: tuple[tuple[int, int], ...] = ()
    for part, table in by_part.items():
        if table.kind == "paths":
            found, lines, own_sizes = read_path_table(tree, table.name, table.head, options)
            sizes = tuple(dict.fromkeys([*sizes, *own_sizes]))[:3]
            named = {part if own == "train" else own: images for own, images in found.items()}
            if twice := sorted(named.keys() & parts.keys()):
                raise DataError(
                    f"{tree.place}: {table.name} names {twice[0]} images, and another table does so too: name one "
                    "of them."
                )
            parts |= named
        else:
            parts[part], lines = read_pixel_table(tree, table.name, table.head, options)
        notes += lines
        if part != "train" and part in parts and parts[part].labels is None:
            del parts[part]
            notes.append(f"{table.name} has no labels: it is for predictions, not for a test, and was left out")
    form = "CSV of paths" if by_part["train"].kind == "paths" else "CSV of pixels"
    files = tuple(table.name for table in by_part.values())
    return RawData(tree.name, form, parts, notes=notes, files=files, sizes=sizes)


def _by_part(tree: Tree, tables: list[Table]) -> dict[str, Table]:
    """Part -> its table: a single one is the training part; of several the names say it (train.csv, mnist_test.csv)."""
    if len(tables) == 1:
        return {"train": tables[0]}
    found: dict[str, Table] = {}
    for table in tables:
        part = _part_by_name(table.name)
        if part is None or part in found:
            listed = ", ".join(other.name for other in tables)
            raise DataError(
                f"{tree.place} holds the tables {listed}: which is for training cannot be told. Name one of them, "
                "or call them train.csv, val.csv and test.csv."
            )
        found[part] = table
    if "train" not in found:
        raise DataError(
            f"{tree.place} holds {', '.join(t.name for t in tables)} but no table for training (train.csv)."
        )
    return {part: found[part] for part in ("train", "val", "test") if part in found}


def _refuse_folders_too(tree: Tree, name: str) -> None:
    if len(tree.stamps) > 1 and has_class_folders(tree):
        raise DataError(
            f"{tree.place} can be read in two ways, by its class folders and by the table {name}: name the table "
            "itself, or move it away."
        )
