"""Many image files to rows of one array: which size and channels they get, and the work on all cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.decode import DECODE_ERRORS, MAX_FILE_BYTES, Header, Mode, decode, read_header
from fovea.data.imageset import spread_rows
from fovea.data.options import ReadOptions
from fovea.data.tree import Tree, reason_of
from fovea.errors import DataError

DEFAULT_SIDE = 64  # where sizes differ or are large, and no image_size is set
LARGEST_SIDE = 128  # images up to this are taken as they are
_SAMPLE = 32  # files that are looked at before the first is decoded
_CHUNK = 512  # files a block, at most
_CHUNK_BYTES = 2**26  # of files, and of decoded pixels
# Below this, decoding a file is mostly Python, and threads only wait for each other.
_THREADS_FROM_BYTES = 16_000
_PROCESSES_FROM_FILES = 4_000  # fewer are done before other processes have started

Mapper = Callable[[Callable[[bytes | str], Any], Iterable[bytes | str]], Iterable[Any]]


@dataclass(frozen=True)
class Target:
    """What every image becomes."""

    height: int
    width: int
    mode: Mode

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, 3 if self.mode == "RGB" else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 for mode "F", else uint8."""
        return np.dtype(np.float32 if self.mode == "F" else np.uint8)


@dataclass
class Survey:
    """What the files seen so far hold.

    Attributes:
        sizes: the distinct (height, width), three at most.
        kinds: the distinct kinds of values.
        bad: file number -> what is wrong with it.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def note(self, header: Header) -> bool:
        """Take one file into account; whether it was unlike those before."""
        size, before = (header.height, header.width), len(self.sizes) + len(self.kinds)
        if size not in self.sizes and len(self.sizes) < 3:
            self.sizes.append(size)
        if header.kind not in self.kinds:
            self.kinds.append(header.kind)
        return len(self.sizes) + len(self.kinds) > before

    def without_bad(self) -> Survey:
        """The sizes and kinds seen so far, for going through all files again."""
        return Survey(list(self.sizes), list(self.kinds))

    def target(self, wanted: tuple[int, int] | None) -> Target:
        """What images like these become; `wanted` is the height and width that the user set."""
        default = (DEFAULT_SIDE, DEFAULT_SIDE)
        uniform = len(self.sizes) == 1 and max(self.sizes[0]) <= LARGEST_SIDE
        height, width = wanted or (self.sizes[0] if uniform else default)
        # 16-bit and float images keep their values: they are mapped by one range fitted on the training images.
        mode: Mode = "F" if self.kinds == ["deep"] else "RGB" if "colour" in self.kinds else "L"
        return Target(height, width, mode)

    def lines(self, wanted: tuple[int, int] | None) -> list[str]:
        """What a user should know of how the images were made alike."""
        mixed = "deep" in self.kinds and len(self.kinds) > 1
        depth = "some images have 16 bits a value, others 8: of 16 bits the upper 8 are kept"
        return [line for line in (self._size_line(wanted), depth if mixed else None) if line]

    def _size_line(self, wanted: tuple[int, int] | None) -> str | None:
        target = self.target(wanted)
        if wanted is not None or not self.sizes or self.sizes == [(target.height, target.width)]:
            return None
        resized = f"all were resized to {target.height}x{target.width} (set image_size for another)"
        if len(self.sizes) == 1:
            return f"the images are {self.sizes[0][0]}x{self.sizes[0][1]}; {resized}"
        return f"the images differ in size; {resized}"


class WrongGuessError(Exception):
    """A file does not fit the target that the first look suggested; `args[0]` is the survey that knows better."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some decoded files, in their order.

    Attributes:
        pixels: [n, H, W, C]; rows of bad files are zero.
        digests: the sha256 of each file, 32 bytes each.
        headers: the distinct headers of the good files.
        bad: row -> what is wrong with the file.
    """

    pixels: NDArray[Any]
    digests: bytes
    headers: list[Header]
    bad: dict[int, str]


def first_look(tree: Tree, names: list[str]) -> Survey:
    """What some files spread over all of them hold (of a compressed stream: the first)."""
    spread = spread_rows(len(names), _SAMPLE).tolist()
    survey = Survey()
    for number in spread[: 1 if tree.is_stream else None]:
        content = read_content(tree, names[number])
        try:
            if isinstance(content, bytes):
                survey.note(read_header(content))
        except DECODE_ERRORS:
            continue  # it is reported when its turn comes
    return survey


def decode_block(contents: Iterable[bytes | str], count: int, target: Target, mapper: Mapper = map) -> Block:
    """Decode the contents of `count` files; a text in place of a content is the reason why it cannot be read.

    Args:
        mapper: `map`, or a pool's.
    """
    pixels = np.zeros((count, *target.shape), target.dtype)
    digests: list[bytes] = []
    headers: dict[Header, None] = {}
    bad: dict[int, str] = {}
    for row, (digest, header, found) in enumerate(mapper(partial(_decode_one, target), contents)):
        digests.append(digest)
        if header is None:
            bad[row] = found
        else:
            headers[header] = None
            pixels[row] = found
    return Block(pixels, b"".join(digests), list(headers), bad)


def _decode_one(target: Target, content: bytes | str) -> tuple[bytes, Header | None, Any]:
    if isinstance(content, str):
        return _digest(content), None, content
    try:
        return _digest(content), *decode(content, (target.height, target.width), target.mode)
    except DECODE_ERRORS as error:
        return _digest(content), None, reason_of(error)


def _digest(content: bytes | str) -> bytes:
    return hashlib.sha256(content.encode("utf-8", "replace") if isinstance(content, str) else content).digest()


def decoded_blocks(
    tree: Tree, names: list[str], target: Target, options: ReadOptions, survey: Survey, start: int = 0
) -> Iterator[Block]:
    """Decode the files from number `start` on.

    Args:
        survey: what is found is noted there.

    Raises:
        WrongGuessError: at the first block that shows that `target` is not what all images should become.
        DataError: when a file is there but cannot be read.
    """
    rows = max(1, min(_CHUNK, _CHUNK_BYTES // (int(np.prod(target.shape)) * target.dtype.itemsize)))
    chunks = _chunks(tree, names[start:], rows)
    done = start
    options.progress("decoding images", done, len(names))
    for block in _blocks(tree, names, chunks, target):
        fresh = [survey.note(header) for header in block.headers]
        if any(fresh) and survey.target(options.image_size) != target:
            raise WrongGuessError(survey)
        survey.bad.update({done + row: reason for row, reason in block.bad.items()})
        done += len(block.pixels)
        yield block
        options.progress("decoding images", done, len(names))
    if survey.target(options.image_size) != target:  # the first look saw bad files only
        raise WrongGuessError(survey)


def small_files(tree: Tree, names: list[str]) -> bool:
    """Whether files are so small that threads would only wait for each other."""
    return sum(map(tree.size, names)) < _THREADS_FROM_BYTES * len(names)


def _blocks(tree: Tree, names: list[str], chunks: Iterator[list[str]], target: Target) -> Iterator[Block]:
    """One block a chunk: by processes where files are small and many, by threads where they are large."""
    cores = os.cpu_count() or 1
    are_small = small_files(tree, names)
    if are_small and cores > 1 and len(names) >= _PROCESSES_FROM_FILES and not tree.is_archive:
        from fovea.data.decode_workers import worker_blocks

        yield from worker_blocks(tree, chunks, target, cores)
        return
    with ThreadPoolExecutor(1 if are_small else cores) as pool:
        for chunk in chunks:
            # A stream is read here, in order, while the pool works on what was read before.
            contents = (read_content(tree, name) for name in chunk)
            yield decode_block(contents, len(chunk), target, map if are_small else pool.map)


def file_digests(tree: Tree, names: list[str], options: ReadOptions) -> list[bytes]:
    """The sha256 of every file, without decoding it."""
    digests = []
    for number, name in enumerate(names):
        if number % _CHUNK == 0:
            options.progress("comparing images", number, len(names))
        digests.append(_digest(read_content(tree, name)))
    options.progress("comparing images", len(names), len(names))
    return digests


def read_content(tree: Tree, name: str) -> bytes | str:
    """A file's content, or the reason why it is no image; what may pass (a permission, a disk) is no reason.

    Raises:
        DataError: when a file is there but cannot be read now.
    """
    try:
        return tree.read(name, MAX_FILE_BYTES)
    except DataError as error:
        passing = isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError)
        if passing and not tree.is_archive:
            raise
        return reason_of(error.__cause__ or error)


def _chunks(tree: Tree, names: list[str], limit: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    total = 0
    for name in names:
        total += tree.size(name)
        if chunk and (len(chunk) >= limit or total > _CHUNK_BYTES):
            yield chunk
            chunk, total = [], tree.size(name)
        chunk.append(name)
    if chunk:
        yield chunk
