"""Two sets of predictions on the same images: matched by id and class name, or refused with the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fovea.errors import DataError
from fovea.evaluation.paired import mcnemar
from fovea.evaluation.pairing import pair_images
from fovea.evaluation.predictions import Predictions

CLASSES = ("a", "b", "c")


def made(count: int = 60, seed: int = 0, **changes: Any) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 3, count)
    logits = rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]
    given = {"logits": logits.astype(np.float32), "labels": labels, "ids": np.arange(count), "classes": CLASSES}
    return Predictions(**(given | changes))


def rows(found: Predictions, order: Any) -> Predictions:
    return Predictions(found.logits[order], found.labels[order], found.ids[order], found.classes)


def test_another_order_of_images_or_classes_changes_nothing_of_the_test() -> None:
    first, second = made(seed=1), made(seed=2)
    expected = mcnemar(first, second)
    shuffled = rows(second, np.random.default_rng(0).permutation(60))
    order = [2, 0, 1]
    place = np.argsort(order)
    turned = Predictions(
        shuffled.logits[:, order], place[shuffled.labels], shuffled.ids, tuple(CLASSES[k] for k in order)
    )
    pairing = pair_images(first, turned)
    assert mcnemar(pairing.first, pairing.second) == expected
    assert pairing.second.classes == CLASSES
    assert np.array_equal(pairing.second.predicted, second.predicted)
    assert len(pairing.notes) == 1
    assert "matched by name" in pairing.notes[0]


def test_a_smaller_set_that_lies_in_the_larger_is_compared_on_what_both_have() -> None:
    first, second = made(seed=1), made(seed=2)
    part = rows(second, np.arange(10, 30))
    pairing = pair_images(first, part)
    assert len(pairing) == 20
    assert np.array_equal(pairing.first.ids, np.arange(10, 30))
    assert pairing.notes == ("Of 60 and 20 images the 20 that both have are compared.",)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (made(ids=np.arange(30, 90)), "60 and 60; 30 ids are common to both"),
        (made(ids=np.arange(100, 160)), "0 ids are common"),
        (made(ids=np.arange(60) // 2), "ids are there twice"),
        (made(labels=(made().labels + 1) % 3), "60 of 60 images with the same id have another label"),
        (made(classes=("a", "b", "d")), "only the first has 'c', only the second 'd'"),
    ],
)
def test_other_images_labels_or_classes_are_refused(other: Predictions, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pair_images(made(), other)
