"""What INPUT means: image files, folders, archives, tables, arrays, data sets by name, stdin -> batches of images."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.archives import COMPRESSIONS
from fovea.data.catalog import CATALOG
from fovea.data.decode import begins_as_image
from fovea.data.imageset import Pixels
from fovea.data.labels import natural_key
from fovea.data.load import exists, only_part, read_raw
from fovea.data.new_images import NewImages
from fovea.data.options import ReadOptions
from fovea.data.readers.cifar import recognises_cifar
from fovea.data.readers.folder import image_files, readable
from fovea.data.readers.idx import begins_as_idx, idx_images_to_answer, read_idx_images, recognises_idx
from fovea.data.readers.npz import array_to_answer, read_npy_header, recognises_npz, stream_npy
from fovea.data.readers.path_table import listed_files
from fovea.data.readers.pixel_table import stream_pixel_table
from fovea.data.readers.recognise import read_tree, tree_at, without_runs
from fovea.data.readers.tables import Table, read_tables, recognises_tables, table_to_answer
from fovea.data.tree import Tree, reason_of, suffix_of
from fovea.delivery.array_inputs import batches_of_array, batches_of_table
from fovea.delivery.image_inputs import Reading, batches_of_files
from fovea.errors import DataError, RunFailedError, SettingsError

STDIN = "-"


@dataclass(frozen=True, eq=False)
class Source:
    """Images to be answered: of one INPUT, or of image files that stand side by side.

    Attributes:
        batches: the images, read when they are asked for.
        numbered: whether the ids only number rows, for the images have no names.
        notes: lines to show; complete once the batches were read.
        place: the file or folder, where there is one on the disk.
    """

    batches: Iterator[NewImages]
    numbered: bool = True
    notes: list[str] = field(default_factory=list)
    place: Path | None = None


@dataclass(frozen=True, eq=False)
class _Opened:
    """An INPUT; `tree` is None for a name of the catalog."""

    text: str
    tree: Tree | None
    is_file: bool

    @property
    def is_image(self) -> bool:
        """Whether it is a single image file."""
        if self.tree is None or not self.is_file:
            return False
        (name,) = self.tree.stamps
        return begins_as_image(self.tree.head(name, 16))


@contextmanager
def opened_sources(places: Sequence[str], reading: Reading) -> Iterator[list[Source]]:
    """Find out what each INPUT is; of several the ids begin with the INPUT's own name.

    Raises:
        DataError: for what is not there or holds no images; what is wrong further on is met by who reads on.
        SettingsError: when an INPUT is given twice.
    """
    if not places:
        raise SettingsError("INPUT is missing: name a file or a folder, or - for what comes through a pipe.")
    real = [place if place == STDIN else str(Path(place).absolute()) for place in places]
    twice, times = Counter(map(os.path.normpath, real)).most_common(1)[0]
    if times > 1:
        raise SettingsError(f"{Path(twice).name} is given twice: name each INPUT once.")
    with ExitStack() as stack:
        opened = [_opened(place, stack) for place in places]
        sources: list[Source] = []
        for are_images, group in groupby(opened, key=lambda one: one.is_image):
            if are_images:
                sources.append(_loose_images(list(group), reading))
                continue
            for one in group:
                source = _source(one, reading)
                sources.append(_prefixed(source, one) if len(opened) > 1 else source)
        yield sources


def _opened(place: str, stack: ExitStack) -> _Opened:
    if place == STDIN:
        return _stdin(stack)
    try:
        path = Path(place).expanduser()
        if not exists(path):
            return _Opened(place, None, False)
        tree = stack.enter_context(tree_at(path))
    except (OSError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} cannot be read: {reason_of(error)}.") from None
    return _Opened(place, tree, path.is_file() and not tree.is_archive)


def _stdin(stack: ExitStack) -> _Opened:
    """What comes through a pipe, kept in a file meanwhile: it may be larger than memory, and is read twice."""
    if sys.stdin is None:
        raise DataError("stdin is closed: nothing can come through it.")
    place = "a temporary folder"
    try:
        place = tempfile.gettempdir()
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fovea-"))) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    except OSError as error:
        raise RunFailedError(
            f"What came through stdin could not be kept in {place}: {error.strerror or error}. Make room there, or "
            "name another folder by TMPDIR."
        ) from None
    if path.stat().st_size == 0:
        raise DataError("stdin is empty: nothing came through the pipe.")
    tree = stack.enter_context(tree_at(path))
    return _Opened(STDIN, replace(tree, place=Path("stdin")), not tree.is_archive)


def _loose_images(opened: list[_Opened], reading: Reading) -> Source:
    """Image files that were named one by one, as if they lay in one folder."""
    places = {one.text: one.tree for one in opened if one.tree is not None}
    stamps = {text: next(iter(tree.stamps.values())) for text, tree in places.items()}
    tree = Tree("images", Path(), stamps, lambda text: places[text].open(next(iter(places[text].stamps))))
    first = opened[0].tree
    return _files(tree, list(stamps), list(stamps), reading, None if first is None else first.place)


def _prefixed(source: Source, one: _Opened) -> Source:
    start = one.text.rstrip("/") + ("/" if one.tree is not None and not one.is_file else ":")

    def batches() -> Iterator[NewImages]:
        for new in source.batches:
            yield replace(new, ids=np.array([f"{readable(start)}{image}" for image in new.ids.tolist()]))

    return replace(source, batches=batches())


def _source(one: _Opened, reading: Reading) -> Source:
    if one.tree is None:
        return _data_set(one.text, reading)
    if one.is_file:
        return _of_file(one.tree, reading)
    return _of_tree(one.tree, reading)


def _options(reading: Reading) -> ReadOptions:
    height, width, _ = reading.preprocessor.image_shape
    # The paths in a table may lead anywhere: who names it has written it, and all that is done is to look.
    return ReadOptions((height, width), reading.skip_bad, outside_paths=True, progress=reading.progress)


def _data_set(name: str, reading: Reading) -> Source:
    """A data set of the catalog: its test part where it has one."""
    if name not in CATALOG:
        raise DataError(f"There is no file, folder or data set {name!r} (looked for it from {Path.cwd()}).")
    raw = read_raw(name, _options(reading))
    if "test" not in raw.parts and raw.place is not None and raw.place.is_dir():
        return _of_tree(tree_at(raw.place), reading)  # Kaggle's test images have no labels and are no part of it
    found = only_part(raw, "test")
    return replace(_array(found.images, name, reading), notes=list(raw.notes))


def _of_file(tree: Tree, reading: Reading) -> Source:
    (name,) = tree.stamps
    if tree.size(name) == 0:
        raise DataError(f"{tree.where(name)} is empty (0 bytes).")
    if tree.head(name, 6) == b"\x93NUMPY":
        return _npy(tree, name, reading)
    if begins_as_idx(tree, name):
        return _array(read_idx_images(tree, name), tree.where(name), reading, tree.place)
    if (table := table_to_answer(tree)) is not None:
        return _table(tree, table, reading)
    if recognises_tables(tree):
        read_tables(tree, _options(reading))  # says what is wrong with it
    raise DataError(
        f"{tree.where(name)} is nothing that can be answered: expected an image, a CSV of pixels or of paths, a .npy "
        "or .npz, a file of MNIST's kind, or a zip or tar of these."
    )


def _of_tree(tree: Tree, reading: Reading) -> Source:
    """A folder or an archive: an array, IDX or CIFAR files, a table of pixels, or every image in it."""
    if not tree.stamps:
        raise DataError(f"{tree.place} is empty: it holds no file that is not hidden.")
    tree, runs = without_runs(tree)
    notes = [f"runs of Fovea were left out: {runs}"] if runs else []
    if all(name.endswith(".npy") for name in tree.stamps):
        return _npy(tree, array_to_answer(tree), reading)
    if recognises_idx(tree) and (name := idx_images_to_answer(tree)) is not None:
        return _array(read_idx_images(tree, name), tree.where(name), reading, tree.place)
    if recognises_npz(tree) or recognises_cifar(tree):
        raw = read_tree(tree, _options(reading))
        return replace(_array(only_part(raw, "test").images, str(tree.place), reading), notes=list(raw.notes))
    names = image_files(tree, list(tree.stamps))
    table = table_to_answer(tree, beside_images=bool(names))
    if table is not None:
        return _table(tree, table, reading)
    if names:
        names = names if tree.is_stream else sorted(names, key=natural_key)  # a stream is not read to and fro
        source = _files(tree, names, names, reading, tree.place)
        source.notes.extend([*notes, *_left_out(tree, names)])
        return source
    folders = tree.folders()
    if len(folders) == 1 and "" not in folders:
        return _of_tree(tree.below(next(iter(folders))), reading)
    raise DataError(
        f"{tree.place} holds nothing that can be answered: expected images, a CSV of pixels or of paths, a NumPy "
        "archive, or files of MNIST's or CIFAR's kind."
    )


def _left_out(tree: Tree, names: list[str]) -> list[str]:
    others = sorted({suffix_of(name) or "without suffix" for name in tree.stamps.keys() - set(names)})
    count = len(tree.stamps) - len(names)
    return [f"{count:,} files that are no images were left out: {', '.join(others[:5])}"] if count else []


def _files(tree: Tree, names: list[str], ids: list[str], reading: Reading, place: Path | None) -> Source:
    notes: list[str] = []
    batches = batches_of_files(tree, names, [readable(text) for text in ids], reading, notes)
    return Source(batches, numbered=False, notes=notes, place=place)


def _table(tree: Tree, table: Table, reading: Reading) -> Source:
    if table.kind == "paths":
        found, names, ids = listed_files(tree, table.name, table.head, _options(reading))
        return _files(found, names, ids, reading, tree.place)
    stream = stream_pixel_table(tree, table.name, table.head, reading.preprocessor.image_shape)
    is_packed = tree.head(table.name, 6).startswith(tuple(COMPRESSIONS))
    num_bytes = 0 if is_packed else tree.size(table.name)
    batches = batches_of_table(stream, tree.where(table.name), num_bytes, reading)
    return Source(batches, not stream.has_ids, list(stream.notes), tree.place)


def _npy(tree: Tree, name: str, reading: Reading) -> Source:
    header = read_npy_header(tree, name)

    def chunks(rows: int) -> Iterator[NDArray[Any]]:
        return stream_npy(tree, name, rows)

    batches = batches_of_array(chunks, header.shape, header.dtype, tree.where(name), reading)
    return Source(batches, place=tree.place)


def _array(images: Pixels, where: str, reading: Reading, place: Path | None = None) -> Source:
    def chunks(rows: int) -> Iterator[NDArray[Any]]:
        return (np.asarray(images[start : start + rows]) for start in range(0, len(images), rows))

    return Source(batches_of_array(chunks, images.shape, images.dtype, where, reading), place=place)
