"""NumPy archives in Keras' layout: x_train, y_train and, where they exist, x_val, y_val, x_test, y_test."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.imageset import RawData
from fovea.data.readers.arrays import set_from_arrays
from fovea.errors import DataError


def recognises_npz(path: Path) -> bool:
    """Whether `path` is a file whose name ends in .npz."""
    return path.is_file() and path.suffix.lower() == ".npz"


def read_npz(path: Path) -> RawData:
    """Read a NumPy archive; nothing pickled is ever loaded.

    Raises:
        DataError: when it is damaged, holds Python objects, or has other names in it.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} cannot be read: it is no NumPy archive (.npz), or it is cut short.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            pairs = {part: (f"x_{part}", f"y_{part}") for part in ("train", "val", "test")}
            present = {part: names for part, names in pairs.items() if names[0] in archive.files}
            if "train" not in present:
                raise DataError(
                    f"{path} holds the arrays {', '.join(archive.files) or '(none)'}: expected x_train and y_train "
                    "(and x_test, y_test), as Keras names them."
                )
            parts = {part: _pair(archive, path, part, *names) for part, names in present.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        reason = "it holds Python objects, which are never loaded" if "pickle" in str(error) else str(error)
        raise DataError(f"{path} cannot be read: {reason}.") from None
    return RawData(path.stem, "NumPy archive", parts)


def _pair(archive: Any, path: Path, part: str, images: str, labels: str) -> Any:
    if labels not in archive.files:
        raise DataError(f"{path} holds {images} but not {labels}.")
    return set_from_arrays(archive[images], archive[labels], f"{path.name} ({part})")
