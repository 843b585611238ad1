"""From what the user names (a catalog name, a path, arrays) to raw parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fovea.data.catalog import CATALOG, read_named
from fovea.data.folders import search_folders
from fovea.data.imageset import ImageSet, RawData, RawSet
from fovea.data.labels import encode_labels, flat_labels
from fovea.data.options import ReadOptions
from fovea.data.readers.arrays import set_from_arrays
from fovea.data.readers.recognise import read_path, recognised
from fovea.data.tree import reason_of
from fovea.errors import DataError, FoveaError
from fovea.registry import unknown_name


def exists(path: Path) -> bool:
    """Whether something is there; what cannot be looked at is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_path_like(source: str) -> bool:
    """Whether a text names a place on the disk rather than a catalog entry."""
    return exists(Path(source)) or any(mark in source for mark in ("/", "\\", ".")) or source.startswith("~")


def is_known_data(source: str | Path) -> Literal["name", "path"] | None:
    """Whether a text is a catalog name or a place on the disk; None where it is neither."""
    if str(source) in CATALOG:
        return "name"
    return "path" if is_path_like(str(source)) else None


def read_raw(data: Any, options: ReadOptions | None = None) -> RawData:
    """Read data of any form.

    Args:
        data: a catalog name, a path, an ImageSet, a dict of ImageSets by part, a pair (images, labels), or
            ((x_train, y_train), (x_test, y_test)).

    Raises:
        DataError: when nothing readable is there.
        SettingsError: when a name is neither a data set nor a path.
        RunFailedError: when a data set of the catalog cannot be downloaded.
    """
    options = options or ReadOptions()
    if isinstance(data, ImageSet):
        return _from_image_sets({"train": data})
    if isinstance(data, Mapping) and data and all(isinstance(images, ImageSet) for images in data.values()):
        return _from_image_sets(dict(data))
    if isinstance(data, str | Path):
        try:
            return _read_path_or_name(str(data), options)
        except (OSError, RuntimeError, ValueError) as error:  # no permission, a name too long, ~ of nobody
            if isinstance(error, FoveaError):
                raise
            raise DataError(f"{data} cannot be read: {reason_of(error)}.") from None
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
        "expected a catalog name, a path, a pair (images, labels), or two, ((x_train, y_train), (x_test, y_test))."
    )


def _is_keras_pairs(data: Any) -> bool:
    """Whether data is ((x_train, y_train), (x_test, y_test)), as Keras' load_data returns it."""
    pairs = isinstance(data, tuple) and len(data) == 2 and all(isinstance(p, tuple) and len(p) == 2 for p in data)
    return pairs and getattr(data[0][0], "ndim", 0) >= 3


def _from_image_sets(sets: dict[str, ImageSet]) -> RawData:
    if "train" not in sets:
        raise DataError(f"The parts are called {', '.join(sets)}: expected 'train', and perhaps 'val' and 'test'.")
    parts = {
        part: RawSet(images.images, np.array(images.classes)[images.labels], images.ids)
        for part, images in sets.items()
    }
    return RawData("arrays", "an ImageSet", parts, sets["train"].classes)


def _read_path_or_name(source: str, options: ReadOptions) -> RawData:
    path = Path(source).expanduser()
    if source in CATALOG:
        if _is_other_data(path, source):
            raise DataError(
                f"{source!r} is both a data set of the catalog and a folder here: write ./{source} for the folder, "
                f"or call from another folder for the data set."
            )
        return read_named(source, options)
    if not exists(path):
        if is_path_like(source):
            raise DataError(f"{source} does not exist (looked for it from {Path.cwd()}).")
        raise unknown_name("data set", source, CATALOG)
    return read_path(path, options)


def _is_other_data(path: Path, name: str) -> bool:
    """Whether a folder in the working folder bears a catalog name but is not where the catalog finds that set."""
    if not path.is_dir():
        return False
    own = any(exists(folder / name) and path.samefile(folder / name) for folder in search_folders())
    return not own and recognised(path)


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
    added = only_part(other, role)
    parts = dict(raw.parts)
    if _speak_differently(raw, other, added):  # then the names of the classes are what both have in common
        parts = {part: _by_name(found, raw.classes) for part, found in parts.items()}
        added = _by_name(added, other.classes)
    return replace(raw, parts={**parts, role: added}, notes=raw.notes + other.notes)


def _speak_differently(raw: RawData, other: RawData, added: RawSet) -> bool:
    """Whether the same label may mean different classes in two sources, or the same class have different labels."""
    labels = next(iter(raw.parts.values())).labels
    if labels is None or added.labels is None:
        return False
    text = [np.asarray(found).dtype.kind in "OUS" for found in (labels, added.labels)]
    orders_differ = raw.classes != other.classes and raw.classes is not None and other.classes is not None
    return text[0] != text[1] or (orders_differ and not any(text))


def _by_name(found: RawSet, classes: tuple[str, ...] | None) -> RawSet:
    if found.labels is None:
        return found
    labels = flat_labels(found.labels, "the labels")
    if labels.dtype.kind != "U" and classes is not None:
        labels = encode_labels(labels, dict(enumerate(classes)), "the data")
        return replace(found, labels=np.array(classes)[labels])
    return replace(found, labels=labels.astype(np.str_))
