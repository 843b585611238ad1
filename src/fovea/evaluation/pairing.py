"""Two sets of predictions brought onto the same images: matched by id, with the classes matched by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError
from fovea.evaluation.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Pairing:
    """Predictions of the same images, in the same order, with the same classes in the same order.

    Attributes:
        notes: what had to be done to bring them there.
    """

    first: Predictions
    second: Predictions
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.first)


def pair_images(first: Predictions, second: Predictions) -> Pairing:
    """Match two sets of predictions image by image.

    Images are matched by id. All images of the smaller set have to be in the larger; classes may stand in another
    order, and are matched by name.

    Raises:
        DataError: where classes have other names, images are not the same, or labels contradict; with counts.
    """
    notes = []
    if first.classes != second.classes:
        second = _with_classes(second, first.classes)
        notes.append("The classes stand in another order in the second: they were matched by name.")
    if not np.array_equal(first.ids.astype(str), second.ids.astype(str)):
        sizes = len(first), len(second)
        first, second = _matched(first, second)
        if sizes != (len(first), len(second)):
            notes.append(f"Of {sizes[0]:,} and {sizes[1]:,} images the {len(first):,} that both have are compared.")
    contrary = int((first.labels != second.labels).sum())
    if contrary:
        raise DataError(
            f"The two were not made on the same images: {contrary:,} of {len(first):,} images with the same id have "
            "another label. Compare runs on the same test images."
        )
    return Pairing(first, second, tuple(notes))


def _with_classes(predictions: Predictions, classes: tuple[str, ...]) -> Predictions:
    """The same predictions with the classes in another order."""
    if len(set(classes)) < len(classes) or set(classes) != set(predictions.classes):
        raise DataError(
            f"The two have other classes: only the first has {_some(set(classes) - set(predictions.classes))}, only "
            f"the second {_some(set(predictions.classes) - set(classes))}. Compare runs with the same classes."
        )
    column = {name: index for index, name in enumerate(predictions.classes)}
    order = np.array([column[name] for name in classes])
    place: NDArray[np.int64] = np.argsort(order)
    return Predictions(predictions.logits[:, order], place[predictions.labels], predictions.ids, classes)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(map(repr, shown)) + more) if shown else "none"


def _matched(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """The images of the smaller set in both, in the order of the first."""
    ids = first.ids.astype(str), second.ids.astype(str)
    common, rows, others = np.intersect1d(*ids, return_indices=True)
    repeated = any(len(np.unique(each)) < len(each) for each in ids)
    if repeated or len(common) < min(len(first), len(second)):
        reason = "ids are there twice" if repeated else f"{len(common):,} ids are common to both"
        raise DataError(
            f"The two were not made on the same images ({len(first):,} and {len(second):,}; {reason}): a paired test "
            "needs the same ones. Train both with the same test images (test_data, or the same split_seed)."
        )
    order = np.argsort(rows)
    return _rows(first, rows[order]), _rows(second, others[order])


def _rows(predictions: Predictions, rows: NDArray[np.int64]) -> Predictions:
    return Predictions(predictions.logits[rows], predictions.labels[rows], predictions.ids[rows], predictions.classes)
