"""From what the user names (a catalog name, a path, arrays) to raw parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fovea.data.catalog import CATALOG, read_named, search_folders
from fovea.data.imageset import ImageSet, RawData, RawSet
from fovea.data.readers.arrays import set_from_arrays
from fovea.data.readers.folder import read_folder, recognises_folder
from fovea.data.readers.idx import read_idx_folder, recognises_idx
from fovea.data.readers.npz import read_npz, recognises_npz
from fovea.errors import DataError
from fovea.registry import Registry, unknown_name

Size = tuple[int, int] | None
Reader = tuple[Callable[[Path], bool], Callable[[Path, Size], RawData]]

# Asked in this order: who recognises a path reads it.
READERS: Registry[Reader] = Registry(
    "reader",
    {
        "npz": (recognises_npz, lambda path, _: read_npz(path)),
        "idx": (recognises_idx, lambda path, _: read_idx_folder(path)),
        "folder": (recognises_folder, read_folder),
    },
)


def exists(path: Path) -> bool:
    """Whether something is there; what cannot be looked at is not."""
    try:
        return path.exists()
    except OSError:
        return False


def is_path_like(source: str) -> bool:
    """Whether a text names a place on the disk rather than a catalog entry."""
    return exists(Path(source)) or any(mark in source for mark in ("/", "\\", ".")) or source.startswith("~")


def is_known_data(source: str | Path) -> Literal["name", "path"] | None:
    """Whether a text is a catalog name or a place on the disk; None where it is neither."""
    if str(source) in CATALOG:
        return "name"
    return "path" if is_path_like(str(source)) else None


def read_raw(data: Any, image_size: Size = None) -> RawData:
    """Read data of any form.

    Args:
        data: a catalog name, a path, an ImageSet, a pair (images, labels), or ((x_train, y_train), (x_test, y_test)).
        image_size: height, width that image files are decoded to; arrays keep theirs.

    Raises:
        DataError: when nothing readable is there.
        SettingsError: when a name is neither a data set nor a path.
    """
    if isinstance(data, ImageSet):
        return _from_image_set(data)
    if isinstance(data, str | Path):
        try:
            return _read_path_or_name(str(data), image_size)
        except (OSError, RuntimeError) as error:  # no permission, a name too long, ~ of nobody
            raise DataError(f"{data} cannot be read: {error}.") from None
    if _is_keras_pairs(data):
        parts = {
            part: set_from_arrays(images, labels, f"the arrays ({part})")
            for part, (images, labels) in zip(("train", "test"), data, strict=True)
        }
        return RawData("arrays", "arrays", parts)
    if isinstance(data, Sequence) and len(data) == 2:
        return RawData("arrays", "arrays", {"train": set_from_arrays(data[0], data[1], "the arrays")})
    raise DataError(
        f"Data of type {type(data).__name__} cannot be read: "
        "expected a catalog name, a path, or a pair (images, labels)."
    )


def _is_keras_pairs(data: Any) -> bool:
    """Whether data is ((x_train, y_train), (x_test, y_test)), as Keras' load_data returns it."""
    pairs = isinstance(data, tuple) and len(data) == 2 and all(isinstance(p, tuple) and len(p) == 2 for p in data)
    return pairs and getattr(data[0][0], "ndim", 0) >= 3


def _from_image_set(images: ImageSet) -> RawData:
    names = np.array(images.classes)[images.labels]
    return RawData("arrays", "an ImageSet", {"train": RawSet(images.images, names, images.ids)}, images.classes)


def _read_path_or_name(source: str, image_size: Size) -> RawData:
    path = Path(source).expanduser()
    if source in CATALOG:
        if _is_other_data(path, source):
            raise DataError(
                f"{source!r} is both a data set of the catalog and a folder here: write ./{source} for the folder, "
                f"or call from another folder for the data set."
            )
        return read_named(source)
    if not exists(path):
        if is_path_like(source):
            raise DataError(f"{source} does not exist (looked for it from {Path.cwd()}).")
        raise unknown_name("data set", source, CATALOG)
    for recognises, read in READERS.values():
        if recognises(path):
            return read(path, image_size)
    raise DataError(
        f"{source} holds nothing that Fovea can read: expected a folder of class folders with images, a folder with "
        "MNIST's IDX files, or a .npz with x_train and y_train."
    )


def _is_other_data(path: Path, name: str) -> bool:
    """Whether a folder in the working folder bears a catalog name but is not where the catalog finds that set."""
    if not path.is_dir():
        return False
    own = any(exists(folder / name) and path.samefile(folder / name) for folder in search_folders())
    return not own and any(recognises(path) for recognises, _ in READERS.values())


def only_part(raw: RawData, role: str) -> RawSet:
    """The images of data that was given for one purpose (`val_data`, `test_data`, `evaluate --data`).

    Its part of that name where it has one, else all of it, if it has but one part.

    Raises:
        DataError: when it has several parts and none is called `role`.
    """
    if role in raw.parts:
        return raw.parts[role]
    if len(raw.parts) == 1:
        return next(iter(raw.parts.values()))
    raise DataError(
        f"{raw.name} has the parts {', '.join(raw.parts)}: which of them is the {role} data cannot be told."
    )


def with_part(raw: RawData, role: str, other: RawData) -> RawData:
    """`raw` with its part `role` taken from `other`.

    Raises:
        DataError: when both state their class names and these differ.
    """
    if raw.classes and other.classes and not set(other.classes) <= set(raw.classes):
        raise DataError(
            f"The {role} data {other.name} has other classes than {raw.name}: {', '.join(other.classes[:10])} "
            f"instead of {', '.join(raw.classes[:10])}."
        )
    return replace(raw, parts={**raw.parts, role: only_part(other, role)}, notes=raw.notes + other.notes)
