"""The data sets that have a name, and where they are looked for."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fovea.data.imageset import RawData, RawSet
from fovea.data.readers.idx import read_idx_folder, recognises_idx
from fovea.data.readers.npz import read_npz
from fovea.errors import DataError
from fovea.registry import Registry

_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class CatalogEntry:
    """One named data set: its classes, and whether mirrored images keep their class ("photos") or not."""

    classes: tuple[str, ...]
    kind: str
    description: str


CATALOG: Registry[CatalogEntry] = Registry(
    "data set",
    {
        "digits": CatalogEntry(
            tuple("0123456789"),
            "characters",
            "1,797 grey 8x8 digits, embedded in scikit-learn: no file needed",
        ),
        "mnist": CatalogEntry(tuple("0123456789"), "characters", "60,000 + 10,000 grey 28x28 handwritten digits"),
        "fashion-mnist": CatalogEntry(_FASHION, "photos", "60,000 + 10,000 grey 28x28 articles of clothing"),
        "cifar10": CatalogEntry(_CIFAR10, "photos", "50,000 + 10,000 colour 32x32 photographs"),
    },
)


def search_folders() -> list[Path]:
    """Where named data sets are looked for: FOVEA_DATA, then the cache folder."""
    data, cache = os.environ.get("FOVEA_DATA"), os.environ.get("XDG_CACHE_HOME", "")
    folders = [Path(data)] if data else []
    with contextlib.suppress(RuntimeError):  # a user without a home
        folders.append((Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "fovea")
    return folders


def read_named(name: str) -> RawData:
    """Read a data set of the catalog.

    Raises:
        DataError: when its files are not found, with the places that were searched.
        SettingsError: when no data set has this name.
    """
    entry = CATALOG[name]
    raw = _read_digits() if name == "digits" else _find(name)
    return replace(raw, name=name, classes=entry.classes, kind=entry.kind)


def _find(name: str) -> RawData:
    for folder in search_folders():
        if (folder / name).is_dir() and recognises_idx(folder / name):
            return read_idx_folder(folder / name)
        for archive in (folder / f"{name}.npz", folder / "npz" / f"{name}.npz"):
            if archive.is_file():
                return read_npz(archive)
    places = ", ".join(str(folder) for folder in search_folders())
    raise DataError(
        f"The data set {name!r} was not found in {places}. Set FOVEA_DATA to a folder that holds {name}/ with the "
        f"four IDX files (train-images-idx3-ubyte.gz ...) or {name}.npz as Keras stores it."
    )


def _read_digits() -> RawData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.asarray(bunch.images)
    return RawData(
        "digits", "scikit-learn", {"train": RawSet(images, np.asarray(bunch.target), np.arange(len(images)))}
    )
