"""Image files -> one array: decoded once, in parallel, and kept in a memory-mapped file for the next time.

The cache lies in <cache>/fovea/images. A survey (surveys/<key>.json) remembers what a list of files holds, by names,
sizes and times; the pixels (<content>-<height>x<width>-<mode>/pixels.npy) are kept by the sha256 of the files'
contents and by the size they were decoded to, so that a copied or moved folder is known again. Everything there can
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from fovea.data.decode import DECODE_ERRORS, decode, strict_pillow
from fovea.data.folders import cache_folder
from fovea.data.imageset import Pixels, Rows
from fovea.data.options import ReadOptions
from fovea.data.survey import (
    CHUNK,
    CHUNK_BYTES,
    Mode,
    Survey,
    each_file,
    pixel_mode,
    read_json,
    reason_of,
    survey_files,
    target_size,
)
from fovea.data.tree import Tree
from fovea.errors import DataError, RunFailedError
from fovea.runfolder import write_bytes

CACHE_FROM_BYTES = 8_000_000  # of files: less is decoded in a moment and not worth a copy
JOURNAL_SECONDS = 5.0
_SHOWN = 20


@dataclass(frozen=True)
class Pictures:
    """Decoded images.

    Attributes:
        pixels: [N, H, W, C], uint8 or float32; an array or a memory map; the rows of bad images mean nothing.
        places: int64 [N], where in `pixels` the image of each file is.
        bad: which files could not be decoded.
        notes: lines to show.
    """

    pixels: NDArray[Any]
    places: NDArray[np.int64]
    bad: frozenset[int]
    notes: list[str] = field(default_factory=list)

    def good(self, start: int, stop: int) -> NDArray[np.int64]:
        """Which files from `start` to before `stop` are good."""
        return np.array([row for row in range(start, stop) if row not in self.bad], np.int64)

    def rows(self, files: NDArray[np.int64]) -> Pixels:
        """The images of some files, not copied."""
        rows = self.places[files]
        if len(rows) and (np.diff(rows) == 1).all():
            block: NDArray[Any] = self.pixels[rows[0] : rows[-1] + 1]
            return block
        return Rows(self.pixels, rows)


def decode_images(tree: Tree, names: list[str], options: ReadOptions) -> Pictures:
    """Decode files of a tree to one size, or take them from the cache.

    Raises:
        DataError: lists every file that cannot be decoded, unless they are to be skipped.
        RunFailedError: when neither the disk nor the memory has room for the pixels.
    """
    order = _reading_order(tree, names)
    names = [names[file] for file in order.tolist()]
    keep = sum(tree.size(name) for name in names) >= CACHE_FROM_BYTES
    notes: list[str] = []
    root = _writable_root(notes) if keep else None
    with strict_pillow():
        survey = survey_files(tree, names, options, root)
        size, line = target_size(survey, options.image_size)
        notes += [line] if line else []
        pixels, bad = _pixels(tree, names, survey, size, options, root, notes)
    bad = {**survey.bad, **bad}
    _refuse(tree, names, bad, options.skip_bad, notes)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return Pictures(pixels, places, frozenset(order[list(bad)].tolist()) if bad else frozenset(), notes)


def _reading_order(tree: Tree, names: list[str]) -> NDArray[np.int64]:
    """As listed; in a compressed stream as stored, for each step back would unpack it from its beginning."""
    if not tree.is_stream:
        return np.arange(len(names))
    position = {name: place for place, name in enumerate(tree.stamps)}
    return np.argsort([position[name] for name in names], kind="stable")


def _writable_root(notes: list[str]) -> Path | None:
    try:
        root = cache_folder() / "images"
        (root / "surveys").mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError("it cannot be written")
    except (OSError, RuntimeError) as error:
        notes.append(f"the decoded images are not kept for the next time: no cache folder ({error})")
        return None
    return root


def _pixels(
    tree: Tree,
    names: list[str],
    survey: Survey,
    size: tuple[int, int],
    options: ReadOptions,
    root: Path | None,
    notes: list[str],
) -> tuple[NDArray[Any], dict[int, str]]:
    mode = pixel_mode(survey.kinds)
    dtype = np.dtype(np.float32 if mode == "F" else np.uint8)
    shape = (len(names), *size, 3 if mode == "RGB" else 1)
    skipped = set(survey.bad)

    def rows_from(start: int) -> Iterator[tuple[NDArray[Any], dict[int, str]]]:
        return _decoded(tree, names, skipped, size, mode, options, start)

    if root is not None:
        folder = root / f"{survey.content}-{size[0]}x{size[1]}-{mode}"
        try:
            return _from_cache(folder, shape, dtype, rows_from, options, notes)
        except OSError as error:
            need = int(np.prod(shape)) * dtype.itemsize
            raise RunFailedError(
                f"The decoded images need {need / 1e9:.1f} GB in {root}, which could not be written: {error}. "
                "Make room, set XDG_CACHE_HOME to a folder that has it, or a smaller image_size."
            ) from None
    try:
        pixels = np.zeros(shape, dtype)
    except MemoryError:
        raise RunFailedError(f"{np.prod(shape):,} pixels do not fit into memory: set a smaller image_size.") from None
    bad: dict[int, str] = {}
    row = 0
    for block, found in rows_from(0):
        pixels[row : row + len(block)] = block
        bad |= found
        row += len(block)
    return pixels, bad


def _decoded(
    tree: Tree,
    names: list[str],
    skipped: set[int],
    size: tuple[int, int],
    mode: Mode,
    options: ReadOptions,
    start: int,
) -> Iterator[tuple[NDArray[Any], dict[int, str]]]:
    """Blocks of decoded rows from `start` on, with what was wrong in them."""
    empty = np.zeros((*size, 3 if mode == "RGB" else 1), np.float32 if mode == "F" else np.uint8)
    block_rows = max(1, min(CHUNK, CHUNK_BYTES // max(1, empty.nbytes)))

    def work(content: bytes | str) -> NDArray[Any] | str:
        if isinstance(content, str):
            return content
        try:
            return decode(content, size, mode)
        except DECODE_ERRORS as error:
            return reason_of(error)

    block: list[NDArray[Any]] = []
    bad: dict[int, str] = {}
    for row, found in enumerate(
        each_file(tree, names[start:], work, options, "decoding the images", block_rows), start
    ):
        if isinstance(found, str):
            if row not in skipped:
                bad[row] = found
            found = empty
        block.append(found)
        if len(block) == block_rows:
            yield np.stack(block), bad
            block, bad = [], {}
    if block:
        yield np.stack(block), bad


def _from_cache(
    folder: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rows_from: Callable[[int], Iterator[tuple[NDArray[Any], dict[int, str]]]],
    options: ReadOptions,
    notes: list[str],
) -> tuple[NDArray[Any], dict[int, str]]:
    if (known := _open_cached(folder, shape, dtype)) is not None:
        return known
    lock = FileLock(str(folder) + ".lock")
    with contextlib.suppress(TimeoutError):
        lock.acquire(timeout=0)
    if not lock.is_locked:
        options.progress("waiting for another process that decodes the same images", 0, 0)
        lock.acquire()
    try:
        if (known := _open_cached(folder, shape, dtype)) is not None:
            return known
        _fill(folder, shape, dtype, rows_from, options)
    finally:
        lock.release()
    filled = _open_cached(folder, shape, dtype)
    if filled is None:
        raise OSError("what was written cannot be read back")
    size = int(np.prod(shape)) * dtype.itemsize
    notes.append(f"the decoded images are kept in {folder.parent} ({size / 1e6:,.0f} MB) for the next time")
    return filled


def _open_cached(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], dict[int, str]] | None:
    about = read_json(folder / "bad.json")
    if about is None:
        return None
    try:
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if pixels.shape != shape or pixels.dtype != dtype:
        return None
    return pixels, {int(row): str(reason) for row, reason in about.items()}


def _fill(
    folder: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rows_from: Callable[[int], Iterator[tuple[NDArray[Any], dict[int, str]]]],
    options: ReadOptions,
) -> None:
    """Decode into <folder>.partial, from where an earlier try stopped, and give it its name when it is whole.

    Rows are written, not mapped: a full disk is an error then, and not the death of the process.
    """
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    pixels, journal = partial / "pixels.npy", partial / "journal.json"
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    header = _npy_header(shape, dtype)
    done, bad = _resumable(pixels, journal, len(header), row_bytes)
    need, free = (shape[0] - done) * row_bytes, shutil.disk_usage(partial).free
    if need > free:
        raise OSError(f"{free / 1e9:.1f} GB are free")
    with pixels.open("r+b" if done else "wb") as file:
        if done:
            file.truncate(len(header) + done * row_bytes)
            file.seek(0, os.SEEK_END)
        else:
            file.write(header)
        written = time.monotonic()
        for block, found in rows_from(done):
            file.write(np.ascontiguousarray(block, dtype).data)
            bad |= found
            done += len(block)
            if time.monotonic() - written > JOURNAL_SECONDS:
                _sync(file)
                write_bytes(journal, json.dumps({"rows": done, "bad": bad}).encode())
                written = time.monotonic()
        _sync(file)
    write_bytes(partial / "bad.json", json.dumps(bad).encode())
    journal.unlink(missing_ok=True)
    if folder.exists():  # damaged, or it would have been opened
        shutil.rmtree(folder)
    partial.rename(folder)


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _resumable(pixels: Path, journal: Path, header_bytes: int, row_bytes: int) -> tuple[int, dict[int, str]]:
    """How many rows an interrupted decode had safely written, and what was wrong in them."""
    noted = read_json(journal)
    try:
        assert noted is not None
        rows, bad = int(noted["rows"]), {int(row): str(reason) for row, reason in noted["bad"].items()}
        if pixels.stat().st_size >= header_bytes + rows * row_bytes:
            return rows, bad
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError, OSError):
        pass
    return 0, {}


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _refuse(tree: Tree, names: list[str], bad: dict[int, str], skip_bad: bool, notes: list[str]) -> None:
    if not bad:
        return
    listed = [f"{names[row]}: {bad[row]}" for row in sorted(bad)]
    shown = "\n  ".join(listed[:_SHOWN]) + (f"\n  and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
    count = f"{len(bad):,} image{'s' if len(bad) > 1 else ''} of {tree.place}"
    if skip_bad and len(bad) < len(names):
        notes.append(f"{count} cannot be decoded and {'are' if len(bad) > 1 else 'is'} left out: {shown}")
        return
    raise DataError(
        f"{count} cannot be decoded:\n  {shown}\nMend or remove {'them' if len(bad) > 1 else 'it'}, "
        "or leave them out with --skip-bad."
    )
