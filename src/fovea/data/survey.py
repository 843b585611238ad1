"""A first look at many image files: sizes, kinds, what is damaged, and the digest of all contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import PIL

from fovea.data.archives import ARCHIVE_ERRORS
from fovea.data.decode import DECODE_ERRORS, MAX_FILE_BYTES, Header, read_header
from fovea.data.options import ReadOptions
from fovea.data.tree import Tree
from fovea.errors import DataError, RunFailedError
from fovea.runfolder import write_bytes

DEFAULT_SIDE = 64  # where sizes differ or are large, and no image_size is set
LARGEST_SIDE = 128  # images up to this are taken as they are
CHUNK = 512  # files a chunk, at most
CHUNK_BYTES = 2**26  # of files, and of decoded pixels
_VERSION = 1  # of what decoding means: raised when the same file would give other pixels

Mode = Literal["L", "RGB", "F"]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Survey:
    """What a list of image files holds: the digest of all contents, the sizes, the kinds, and which are bad."""

    content: str
    sizes: list[tuple[int, int]]  # the distinct ones, three at most
    kinds: list[str]
    bad: dict[int, str]


def survey_files(tree: Tree, names: list[str], options: ReadOptions, root: Path | None) -> Survey:
    """Look at every file, or take what was seen the last time.

    Args:
        root: the cache folder; None: nothing is kept.
    """
    path = None if root is None else root / "surveys" / f"{_listing_key(tree, names)}.json"
    if path is not None and (known := read_json(path)) is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            bad = {int(row): str(reason) for row, reason in known["bad"].items()}
            return Survey(known["content"], [tuple(size) for size in known["sizes"]], known["kinds"], bad)
    digest = hashlib.sha256(f"{_VERSION} {PIL.__version__}".encode())
    sizes: dict[tuple[int, int], None] = {}
    kinds: dict[str, None] = {}
    bad = {}
    for row, (content_digest, found) in enumerate(each_file(tree, names, _look, options, "looking at the images")):
        digest.update(content_digest)
        if isinstance(found, str):
            bad[row] = found
            continue
        if len(sizes) < 3:
            sizes[(found.height, found.width)] = None
        kinds[found.kind] = None
    survey = Survey(digest.hexdigest(), list(sizes), list(kinds), bad)
    if path is not None:
        text = json.dumps({"content": survey.content, "sizes": survey.sizes, "kinds": survey.kinds, "bad": bad})
        with contextlib.suppress(RunFailedError):
            write_bytes(path, text.encode())
    return survey


def _listing_key(tree: Tree, names: list[str]) -> str:
    listing = [str(_VERSION), PIL.__version__, str(tree.place.resolve())]
    listing += [f"{name}\0{tree.stamps[name]}" for name in names]
    return hashlib.sha256("\n".join(listing).encode("utf-8", "surrogateescape")).hexdigest()


def _look(content: bytes | str) -> tuple[bytes, Header | str]:
    if isinstance(content, str):
        return content.encode("utf-8", "replace"), content
    digest = hashlib.sha256(content).digest()
    try:
        return digest, read_header(content)
    except DECODE_ERRORS as error:
        return digest, reason_of(error)


def reason_of(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def each_file(
    tree: Tree,
    names: list[str],
    work: Callable[[bytes | str], Result],
    options: ReadOptions,
    what: str,
    limit: int = CHUNK,
) -> Iterator[Result]:
    """`work` of the content of each file (or of the reason why it cannot be read), in order, on all cores."""

    def read(name: str) -> bytes | str:
        try:
            return tree.read(name, MAX_FILE_BYTES)
        except (*ARCHIVE_ERRORS, DataError) as error:
            return reason_of(error)

    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for chunk in _chunks(tree, names, limit):
            options.progress(what, done, len(names))
            if tree.is_stream:  # read here, in order, while the pool works on what was read before
                yield from pool.map(work, map(read, chunk))
            else:
                yield from pool.map(lambda name: work(read(name)), chunk)
            done += len(chunk)
    options.progress(what, len(names), len(names))


def _chunks(tree: Tree, names: list[str], limit: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    total = 0
    for name in names:
        total += tree.size(name)
        if chunk and (len(chunk) >= limit or total > CHUNK_BYTES):
            yield chunk
            chunk, total = [], tree.size(name)
        chunk.append(name)
    if chunk:
        yield chunk


def target_size(survey: Survey, wanted: tuple[int, int] | None) -> tuple[tuple[int, int], str | None]:
    """The size that all images get, and a line where it is not their own."""
    if wanted is not None:
        return wanted, None
    default = (DEFAULT_SIDE, DEFAULT_SIDE)
    if len(survey.sizes) == 1 and max(survey.sizes[0]) <= LARGEST_SIDE:
        return survey.sizes[0], None
    target = f"{DEFAULT_SIDE}x{DEFAULT_SIDE} (set image_size for another)"
    if len(survey.sizes) == 1:
        height, width = survey.sizes[0]
        return default, f"the images are {height}x{width}; all were resized to {target}"
    return default, f"the images differ in size; all were resized to {target}" if survey.sizes else None


def pixel_mode(kinds: list[str]) -> Mode:
    """16-bit and float images keep their values: they are mapped by one range fitted on the training images."""
    if kinds == ["deep"]:
        return "F"
    return "RGB" if "colour" in kinds else "L"


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None
