"""Labels of every form become class indices; what is no class is named."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.data.labels import class_map, encode_labels, flat_labels, natural_key
from fovea.errors import DataError


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1]),
        np.array([[2], [0], [1]], np.uint8),
        np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32),
        np.array([2.0, 0.0, 1.0]),
    ],
    ids=["integers", "column", "one-hot", "whole floats"],
)
def test_every_form_gives_the_same_column(labels: np.ndarray) -> None:
    assert flat_labels(labels, "x").tolist() == [2, 0, 1]
    assert flat_labels(labels, "x").dtype == np.int64


def test_names_stay_names_and_are_ordered_naturally() -> None:
    flat = flat_labels(np.array(["b", "a10", "a2", b"b"], object), "x")
    assert list(class_map(flat)) == ["a2", "a10", "b"]
    assert natural_key("2") < natural_key("10")


def test_numbers_need_not_begin_at_zero() -> None:
    mapping = class_map(np.array([7, 3, 3]))
    assert list(mapping.values()) == ["3", "7"]
    assert encode_labels(np.array([7, 3]), mapping, "x").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0.5, 1.0]), "image 0 in x is 0.5"),
        (np.array([1.0, np.nan]), "image 1 in x is nan"),
        (np.array([[0.3, 0.7], [0.5, 0.5]]), "not one-hot"),
        (np.array([[1, 1], [1, 0]]), "not one-hot"),
        (np.array(["a", None], object), "image 1 in x is missing"),
        (np.array(["a", " "]), "image 1 in x is missing"),
        (np.zeros((2, 2, 2)), "shape (2, 2, 2)"),
        (np.array([1j, 2j]), "complex"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError) as caught:
        flat_labels(labels, "x")
    assert words in str(caught.value)


def test_what_is_missing_in_a_table_is_no_name_of_a_class() -> None:
    class NAType:  # pandas.NA
        def __ne__(self, other: object) -> bool:
            raise TypeError("boolean value of NA is ambiguous")

    with pytest.raises(DataError, match="image 1 in x is missing"):
        flat_labels(np.array(["a", NAType()], object), "x")


def test_a_label_that_is_no_class_of_training_is_named() -> None:
    with pytest.raises(DataError, match=r"y has labels .*: 9\. Classes: 0, 1"):
        encode_labels(np.array([0, 9]), {0: "0", 1: "1"}, "y")


def test_labels_beyond_64_bits_are_refused_not_wrapped() -> None:
    with pytest.raises(DataError, match="below 2\\^63"):
        flat_labels(np.array([0, 2**63], np.uint64), "y")
