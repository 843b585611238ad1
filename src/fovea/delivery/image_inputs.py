"""Image files on their way to a trained net: decoded as for its training, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.decode import DECODE_ERRORS, Header, decode, read_header, strict_pillow
from fovea.data.decoding import read_content, small_files
from fovea.data.new_images import NewImages
from fovea.data.options import Progress
from fovea.data.parallel import in_order
from fovea.data.pixels import Range, to_uint8
from fovea.data.preprocess import Preprocessor
from fovea.data.tree import Tree, listed_lines, reason_of, shown
from fovea.errors import DataError

BATCH_ROWS, BATCH_VALUES = 250, 2**24  # a batch holds no more of either; larger ones leave the cache and gain nothing
LONGEST_SIDE = 256  # of images that are cut out of their background, which takes more than the net's few pixels
_CHUNK_FILES, _CHUNK_BYTES = 64, 2**24

Decoded = tuple[Header, NDArray[np.uint8]] | str  # or the reason why it cannot be


@dataclass(frozen=True)
class Reading:
    """What is decided about the reading of new images.

    Attributes:
        preprocessor: of the net that will answer.
        adapt: whether images may be cut out of their background, and are needed larger for it.
        skip_bad: leave out files that cannot be decoded.
        progress: called as work goes on.
    """

    preprocessor: Preprocessor
    adapt: bool
    skip_bad: bool
    progress: Progress

    @property
    def size(self) -> tuple[int, int] | int:
        """What files are decoded to: the net's size, or their own within LONGEST_SIDE."""
        height, width, _ = self.preprocessor.image_shape
        return max(LONGEST_SIDE, height, width) if self.adapt else (height, width)

    @property
    def deep_range(self) -> Range | None:
        """The values that become 0 and 255 in files of 16 bits or of floats; None: 16 bits lose their low byte.

        A range in between belongs to arrays, and says nothing of files.
        """
        trained = self.preprocessor.input_range
        return trained if trained is not None and (trained[1] > 255 or trained[1] <= 1) else None


def batches_of_files(
    tree: Tree, names: list[str], ids: list[str], reading: Reading, notes: list[str]
) -> Iterator[NewImages]:
    """Decode image files, each as the training would have; 8-bit files are 0..255 whatever the net was trained on.

    Args:
        names: the files, in the order of the answers.
        ids: what each is called in the answers.
        notes: what was left out is told there at the end.

    Raises:
        DataError: lists every file that cannot be decoded, unless they are to be left out; then when none can be.
    """
    images: list[NDArray[np.uint8]] = []
    sizes: list[tuple[int, int]] = []
    kept: list[str] = []
    bad: list[str] = []
    values = done = 0
    with strict_pillow():
        for name, shown_id, found in zip(names, ids, _decoded_files(tree, names, reading), strict=True):
            done += 1
            if isinstance(found, str):
                bad.append(f"{shown(name)}: {found}")
            if isinstance(found, str) or (bad and not reading.skip_bad):
                continue  # the others are decoded all the same, so that all that are bad can be listed
            header, image = found
            if images and (len(images) == BATCH_ROWS or values + image.size > BATCH_VALUES):
                yield _batch(images, kept, sizes)
                reading.progress("predicting", done - 1, len(names))
                images, sizes, kept, values = [], [], [], 0
            images.append(image)
            sizes.append((header.height, header.width))
            kept.append(shown_id)
            values += image.size
    if bad and (not reading.skip_bad or len(bad) == len(names)):
        raise _refusal(bad, len(names))
    yield _batch(images, kept, sizes)
    reading.progress("predicting", done, len(names))
    if bad:
        are = "images cannot be decoded and are" if len(bad) > 1 else "image cannot be decoded and is"
        notes.append(f"{len(bad):,} {are} left out: {listed_lines(bad)}")


def _refusal(bad: list[str], count: int) -> DataError:
    of_all = f"{len(bad):,} of {count:,} images" if count > 1 else "The image"
    remedy = "Mend or remove them, or leave them out with --skip-bad." if len(bad) < count else "Is it an image file?"
    return DataError(f"{of_all} cannot be decoded:\n  {listed_lines(bad)}\n{remedy}")


def _batch(images: list[NDArray[np.uint8]], ids: list[str], sizes: list[tuple[int, int]]) -> NewImages:
    is_uniform = len({image.shape for image in images}) == 1
    return NewImages(np.stack(images) if is_uniform else images, np.array(ids), np.array(sizes, np.int64))


def _decoded_files(tree: Tree, names: list[str], reading: Reading) -> Iterator[Decoded]:
    """Every file, in order; read here, for an archive is one stream, and decoded ahead of what is asked for."""

    def work(contents: list[bytes | str]) -> list[Decoded]:
        return [_decoded(content, reading.size, reading.deep_range) for content in contents]

    workers = 1 if small_files(tree, names) else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for found in in_order(pool, work, _chunks(tree, names), ahead=workers + 1):
            yield from found


def _chunks(tree: Tree, names: list[str]) -> Iterator[list[bytes | str]]:
    contents: list[bytes | str] = []
    size = 0
    for name in names:
        if contents and (len(contents) == _CHUNK_FILES or size + tree.size(name) > _CHUNK_BYTES):
            yield contents
            contents, size = [], 0
        contents.append(read_content(tree, name))
        size += tree.size(name)
    yield contents


def _decoded(content: bytes | str, size: tuple[int, int] | int, deep_range: Range | None) -> Decoded:
    if isinstance(content, str):
        return content
    try:
        if deep_range is not None and read_header(content).kind == "deep":
            header, values = decode(content, size, "F")
            if not np.isfinite(values).all():
                return "holds NaN or infinite values"
            mapped: Any = to_uint8(values[None], deep_range)
            return header, mapped[0]
        return decode(content, size, "own")
    except DECODE_ERRORS as error:
        return reason_of(error)
