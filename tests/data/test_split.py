"""Splits: disjoint, stratified, a function of split_seed alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from fovea.data.split import Split, make_split, split_from_json
from fovea.errors import DataError, SettingsError
from fovea.settings import DataSettings

LABELS = {"train": np.repeat(np.arange(4), [400, 300, 200, 100])}


def cut(labels: dict[str, np.ndarray] = LABELS, seed: int = 0) -> tuple[Split, list[str]]:
    return make_split(labels, DataSettings(val_split=0.1, test_split=0.2, split_seed=seed))


def test_the_three_splits_are_disjoint_and_complete() -> None:
    split, notes = cut()
    together = np.concatenate([split.indices[name] for name in ("train", "val", "test")])
    assert np.array_equal(np.sort(together), np.arange(1000))
    assert [len(split.indices[name]) for name in ("train", "val", "test")] == [720, 80, 200]
    assert "200 were cut off for the test" in notes[0]


def test_class_shares_are_kept() -> None:
    split, _ = cut()
    for name, count in (("val", 80), ("test", 200)):
        shares = np.bincount(LABELS["train"][split.indices[name]]) / count
        assert np.allclose(shares, [0.4, 0.3, 0.2, 0.1], atol=0.01)


def test_the_split_depends_on_its_seed_alone() -> None:
    assert cut(seed=3)[0].fingerprint == cut(seed=3)[0].fingerprint
    assert cut(seed=3)[0].fingerprint != cut(seed=4)[0].fingerprint


def test_a_seed_of_its_own_cuts_other_validation_images_and_the_same_test_images() -> None:
    splits = [
        make_split(LABELS, DataSettings(val_split=0.1, test_split=0.2, split_seed=3, val_seed=seed))[0]
        for seed in (None, 3, 4)
    ]
    assert splits[0].fingerprint == splits[1].fingerprint
    assert np.array_equal(splits[0].indices["test"], splits[2].indices["test"])
    assert not np.array_equal(splits[0].indices["val"], splits[2].indices["val"])


def test_parts_that_are_given_are_taken_whole() -> None:
    split, notes = cut({**LABELS, "test": np.array([0, 1, 2, 3]), "val": np.array([1, 2])})
    assert split.sources == {"train": "train", "val": "val", "test": "test"}
    assert [len(split.indices[name]) for name in ("train", "val", "test")] == [1000, 2, 4]
    assert notes == []


def test_a_class_with_one_image_keeps_it_for_training() -> None:
    split, _ = cut({"train": np.array([0] * 50 + [1] * 50 + [2])})
    assert 100 in split.indices["train"]


def test_a_random_cut_leaves_an_image_of_each_class_to_train_on() -> None:
    for seed in range(20):
        split, _ = cut({"train": np.arange(20) % 10}, seed)
        assert len(np.unique((np.arange(20) % 10)[split.indices["train"]])) == 10


def test_too_few_images_for_shares_are_drawn_at_random_and_said_so() -> None:
    split, notes = cut({"train": np.arange(20) % 10})
    assert len(split.indices["val"]) == 2
    assert any("too few images to keep the class shares" in note for note in notes)


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(SettingsError, match="too few to cut a test split"):
        cut({"train": np.array([0])})


def test_a_split_survives_json_and_damage_is_noticed() -> None:
    split, _ = cut()
    value = json.loads(json.dumps(split.as_json()))
    assert split_from_json(value).fingerprint == split.fingerprint
    value["splits"]["val"]["indices"][0] += 1
    with pytest.raises(DataError, match="damaged"):
        split_from_json(value)


def test_a_split_without_stratification_is_what_train_test_split_gives() -> None:
    """So that a program that split with scikit-learn's defaults is repeated on the same images."""
    settings = DataSettings(test_split=0.1, split_seed=3, stratify=False, validation="test")
    split, notes = make_split(LABELS, settings)
    train, held_back = train_test_split(np.arange(1000), test_size=0.1, random_state=3)
    assert set(split.indices["test"]) == set(held_back)
    assert set(split.indices["train"]) == set(train)
    assert not any("drawn at random" in note for note in notes)


def test_validation_on_the_test_images_leaves_every_other_image_for_training() -> None:
    split, _ = make_split({**LABELS, "test": np.arange(4)}, DataSettings(validation="test"))
    assert len(split.indices["train"]) == 1000
    assert split.sources["val"] == split.sources["test"] == "test"
    assert np.array_equal(split.indices["val"], split.indices["test"])


def test_of_first_images_no_later_one_is_in_any_split() -> None:
    settings = DataSettings(first_images=(500, 3), val_split=0.1)
    split, _ = make_split({**LABELS, "test": np.arange(4)}, settings)
    assert np.array_equal(split.indices["test"], [0, 1, 2])
    together = np.concatenate([split.indices["train"], split.indices["val"]])
    assert np.array_equal(np.sort(together), np.arange(500))


def test_an_unstratified_split_rounds_as_scikit_learn_does() -> None:
    labels = np.arange(2004) % 4
    split, _ = make_split({"train": labels, "test": labels[:4]}, DataSettings(val_split=0.1, stratify=False))
    assert len(split.indices["val"]) == len(train_test_split(labels, test_size=0.1)[1]) == 201


def test_what_a_setting_would_leave_unused_is_refused() -> None:
    with pytest.raises(SettingsError, match="leave the validation images of this data unused"):
        make_split({**LABELS, "val": np.arange(4), "test": np.arange(4)}, DataSettings(validation="test"))
    with pytest.raises(SettingsError, match="no test images come with this data"):
        make_split(LABELS, DataSettings(first_images=(80, 20)))
