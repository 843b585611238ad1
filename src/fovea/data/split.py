"""Split: which images train, which choose, and which are kept for the one final test."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError, SettingsError
from fovea.settings import DataSettings


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint indices for training, validation (if there are any) and test.

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


Groups = Mapping[str, NDArray[Any]]  # part name -> which group each image belongs to, [N]
_GROUP_DRAWS = 32  # of groups for a cut, of which the one with the best class shares is taken


def make_split(
    labels: dict[str, NDArray[np.int64]], settings: DataSettings, groups: Groups | None = None
) -> tuple[Split, list[str]]:
    """Cut validation (and, where the data has none, test) images from the training part, by default class by class.

    Args:
        labels: part name -> class indices [N]; "train" must be there, "val" and "test" are taken as they are.
        settings: val_split is a fraction of what is left after the test images are cut, 0 cuts none; with
            `validation: test` the test images are the validation images too; with `fold` one fold of what is left
            after the test images are cut. `first_images` leaves out what comes later.
        groups: no group is cut in two; None: each image stands for itself.

    Returns:
        The split, "val" left out where there is none, and lines to show the user.

    Raises:
        SettingsError: when too few images are there to cut, or settings contradict the parts.
    """
    _check_parts(labels, settings)
    notes: list[str] = []
    first = dict(zip(("train", "test"), settings.first_images or (), strict=False))
    rest = np.arange(len(labels["train"]))[: first.get("train")]
    of_train = None if groups is None else groups["train"]
    sources = {"train": "train"}
    indices: dict[str, NDArray[np.int64]] = {}
    for name, fraction in (("test", settings.test_split), ("val", settings.val_split)):
        if name == "val" and settings.validation == "test":
            sources[name], indices[name] = sources["test"], indices["test"]
        elif name in labels:
            sources[name], indices[name] = name, np.arange(len(labels[name]))[: first.get(name)]
        elif name == "val" and settings.fold is not None:
            number, of = settings.fold
            cut = cut_folds(rest, labels["train"], of, settings, of_train)[number - 1]
            rest, sources[name], indices[name] = np.setdiff1d(rest, cut), "train", cut
        elif fraction > 0:
            rest, cut, stratified = _cut(rest, labels["train"], fraction, settings, name, of_train)
            sources[name], indices[name] = "train", cut
            notes += _cut_notes(name, fraction, len(cut), settings.stratify and not stratified)
    indices["train"] = rest
    return Split(sources, indices, settings.split_seed), notes


def _check_parts(labels: Mapping[str, NDArray[np.int64]], settings: DataSettings) -> None:
    for name, given in (("validation: test", settings.validation == "test"), ("fold", settings.fold is not None)):
        if given and "val" in labels:
            raise SettingsError(f"{name} would leave the validation images of this data unused: leave one out.")
    if settings.validation == "test" and settings.fold is not None:
        raise SettingsError("fold cuts validation from the training images, validation: test takes the test images.")
    if settings.first_images is not None and "test" not in labels:
        raise SettingsError("first_images counts training and test images, but no test images come with this data.")


def cut_folds(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    num_folds: int,
    settings: DataSettings,
    groups: NDArray[Any] | None = None,
) -> list[NDArray[np.int64]]:
    """Cut rows into folds of about the same size, by default with the classes' shares, by `val_seed` or
    `split_seed`.

    An image that is alone in its class is in no fold: it trains in each of them.

    Args:
        rows: int64, which of the images.
        labels: class indices of all images [N].
        groups: of all images [N]: none is cut in two.

    Returns:
        The rows of each fold, ascending.

    Raises:
        SettingsError: when there are fewer images, or groups, than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if groups is None and settings.stratify:
        rows = rows[np.bincount(labels[rows])[labels[rows]] > 1]
    of_rows = None if groups is None else groups[rows]
    count, unit = (len(rows), "images") if of_rows is None else (len(np.unique(of_rows)), "groups")
    if count < num_folds:
        raise SettingsError(f"{count} {unit} are too few for {num_folds} folds.")
    if of_rows is None:
        kind: Any = StratifiedKFold if settings.stratify else KFold
    else:
        kind = StratifiedGroupKFold if settings.stratify else GroupKFold
    seed = settings.split_seed if settings.val_seed is None else settings.val_seed
    cutter = kind(num_folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():  # of a class with fewer images than folds
        warnings.simplefilter("ignore", UserWarning)
        try:
            return [np.sort(rows[held]) for _, held in cutter.split(rows, labels[rows], of_rows)]
        except ValueError:  # every class is smaller than that
            raise SettingsError(f"No class has {num_folds} images, so that {num_folds} folds cannot be cut.") from None


def _cut_notes(name: str, fraction: float, count: int, shares_lost: bool) -> list[str]:
    notes = [f"{name} split: too few images to keep the class shares; drawn at random"] if shares_lost else []
    if name == "test":
        notes.append(
            f"no test images came with the data: {count:,} were cut off for the test (test_split {fraction:g})"
        )
    return notes


def _cut(
    rest: NDArray[np.int64],
    labels: NDArray[np.int64],
    fraction: float,
    settings: DataSettings,
    name: str,
    groups: NDArray[Any] | None = None,
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
    if groups is not None:
        cut = _cut_groups(rest, labels, groups[rest], fraction, settings, name, state)
        return np.setdiff1d(rest, cut), cut, True
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


def _cut_groups(
    rest: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[Any],
    fraction: float,
    settings: DataSettings,
    name: str,
    state: int,
) -> NDArray[np.int64]:
    """Whole groups with about `fraction` of the images: of several draws the one with the best class shares."""
    from sklearn.model_selection import GroupShuffleSplit

    count = len(np.unique(groups))
    if count < 2:
        raise SettingsError(f"All images are of one group: no {name} split can be cut from them.")
    if math.ceil(count * fraction) >= count:  # scikit-learn rounds up
        raise SettingsError(
            f"{count} groups are too few to cut a {name} split of {fraction:g} from, for none would be left: "
            f"set {name}_split to {math.floor(100 * (count - 1) / count) / 100:g} or less."
        )
    _, classes = np.unique(labels[rest] if settings.stratify else np.zeros(len(rest)), return_inverse=True)
    sizes = np.bincount(classes)
    draws = GroupShuffleSplit(_GROUP_DRAWS, test_size=fraction, random_state=state)

    def misfit(cut: NDArray[np.int64]) -> tuple[bool, float]:
        counts = np.bincount(classes[cut], minlength=len(sizes))
        return bool((counts == sizes).any()), float(np.abs(counts - fraction * sizes).sum())

    best = min((cut for _, cut in draws.split(rest, groups=groups)), key=misfit)
    return np.sort(rest[best])
