"""Split: which images train, which choose, and which are kept for the one final test."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError, SettingsError
from fovea.settings import DataSettings


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint indices for training, validation and test.

    Attributes:
        sources: split name -> the part of the data ("train", "val", "test") that its indices point into.
        indices: split name -> int64 indices, ascending.
        split_seed: the seed that cut them.
    """

    sources: dict[str, str]
    indices: dict[str, NDArray[np.int64]]
    split_seed: int

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of who is where."""
        digest = hashlib.sha256()
        for name in sorted(self.indices):
            digest.update(f"{name}:{self.sources[name]}:".encode())
            digest.update(np.ascontiguousarray(self.indices[name]).data)
        return digest.hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The split as plain values, as split.json holds it."""
        splits = {
            name: {
                "part": self.sources[name],
                "count": len(self.indices[name]),
                "indices": self.indices[name].tolist(),
            }
            for name in self.indices
        }
        return {"split_seed": self.split_seed, "fingerprint": self.fingerprint, "splits": splits}


def split_from_json(value: dict[str, Any]) -> Split:
    """The inverse of `Split.as_json`.

    Raises:
        DataError: when the stored fingerprint does not fit the stored indices.
    """
    try:
        splits = value["splits"]
        split = Split(
            {name: entry["part"] for name, entry in splits.items()},
            {name: np.array(entry["indices"], np.int64) for name, entry in splits.items()},
            value["split_seed"],
        )
        intact = split.fingerprint == value["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise DataError("split.json is damaged: its fingerprint does not fit its indices.")
    return split


def make_split(labels: dict[str, NDArray[np.int64]], settings: DataSettings) -> tuple[Split, list[str]]:
    """Cut validation (and, where the data has none, test) images from the training part, by default class by class.

    Args:
        labels: part name -> class indices [N]; "train" must be there, "val" and "test" are taken as they are.
        settings: val_split is a fraction of what is left after the test images are cut; with `validation: test` the
            test images are the validation images too. `first_images` leaves out what comes later.

    Returns:
        The split, and lines to show the user.

    Raises:
        SettingsError: when too few images are there to cut.
    """
    if settings.validation == "test" and "val" in labels:
        raise SettingsError("validation: test would leave the validation images of this data unused: leave one out.")
    if settings.first_images is not None and "test" not in labels:
        raise SettingsError("first_images counts training and test images, but no test images come with this data.")
    notes: list[str] = []
    first = dict(zip(("train", "test"), settings.first_images or (), strict=False))
    rest = np.arange(len(labels["train"]))[: first.get("train")]
    sources = {"train": "train"}
    indices: dict[str, NDArray[np.int64]] = {}
    for name, fraction in (("test", settings.test_split), ("val", settings.val_split)):
        if name == "val" and settings.validation == "test":
            sources[name], indices[name] = sources["test"], indices["test"]
        elif name in labels:
            sources[name], indices[name] = name, np.arange(len(labels[name]))[: first.get(name)]
        else:
            rest, cut, stratified = _cut(rest, labels["train"], fraction, settings, name)
            sources[name], indices[name] = "train", cut
            notes += _cut_notes(name, fraction, len(cut), settings.stratify and not stratified)
    indices["train"] = rest
    return Split(sources, indices, settings.split_seed), notes


def _cut_notes(name: str, fraction: float, count: int, shares_lost: bool) -> list[str]:
    notes = [f"{name} split: too few images to keep the class shares; drawn at random"] if shares_lost else []
    if name == "test":
        notes.append(
            f"no test images came with the data: {count:,} were cut off for the test (test_split {fraction:g})"
        )
    return notes


def _cut(
    rest: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, settings: DataSettings, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Cut about `fraction` of `rest` off: (what stays, what was cut, whether class shares were kept)."""
    from sklearn.model_selection import train_test_split

    count = max(1, (round if settings.stratify else math.ceil)(len(rest) * fraction))  # scikit-learn rounds up
    if len(rest) - count < 1:
        raise SettingsError(
            f"{len(rest)} images are too few to cut a {name} split of {fraction:g} from: "
            f"give more images, or {name}_data of its own."
        )
    seed = settings.split_seed if name == "test" or settings.val_seed is None else settings.val_seed
    state = seed % 2**32
    if not settings.stratify:
        _, cut = train_test_split(rest, test_size=count, random_state=state)
        return np.setdiff1d(rest, cut), np.sort(cut), False
    class_sizes = np.bincount(labels[rest])
    alone = class_sizes[labels[rest]] == 1  # a class with one image keeps it for training
    pool = rest[~alone]
    num_classes = len(np.unique(labels[pool]))
    stratified = len(pool) - count >= num_classes and count >= num_classes
    if not stratified:  # then at least one image of each class stays, whatever is drawn
        _, first = np.unique(labels[rest], return_index=True)
        pool = np.delete(rest, first) if len(rest) - len(first) >= count + 1 else rest
    _, cut = train_test_split(pool, test_size=count, random_state=state, stratify=labels[pool] if stratified else None)
    return np.setdiff1d(rest, cut), np.sort(cut), stratified
