"""Image files -> one array: decoded once and kept in a memory-mapped file for the next time.

The cache lies in <cache>/fovea/images. listings/<key>.json remembers what a list of files held, by names, sizes and
times; <files>-<bytes>-<content>-<height>x<width>-<mode>/pixels.npy holds the pixels, by the sha256 of the files'
contents and by what they were decoded to, so that a copied or moved folder is known again. Everything there can be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray

from fovea.data.decode import strict_pillow
from fovea.data.decoding import Survey, Target, WrongGuessError, decoded_blocks, file_digests, first_look
from fovea.data.folders import alone, cache_folder
from fovea.data.imageset import Pixels, Rows
from fovea.data.options import ReadOptions
from fovea.data.tree import Tree, listed_lines, reason_of, shown
from fovea.errors import DataError, RunFailedError
from fovea.files import write_bytes

CACHE_FROM_BYTES = 8_000_000  # of files: less is decoded in a moment and not worth a copy
JOURNAL_SECONDS = 5.0
UNREADABLE = "cannot be decoded and"  # in the note of images that were left out
_VERSION = f"1 {PIL.__version__}"  # raised when the same file would give other pixels


@dataclass(frozen=True)
class Pictures:
    """Decoded images.

    Attributes:
        pixels: [N, H, W, C], uint8 or float32; an array or a memory map; the rows of bad images mean nothing.
        places: int64 [N], where in `pixels` the image of each file is.
        bad: which files could not be decoded.
        sizes: the distinct (height, width) of the files, three at most.
        notes: lines to show.
    """

    pixels: NDArray[Any]
    places: NDArray[np.int64]
    bad: frozenset[int]
    sizes: tuple[tuple[int, int], ...]
    notes: list[str] = field(default_factory=list)

    def good(self, start: int, stop: int, where: str) -> NDArray[np.int64]:
        """Which files from `start` to before `stop` are good.

        Raises:
            DataError: when none is.
        """
        numbers = [number for number in range(start, stop) if number not in self.bad]
        if not numbers:
            raise DataError(f"{where} has no image that can be decoded.")
        return np.array(numbers, np.int64)

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
    names = [names[number] for number in order.tolist()]
    notes: list[str] = []
    root = _writable_root(notes) if sum(map(tree.size, names)) >= CACHE_FROM_BYTES else None
    try:
        with strict_pillow():
            if root is None:
                pixels, survey = _in_memory(tree, names, options)
            else:
                pixels, survey = _through_cache(root, tree, names, options, notes)
    except MemoryError:
        raise RunFailedError(
            f"The {len(names):,} images of {tree.place} do not fit into memory: set a smaller image_size."
        ) from None
    notes += survey.lines(options.image_size)
    _refuse(tree, names, survey.bad, options.skip_bad, notes)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    bad = frozenset(order[list(survey.bad)].tolist()) if survey.bad else frozenset()
    return Pictures(pixels, places, bad, tuple((height, width) for height, width in survey.sizes), notes)


def _reading_order(tree: Tree, names: list[str]) -> NDArray[np.int64]:
    """As listed; in a compressed stream as stored, for each step back would unpack it from its beginning."""
    if not tree.is_stream:
        return np.arange(len(names))
    position = {name: place for place, name in enumerate(tree.stamps)}
    return np.argsort([position[name] for name in names], kind="stable")


def _writable_root(notes: list[str]) -> Path | None:
    try:
        root = cache_folder() / "images"
        (root / "listings").mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError("it cannot be written")
    except (OSError, RuntimeError) as error:
        notes.append(f"the decoded images are not kept for the next time: no cache folder ({error})")
        return None
    return root


def _in_memory(tree: Tree, names: list[str], options: ReadOptions) -> tuple[NDArray[Any], Survey]:
    survey = first_look(tree, names)
    while True:
        target, survey = survey.target(options.image_size), survey.without_bad()
        try:
            pixels = np.empty((len(names), *target.shape), target.dtype)
            row = 0
            for block in decoded_blocks(tree, names, target, options, survey):
                pixels[row : row + len(block.pixels)] = block.pixels
                row += len(block.pixels)
            return pixels, survey
        except WrongGuessError:
            continue  # the survey knows better now


def _through_cache(
    root: Path, tree: Tree, names: list[str], options: ReadOptions, notes: list[str]
) -> tuple[NDArray[Any], Survey]:
    group = f"{len(names)}-{sum(map(tree.size, names))}"
    listing = root / "listings" / f"{_listing_key(tree, names)}.json"
    waiting = "waiting for another process that decodes such images"
    if (found := _opened(root, group, _known_listing(listing), len(names), options)) is not None:
        return found
    try:
        with alone(root / f"{group}.lock", lambda: options.progress(waiting, 0, 0)):
            # What was waited for may be this; and only now are contents compared, for that reads every file.
            noted = _known_listing(listing)
            known = noted or _known_content(root, group, tree, names, options)
            if (found := _opened(root, group, known, len(names), options)) is not None:
                if known is not None and noted is None:
                    _write_json(listing, {"content": known[0], **asdict(known[1])})
                return found
            survey = known[1] if known is not None else Survey()
            pixels, survey = _decode_into(root, group, listing, tree, names, options, survey)
    except OSError as error:
        raise RunFailedError(
            f"The decoded images could not be written to {root}: {reason_of(error)}. Make room there, let "
            "XDG_CACHE_HOME name a folder that has it, or set a smaller image_size."
        ) from None
    notes.append(f"the decoded images are kept in {root} ({pixels.nbytes / 1e6:,.0f} MB) for the next time")
    return pixels, survey


def _opened(
    root: Path, group: str, known: tuple[str, Survey] | None, count: int, options: ReadOptions
) -> tuple[NDArray[Any], Survey] | None:
    """The images, where what is known of them leads to pixels of the size that is wanted."""
    if known is None:
        return None
    content, survey = known
    target = survey.target(options.image_size)
    pixels = _open(_folder(root, group, content, target), count, target)
    return None if pixels is None else (pixels, survey)


def _decode_into(
    root: Path, group: str, listing: Path, tree: Tree, names: list[str], options: ReadOptions, survey: Survey
) -> tuple[NDArray[Any], Survey]:
    survey = survey if survey.sizes else first_look(tree, names)
    while True:
        target = survey.target(options.image_size)
        partial = root / f"{listing.stem}-{target.height}x{target.width}-{target.mode}.partial"
        try:
            content, survey = _fill(partial, tree, names, target, options, survey)
            break
        except WrongGuessError as error:
            shutil.rmtree(partial, ignore_errors=True)
            survey = error.args[0]
    folder = _folder(root, group, content, target)
    if _open(folder, len(names), target) is None:
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    else:
        shutil.rmtree(partial, ignore_errors=True)
    _write_json(listing, {"content": content, **asdict(survey)})
    pixels = _open(folder, len(names), target)
    if pixels is None:
        raise RunFailedError(f"{folder} was written but cannot be read back.")
    return pixels, survey


# --- finding what is there -------------------------------------------------------------------------------------------


def _listing_key(tree: Tree, names: list[str]) -> str:
    listing = [_VERSION, str(tree.place.resolve())]
    listing += [f"{name}\0{tree.stamps[name]}" for name in names]
    return hashlib.sha256("\n".join(listing).encode("utf-8", "surrogateescape")).hexdigest()


def _content_key(digests: bytes) -> str:
    return hashlib.sha256(_VERSION.encode() + digests).hexdigest()


def _folder(root: Path, group: str, content: str, target: Target) -> Path:
    return root / f"{group}-{content[:32]}-{target.height}x{target.width}-{target.mode}"


def _known_listing(path: Path) -> tuple[str, Survey] | None:
    """(content key, survey) of files that were read before and have not changed since."""
    noted = _read_json(path)
    try:
        return (str(noted["content"]), _as_survey(noted)) if noted else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _known_content(
    root: Path, group: str, tree: Tree, names: list[str], options: ReadOptions
) -> tuple[str, Survey] | None:
    """(content key, survey) of files whose contents were decoded before under other names or times."""
    candidates = [path for path in root.glob(f"{group}-*") if (path / "about.json").exists()]
    if not candidates:
        return None
    content = _content_key(b"".join(file_digests(tree, names, options)))
    for folder in candidates:
        if (known := _known_listing(folder / "about.json")) is not None and known[0] == content:
            return known
    return None


def _as_survey(noted: dict[str, Any]) -> Survey:
    bad = {int(number): str(reason) for number, reason in noted["bad"].items()}
    return Survey([(int(h), int(w)) for h, w in noted["sizes"]], [str(kind) for kind in noted["kinds"]], bad)


def _open(folder: Path, count: int, target: Target) -> NDArray[Any] | None:
    try:
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    if pixels.shape != (count, *target.shape) or pixels.dtype != target.dtype:
        return None
    return np.asarray(pixels)  # still the map, without the slower indexing of np.memmap


# --- writing ---------------------------------------------------------------------------------------------------------


def _fill(
    partial: Path, tree: Tree, names: list[str], target: Target, options: ReadOptions, seen: Survey
) -> tuple[str, Survey]:
    """Decode into a folder, from where an earlier try stopped; returns the content key and the survey.

    Rows are written, not mapped: a full disk is an error then, and not the death of the process.
    """
    partial.mkdir(exist_ok=True)
    row_bytes = int(np.prod(target.shape)) * target.dtype.itemsize
    header = _npy_header((len(names), *target.shape), target.dtype)
    done, survey = _resumable(partial, len(header), row_bytes) or (0, seen.without_bad())
    need, free = (len(names) - done) * row_bytes, shutil.disk_usage(partial).free
    if need > free:
        raise OSError(f"{need / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free")
    with _reopened(partial / "digests", done * 32) as digests:
        with _reopened(partial / "pixels.npy", len(header) + done * row_bytes if done else 0) as pixels:
            if not done:
                pixels.write(header)
            _write_rows(
                partial, pixels, digests, decoded_blocks(tree, names, target, options, survey, done), survey, done
            )
        digests.seek(0)
        content = _content_key(digests.read())
    _write_json(partial / "about.json", {"content": content, **asdict(survey)})
    for name in ("journal.json", "digests"):
        (partial / name).unlink(missing_ok=True)
    return content, survey


def _write_rows(partial: Path, pixels: BinaryIO, digests: BinaryIO, blocks: Any, survey: Survey, done: int) -> None:
    written = time.monotonic()
    for block in blocks:
        pixels.write(np.ascontiguousarray(block.pixels).data)
        digests.write(block.digests)
        done += len(block.pixels)
        if time.monotonic() - written > JOURNAL_SECONDS:
            _sync(pixels)
            _sync(digests)
            _write_json(partial / "journal.json", {"rows": done, **asdict(survey)})
            written = time.monotonic()
    _sync(pixels)
    _sync(digests)


def _resumable(partial: Path, header_bytes: int, row_bytes: int) -> tuple[int, Survey] | None:
    """How many rows an interrupted decode had safely written, and what it had seen."""
    noted = _read_json(partial / "journal.json")
    if noted is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, OSError):
            rows = int(noted["rows"])
            there = (partial / "pixels.npy").stat().st_size >= header_bytes + rows * row_bytes
            if there and (partial / "digests").stat().st_size >= rows * 32:
                return rows, _as_survey(noted)
    return None


def _reopened(path: Path, size: int) -> BinaryIO:
    """A file cut to `size` and open for going on there."""
    file = path.open("r+b" if size else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a note of the cache; without it the work is done again, so a failure is no error."""
    with contextlib.suppress(RunFailedError):
        write_bytes(path, json.dumps(value).encode())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _refuse(tree: Tree, names: list[str], bad: dict[int, str], skip_bad: bool, notes: list[str]) -> None:
    if not bad:
        return
    lines = listed_lines([f"{shown(names[number])}: {bad[number]}" for number in sorted(bad)])
    count = f"{len(bad):,} image{'s' if len(bad) > 1 else ''} of {tree.place}"
    if skip_bad and len(bad) < len(names):
        notes.append(f"{count} {UNREADABLE} {'are' if len(bad) > 1 else 'is'} left out: {lines}")
        return
    raise DataError(
        f"{count} cannot be decoded:\n  {lines}\nMend or remove {'them' if len(bad) > 1 else 'it'}, "
        "or leave them out with --skip-bad."
    )
