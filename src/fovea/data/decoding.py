"""Many image files to rows of one array: which size and channels they get, and the work on all cores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fovea.data.decode import DECODE_ERRORS, MAX_FILE_BYTES, Header, Mode, decode, read_header
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

Result = TypeVar("Result")


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


@dataclass(frozen=True)
class Block:
    """Decoded rows, in the order of the files: pixels [n, H, W, C] and the sha256 of each file."""

    pixels: NDArray[Any]
    digests: list[bytes]


def first_look(tree: Tree, names: list[str]) -> Survey:
    """The headers of some files spread over all of them (of a compressed stream: of the first)."""
    spread = np.linspace(0, len(names) - 1, min(_SAMPLE, len(names))).astype(int).tolist()
    survey = Survey()
    for number in spread[: 1 if tree.is_stream else None]:
        content = _read(tree, names[number])
        try:
            if isinstance(content, bytes):
                survey.note(read_header(content))
        except DECODE_ERRORS:
            continue  # it is reported when its turn comes
    return survey


def decoded_blocks(
    tree: Tree, names: list[str], target: Target, options: ReadOptions, survey: Survey, start: int = 0
) -> Iterator[Block]:
    """Decode the files from number `start` on; rows of bad files are zero.

    Args:
        survey: what is found is noted there.

    Raises:
        WrongGuessError: at the first file that shows that `target` is not what all images should become.
    """
    empty = np.zeros(target.shape, target.dtype)
    rows = max(1, min(_CHUNK, _CHUNK_BYTES // empty.nbytes))

    def work(content: bytes | str) -> tuple[bytes, Header | None, NDArray[Any] | str]:
        if isinstance(content, str):
            return hashlib.sha256(content.encode("utf-8", "replace")).digest(), None, content
        digest = hashlib.sha256(content).digest()
        try:
            return digest, *decode(content, (target.height, target.width), target.mode)
        except DECODE_ERRORS as error:
            return digest, None, reason_of(error)

    pixels: list[NDArray[Any]] = []
    digests: list[bytes] = []
    for number, (digest, header, found) in enumerate(_each(tree, names, work, options, "decoding", start, rows), start):
        if header is not None and survey.note(header) and survey.target(options.image_size) != target:
            raise WrongGuessError(survey)
        if isinstance(found, str):
            survey.bad[number] = found
            found = empty
        pixels.append(found)
        digests.append(digest)
        if len(pixels) == rows:
            yield Block(np.stack(pixels), digests)
            pixels, digests = [], []
    if pixels:
        yield Block(np.stack(pixels), digests)
    if survey.target(options.image_size) != target:  # the first look saw bad files only
        raise WrongGuessError(survey)


def file_digests(tree: Tree, names: list[str], options: ReadOptions) -> list[bytes]:
    """The sha256 of every file, without decoding it."""

    def work(content: bytes | str) -> bytes:
        return hashlib.sha256(content.encode("utf-8", "replace") if isinstance(content, str) else content).digest()

    return list(_each(tree, names, work, options, "comparing", 0, _CHUNK))


def _read(tree: Tree, name: str) -> bytes | str:
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


def _each(
    tree: Tree,
    names: list[str],
    work: Callable[[bytes | str], Result],
    options: ReadOptions,
    what: str,
    start: int,
    limit: int,
) -> Iterator[Result]:
    """`work` of the content of each file (or of the reason why it cannot be read), in order."""
    mean_bytes = sum(map(tree.size, names)) / max(len(names), 1)
    workers = os.cpu_count() or 1 if mean_bytes >= _THREADS_FROM_BYTES else 1
    done = start
    with ThreadPoolExecutor(workers) as pool:
        for chunk in _chunks(tree, names[start:], limit):
            options.progress(f"{what} images", done, len(names))
            contents = (_read(tree, name) for name in chunk)
            if workers == 1:
                yield from map(work, contents)
            elif tree.is_stream:  # read here, in order, while the pool works on what was read before
                yield from pool.map(work, contents)
            else:
                yield from pool.map(lambda name: work(_read(tree, name)), chunk)
            done += len(chunk)
    options.progress(f"{what} images", len(names), len(names))


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
