"""IDX files, plain or gzipped: the four files of MNIST and of the sets that follow its layout.

Format: two zero bytes, a type byte, the number of axes, each axis as a big-endian uint32, then the values
(LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import RawData, RawSet
from fovea.data.readers.arrays import set_from_arrays
from fovea.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FILE = re.compile(r"(train|t10k|test|val|valid)[-._](images|labels)[-._]idx\d[-._]\w+(\.gz)?", re.IGNORECASE)
_PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val"}
_MAX_BYTES = 2**34


def recognises_idx(path: Path) -> bool:
    """Whether `path` is a folder with files named like train-images-idx3-ubyte or train-images.idx3-ubyte.gz."""
    return path.is_dir() and any(_FILE.fullmatch(entry.name) for entry in path.iterdir())


def read_idx_folder(path: Path) -> RawData:
    """Read the image and label files of a folder, pair by pair.

    Raises:
        DataError: when a file is missing or damaged, or there is no training pair.
    """
    found: dict[str, dict[str, Path]] = {}
    for entry in sorted(path.iterdir(), reverse=True):  # the unpacked file wins over its .gz
        match = _FILE.fullmatch(entry.name)
        if match:
            found.setdefault(_PARTS[match[1].lower()], {})[match[2].lower()] = entry
    if "train" not in found:
        raise DataError(
            f"{path} has IDX files but no train-images-idx3-ubyte: expected MNIST's four files, plain or .gz."
        )
    return RawData(path.name, "IDX files", {part: _read_pair(path, part, files) for part, files in found.items()})


def _read_pair(path: Path, part: str, files: dict[str, Path]) -> RawSet:
    for kind in ("images", "labels"):
        if kind not in files:
            there = next(iter(files.values()))
            raise DataError(f"{path} holds {there.name} but not the {kind} that belong to it.")
    images, labels = read_idx(files["images"]), read_idx(files["labels"])
    return set_from_arrays(images, labels, f"{path.name} ({part})")


def read_idx(path: Path) -> NDArray[Any]:
    """Read one IDX file, unpacked on the way where its name ends in .gz.

    Raises:
        DataError: when it is no IDX file, is cut short, or holds more than its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Is the download complete?") from None


def _parse(file: Any, path: Path) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise DataError(
            f"{path} is no IDX file: it begins with {magic.hex(' ')}, expected 00 00, a type and the number of axes."
        )
    axes = file.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise DataError(f"{path} is cut short inside its header.")
    shape = tuple(np.frombuffer(axes, ">u4").tolist())
    dtype = np.dtype(_DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    if expected > _MAX_BYTES:
        raise DataError(f"{path} claims {shape} values, {expected:,} bytes: more than any IDX file that Fovea reads.")
    content = file.read(expected + 1)  # one more than allowed shows what is too long, without reading it all
    if len(content) != expected:
        found = "more" if len(content) > expected else f"only {len(content):,}"
        raise DataError(
            f"{path} should hold {expected:,} bytes of values {shape}, but holds {found}. Download it again."
        )
    values = np.frombuffer(content, dtype).reshape(shape)
    return values if dtype.itemsize == 1 else values.astype(dtype.newbyteorder("="))
