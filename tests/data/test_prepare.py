"""From raw parts to three sets: only training images decide anything, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fovea.data.audit import describe
from fovea.data.imageset import ImageSet, RawData, RawSet
from fovea.data.load import read_raw, with_part
from fovea.data.pixels import to_uint8
from fovea.data.prepare import Splits, check_class_presence, encode_parts, prepare_splits
from fovea.data.preprocess import fit_preprocessor
from fovea.errors import DataError
from fovea.settings import DataSettings, PreprocessingSettings

Arrays = tuple[np.ndarray, np.ndarray]


def prepared(images: object, labels: object) -> Splits:
    return prepare_splits(read_raw((images, labels)), DataSettings())


def test_images_labels_and_ids_stay_together(toy: Arrays) -> None:
    splits = prepared(*toy)
    assert sum(len(images) for images in splits.sets.values()) == 150
    for images in splits.sets.values():
        assert np.array_equal(images.images[..., 0], toy[0][images.ids])
        assert np.array_equal(images.labels, toy[1][images.ids])
        assert images.classes == ("0", "1", "2")


def test_the_value_range_is_fitted_on_training_images_alone(toy: Arrays) -> None:
    images = toy[0].astype(np.float64) / 100
    first = prepare_splits(read_raw((images, toy[1])), DataSettings())
    images[first.split.indices["test"]] *= 50
    assert prepare_splits(read_raw((images, toy[1])), DataSettings()).input_range == first.input_range


def test_one_hot_and_named_labels_give_the_same_sets(toy: Arrays) -> None:
    plain, one_hot = prepared(*toy), prepared(toy[0], np.eye(3)[toy[1]])
    named = prepared(toy[0], np.array(["x", "y", "z"])[toy[1]])
    for name in plain.sets:
        assert plain.sets[name].fingerprint == one_hot.sets[name].fingerprint
        assert np.array_equal(plain.sets[name].labels, named.sets[name].labels)
    assert named.sets["val"].classes == ("x", "y", "z")


def parts(**given: tuple[np.ndarray, np.ndarray]) -> RawData:
    found = {name: RawSet(images, labels, np.arange(len(images))) for name, (images, labels) in given.items()}
    return RawData("set", "arrays", found)


def test_numbers_in_one_part_are_the_classes_of_that_name_in_another(toy: Arrays) -> None:
    images, labels = toy
    mixed = np.array(["0", "1", "unknown"])[labels]
    known = labels < 2
    encoded, classes = encode_parts(parts(train=(images, mixed), test=(images[known], labels[known])))
    assert classes == ("0", "1", "unknown")
    assert np.array_equal(encoded["test"], labels[known])
    with pytest.raises(DataError, match="no class of the training images: unknown"):
        encode_parts(parts(train=(images[known], labels[known]), test=(images, mixed)))


@pytest.mark.parametrize("fractions", ["train", "test"])
def test_a_part_on_another_scale_is_read_as_evaluate_would_and_told(toy: Arrays, fractions: str) -> None:
    images, labels = toy
    given = {part: (images / 255 if part == fractions else images, labels) for part in ("train", "test")}
    splits = prepare_splits(parts(**given), DataSettings(val_split=0))
    assert np.array_equal(splits.sets["test"].images[..., 0], images)
    assert np.array_equal(splits.sets["train"].images[..., 0], images)
    preprocessor = fit_preprocessor(splits.sets["train"].images, PreprocessingSettings(), splits.input_range)
    assert np.array_equal(preprocessor.to_uint8(given["test"][0]), splits.sets["test"].images)
    (problem,) = [problem for problem in splits.problems if problem.id == "scale-mapped"]
    assert problem.evidence["part"] == "test"
    assert np.array_equal(describe(parts(**given)).sets["test"].images, splits.sets["test"].images)


def test_a_part_far_outside_the_training_values_is_refused(toy: Arrays) -> None:
    images, labels = toy
    given = parts(train=(images, labels), test=(images / 127.5 - 1, labels))
    with pytest.raises(DataError, match=r"set \(test\) range from -1 to .*, but the model was trained on 0..255"):
        prepare_splits(given, DataSettings())
    assert "test" in describe(given).sets  # the audit tells it instead


def test_parts_on_one_scale_keep_the_training_range(toy: Arrays) -> None:
    images, labels = toy
    binary = (images > 100).astype(np.uint8)
    for train, test in (
        (images / 255, images / 255 * 1.1),
        (images / 100, images / 90),
        (binary.astype(np.float32), binary),
    ):
        splits = prepare_splits(parts(train=(train, labels), test=(test, labels)), DataSettings(val_split=0))
        assert np.array_equal(splits.sets["test"].images[..., 0], to_uint8(test, splits.input_range))
        assert "scale-mapped" not in [problem.id for problem in splits.problems]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: {"train": (x, y), "test": (x[:, :4], y)}, "differ in height x width x channels"),
        (lambda x, y: {"train": (x, y), "test": (x, y + 1)}, r"set \(test\) has labels .*: 3"),
        (lambda x, y: {"train": (x, y * 0)}, "one class only"),
        (lambda x, y: {"train": (x, np.arange(len(y)))}, "a label of its own"),
        (lambda x, y: {"train": (x, np.eye(5)[y])}, "No training image of class 3, 4"),
        (lambda x, y: {"train": (x / np.where(y == 1, 0, 1)[:, None, None], y)}, "NaN or infinite"),
    ],
    ids=["sizes", "strange class", "one class", "ids as labels", "class never seen", "nan"],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_data_that_cannot_be_used_is_refused(toy: Arrays, change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepare_splits(parts(**change(*toy)), DataSettings())  # type: ignore[operator]


def test_a_class_missing_from_validation_is_a_warning(toy: Arrays) -> None:
    raw = with_part(read_raw(toy), "val", read_raw((toy[0][:2], toy[1][:2])))
    splits = prepare_splits(raw, DataSettings())
    (problem,) = [problem for problem in splits.problems if problem.id == "class-missing"]
    assert problem.cause == "No val image of class 2: the val figures say nothing about it."
    many = ImageSet(np.zeros((1, 4, 4, 1), np.uint8), np.array([12]), tuple("abcdefghijklm"), np.arange(1))
    (problem,) = check_class_presence({"val": many})
    assert "of class a, b, c, d, e, f, g, h, i, j and 2 more: the val" in problem.cause


def test_training_images_among_the_test_images_are_counted(toy: Arrays) -> None:
    assert prepared(*toy).problems == []
    raw = with_part(read_raw(toy), "test", read_raw((toy[0][:40], toy[1][:40])))
    splits = prepare_splits(raw, DataSettings())
    trained = set(splits.sets["train"].ids.tolist())
    (problem,) = splits.problems
    assert problem.id == "shared-images"
    assert problem.cause.startswith(f"{len(trained & set(range(40)))} of 40 test images are training images too")


def test_two_sources_with_other_classes_are_refused() -> None:
    digits = read_raw("digits")
    clothes = replace(digits, name="clothes", classes=tuple("ABCDEFGHIJ"))
    with pytest.raises(DataError, match="The test data clothes has other classes than digits: A, B"):
        with_part(digits, "test", clothes)


def test_a_saved_split_of_more_images_than_there_are_is_refused(toy: Arrays) -> None:
    saved = prepared(*toy).split
    with pytest.raises(DataError, match="fewer images than when it was split"):
        prepare_splits(read_raw((toy[0][:100], toy[1][:100])), DataSettings(), split=saved)


def test_a_saved_split_is_used_again(toy: Arrays) -> None:
    raw = read_raw(toy)
    first = prepare_splits(raw, DataSettings(split_seed=5))
    again = prepare_splits(raw, DataSettings(), split=first.split)
    assert again.sets["test"].fingerprint == first.sets["test"].fingerprint


def test_an_image_size_is_applied_to_every_part(toy: Arrays) -> None:
    raw = with_part(read_raw(toy), "test", read_raw((np.zeros((3, 20, 20), np.uint8), toy[1][:3])))
    splits = prepare_splits(raw, DataSettings(), image_size=(16, 12))
    assert {images.image_shape for images in splits.sets.values()} == {(16, 12, 1)}


def test_other_data_with_its_classes_in_another_order_keeps_their_meaning(toy: Arrays) -> None:
    ids = np.arange(len(toy[1]))
    first = RawData("first", "made up", {"train": RawSet(toy[0], toy[1], ids)}, ("cat", "dog", "owl"))
    other = RawData("other", "made up", {"train": RawSet(toy[0], (toy[1] + 1) % 3, ids)}, ("owl", "cat", "dog"))
    labels, classes = encode_parts(with_part(first, "test", other))
    assert classes == ("cat", "dog", "owl")
    assert np.array_equal(labels["train"], labels["test"])


@pytest.mark.parametrize("numbers_first", [True, False])
def test_numbers_and_names_of_the_same_classes_are_the_same(toy: Arrays, numbers_first: bool) -> None:
    ids = np.arange(len(toy[1]))
    numbers = RawData("numbers", "made up", {"train": RawSet(toy[0], toy[1], ids)})
    names = RawData("names", "made up", {"train": RawSet(toy[0], toy[1].astype(str), ids)}, ("0", "1", "2"))
    pair = (numbers, names) if numbers_first else (names, numbers)
    labels, classes = encode_parts(with_part(pair[0], "test", pair[1]))
    assert classes == ("0", "1", "2")
    assert np.array_equal(labels["train"], labels["test"])
