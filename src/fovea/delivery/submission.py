"""Kaggle's form of a submission: ids and labels, in the order of sample_submission.csv where one lies beside."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fovea.data.readers.tables import is_sample_submission
from fovea.data.tree import listed, reason_of
from fovea.errors import DataError
from fovea.files import csv_table

HEADER = ("ImageId", "Label")
_SHOWN = 5


@dataclass(frozen=True)
class Sample:
    """A sample_submission.csv: its path, the names of its two columns, its ids as they are written."""

    path: Path
    header: tuple[str, str]
    ids: list[str]


def find_sample(place: Path) -> Sample | None:
    """The sample submission in a folder, else beside it; of a file the one beside it.

    Raises:
        DataError: when it cannot be read or has other columns than an id and a label.
    """
    folders = [place] if place.is_dir() else []
    folders.append(place.resolve().parent)
    for folder in folders:
        for path in _listing(folder):
            if is_sample_submission(path.name) and path.is_file():
                return _read_sample(path)
    return None


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # what cannot be listed holds no sample that could be read


def _read_sample(path: Path) -> Sample:
    try:
        rows = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}.") from None
    if not rows or any(len(row) != 2 for row in rows):
        raise DataError(
            f"{path} has other columns than an id and a label, and is the form that the submission should have: "
            "Fovea writes one label an image. Move it away to have ids and labels written anyway."
        )
    return Sample(path, (rows[0][0], rows[0][1]), [row[0] for row in rows[1:]])


def submission_table(ids: Sequence[str] | None, labels: Sequence[str], sample: Sample | None) -> str:
    """The text of a submission.

    Args:
        ids: of the images; None: they have no names, and are numbered from 1 (from 0 where the sample does so).
        labels: of the images, in the order of the input.
        sample: gives the names of the columns, the ids and their order.

    Raises:
        DataError: when the ids are not those of the sample, or one is there twice.
    """
    own = list(ids) if ids is not None else [str(number) for number in range(1, len(labels) + 1)]
    if len(set(own)) < len(own):
        seen: set[str] = set()
        twice = next(name for name in own if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DataError(f"The id {twice!r} is there twice: a submission needs each once.")
    if sample is None:
        return csv_table(HEADER, list(zip(own, labels, strict=True)))
    if ids is None and set(sample.ids) == {str(number) for number in range(len(labels))}:
        own = [str(number) for number in range(len(labels))]
    rows = _rows_of(sample, own)
    return csv_table(sample.header, [(name, labels[row]) for name, row in zip(sample.ids, rows, strict=True)])


def _rows_of(sample: Sample, own: list[str]) -> list[int]:
    """For each id of the sample the number of its image; by the whole id, by a file's name, by that without suffix."""
    ways: list[Callable[[str], str]] = [
        str,
        lambda name: PurePosixPath(name).name,
        lambda name: PurePosixPath(name).stem,
    ]
    for way in ways:
        row_of = {way(name): row for row, name in enumerate(own)}
        wanted = [way(name) for name in sample.ids]
        if len(row_of) == len(own) == len(wanted) and row_of.keys() == set(wanted):
            return [row_of[name] for name in wanted]
    there, here = dict.fromkeys(sample.ids), dict.fromkeys(own)
    missing, extra = [name for name in there if name not in here], [name for name in here if name not in there]
    found = [f"{len(sample.ids):,} ids there, {len(own):,} images here"]
    found += [f"no image for {listed(missing, _SHOWN)}"] if missing else []
    found += [f"not in it {listed(extra, _SHOWN)}"] if extra else []
    raise DataError(
        f"The images do not fit {sample.path}: {'; '.join(found)}. Give the input that this sample belongs to, or move "
        "the sample away."
    )
