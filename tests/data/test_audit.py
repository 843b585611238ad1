"""The data audit: what it finds in data with one thing wrong with it, and that it is silent on sound data."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from fovea.data.audit import audit, audit_splits
from fovea.data.checks import check_groups, check_labels, group_of, longest_run
from fovea.data.descriptors import describe_images, frequencies_of
from fovea.data.imageset import ImageSet, RawData, RawSet
from fovea.data.near import candidates, find_near, similarity
from fovea.data.problem import Problem
from fovea.data.shifts import check_values

Images = NDArray[np.uint8]


def photos(count: int, seed: int, side: int = 24) -> Images:
    """Pictures of nothing, each another, with a spectrum like that of photos: uint8 [count, side, side, 3]."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    blur = side / 24
    coarse = gaussian_filter(noise, (0, 4 * blur, 4 * blur, 0))
    fine = gaussian_filter(noise[..., :1], (0, blur, blur, 0))
    mixed = coarse / coarse.std() + 0.7 * fine / fine.std()
    return np.clip(130 + 45 * mixed - np.array([0, 8, 20]), 0, 255).astype(np.uint8)


def as_raw(train: Images, test: Images, kind: str | None = "photos", labels: str = "random") -> RawData:
    rng = np.random.default_rng(9)
    coded = {part: rng.integers(0, 4, len(images)) for part, images in (("train", train), ("test", test))}
    if labels == "sorted":
        coded["train"] = np.sort(coded["train"])
    parts = {
        part: RawSet(images, coded[part], np.arange(len(images))) for part, images in (("train", train), ("test", test))
    }
    return RawData("toy", "arrays", parts, kind=kind)


def ids_of(problems: list[Problem]) -> dict[str, Problem]:
    return {problem.id: problem for problem in problems}


def test_nothing_is_found_in_sound_data() -> None:
    facts = audit(as_raw(photos(300, 1), photos(100, 2)))
    assert facts.problems == []
    assert facts.near is not None
    assert facts.near.looked_up == facts.near.of == 400
    assert set(facts.mean_images) == {"train", "test"}


def _jpeg(image: Images) -> Images:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


CHANGES: dict[str, Callable[[Images], Images]] = {
    "shifted": lambda images: np.roll(images, (1, -1), (1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "compressed": lambda images: np.stack([_jpeg(image) for image in images]),
    "brightened": lambda images: np.clip(images * 1.05, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_planted_near_duplicates_are_found_and_nothing_else(change: str) -> None:
    train, test = photos(300, 1), photos(100, 2)
    test[:20] = CHANGES[change](train[40:60])
    facts = audit(as_raw(train, test))
    assert facts.near is not None
    found = {(pair.row, pair.other_row) for pair in facts.near.pairs if pair.part == "test"}
    planted = {(row, row + 40) for row in range(20)}
    assert len(found & planted) >= 19
    assert found <= planted
    assert all(pair.mirrored == (change == "mirrored") for pair in facts.near.pairs)
    problem = ids_of(facts.problems)["near-duplicates-across"]
    assert problem.severity == "warning"
    assert problem.evidence["images"] == len(found)


@pytest.mark.parametrize(("num_images", "severity"), [(1000, "note"), (999, "warning")])
def test_so_few_near_duplicates_that_no_figure_moves_are_a_note(num_images: int, severity: str) -> None:
    train, test = photos(300, 1), photos(num_images, 2)
    test[0] = np.roll(train[100], 1, 1)
    problem = ids_of(audit(as_raw(train, test)).problems)["near-duplicates-across"]
    assert (problem.evidence["images"], problem.severity) == (1, severity)


def test_mirrored_characters_are_no_duplicates() -> None:
    train, test = photos(300, 1), photos(100, 2)
    test[:20] = train[:20, :, ::-1]
    assert audit(as_raw(train, test, kind="characters")).problems == []


def test_copies_and_conflicting_labels() -> None:
    train, test = photos(300, 1), photos(100, 2)
    test[:30] = train[:30]
    train[200] = train[100]
    raw = as_raw(train, test)
    labels = np.asarray(raw.parts["train"].labels)
    np.asarray(raw.parts["test"].labels)[:30] = labels[:30]
    labels[200] = (labels[100] + 1) % 4
    found = ids_of(audit(raw).problems)
    assert found["shared-images"].severity == "severe"
    assert found["shared-images"].evidence == {"part": "test", "images": 30, "of": 100}
    assert found["duplicates"].evidence["images"] == 1
    assert found["conflicting-labels"].evidence["images"] == 2
    assert "near-duplicates-across" not in found  # copies are told once


def test_two_labels_of_nearly_the_same_image() -> None:
    train, test = photos(300, 1), photos(100, 2)
    train[200] = np.roll(train[100], 1, 0)
    raw = as_raw(train, test)
    labels = np.asarray(raw.parts["train"].labels)
    labels[200] = (labels[100] + 1) % 4
    found = ids_of(audit(raw).problems)
    assert found["near-conflicting-labels"].evidence["pairs"] == 1
    assert found["near-duplicates"].severity == "note"


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        (lambda images: 255 - images, "polarity", "severe"),
        (lambda images: images / 255, "scale", "severe"),
        (lambda images: images[..., ::-1], "channel-order", "severe"),
        (lambda images: (images * 0.6).astype(np.uint8), "values-differ", "warning"),
    ],
)
def test_a_split_with_other_values(change: Callable[[Images], Images], name: str, severity: str) -> None:
    bright = np.add.outer(np.linspace(-60, 60, 24), np.zeros(24)).astype(np.int16)[None, :, :, None]  # light below
    train, test = (np.clip(photos(count, count) + bright - [0, 0, 60], 0, 255).astype(np.uint8) for count in (300, 100))
    (problem,) = check_values({"train": train, "test": change(test)})
    assert (problem.id, problem.severity) == (name, severity)
    assert check_values({"train": train, "test": test}) == []


def test_a_small_split_may_differ_by_chance() -> None:
    images = photos(400, 3) // 2 + np.random.default_rng(0).integers(0, 120, (400, 1, 1, 1)).astype(np.uint8)
    for start in range(0, 100, 5):
        assert check_values({"train": images[100:], "test": images[start : start + 5]}) == []


def test_constant_images_sorted_labels_and_shares_of_classes() -> None:
    train, test = photos(300, 1), photos(200, 2)
    train[7] = 90
    raw = as_raw(train, test, labels="sorted")
    np.asarray(raw.parts["test"].labels)[:120] = 0
    found = ids_of(audit(raw).problems)
    assert found["constant-images"].evidence["examples"] == ["7"]
    assert found["sorted-data"].severity == "note"
    assert found["class-shares"].severity == "warning"
    assert found["class-shares"].evidence["class"] == "0"
    folder = replace(raw, form="image folder")  # its reader sorts by class
    assert "sorted-data" not in ids_of(audit(folder).problems)


def test_class_names_that_read_alike_are_told_but_single_letters_may_differ_by_case() -> None:
    def told(*classes: str) -> list[str]:
        rows = np.arange(len(classes))
        images = ImageSet(np.zeros((len(rows), 8, 8, 1), np.uint8), rows, classes, rows)
        return [problem.cause for problem in check_labels({"train": images}) if problem.id == "alike-class-names"]

    assert told("A", "a", "B", "b") == [] == told("Cat", "Cats", "dog")
    (two_spellings,) = told("caf\u00e9", "cafe\u0301", "tea")
    assert "'caf\\xe9', 'cafe\\u0301'" in two_spellings
    assert "3 classes" in told("Cat", "cat", " CAT", "dog")[0]


def test_the_longest_run() -> None:
    assert longest_run(np.array([1, 1, 0, 0, 0, 1])) == 3
    assert longest_run(np.array([], np.int64)) == 0


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("train/cat/cat_012_aug1.png", "cat/cat_012"),
        ("cat/cat_012_rot90_flip.png", "cat/cat_012"),
        ("cat/video3_frame_0007.jpg", "cat/video3"),
        ("cat/IMG_2_jpg.rf.0123456789abcdef0123.jpg", "cat/IMG_2_jpg"),
        ("cat/holiday (2).png", "cat/holiday"),
        ("cat/holiday - copy.png", "cat/holiday"),
        ("cat/0012.png", None),
        ("cat/cat_12.png", None),
        ("cat/frame_0007.png", None),
        ("cat/airplane_s_000123.png", None),
        ("cat/teacrop.png", None),
        ("cat/self.png", None),
        ("cat/vitamin_f.png", None),
    ],
)
def test_what_an_image_was_made_from(name: str, group: str | None) -> None:
    assert group_of(name, "cat") == group


def _named(*names: str) -> ImageSet:
    return ImageSet(
        np.zeros((len(names), 4, 4, 1), np.uint8), np.zeros(len(names), np.int64), ("cat",), np.array(names)
    )


def test_groups_on_both_sides_of_a_split() -> None:
    train = _named("train/cat/a_1.png", "train/cat/a_2_aug1.png", "train/cat/film_frame_1.png")
    (problem,) = check_groups(
        {"train": train, "test": _named("test/cat/a_2.png", "test/cat/film_frame_9.png", "test/cat/a_1.png")}
    )
    assert (problem.id, problem.severity, problem.evidence["images"]) == ("variant-leak", "severe", 2)
    assert check_groups({"train": train, "test": _named("test/cat/a_1.png", "test/cat/0002.png")}) == []


def test_descriptors_of_mirrored_images_and_of_images_shifted_around() -> None:
    images = photos(60, 4)
    plain, flipped = describe_images([images, images[:, :, ::-1]])
    np.testing.assert_allclose(plain[60:].numpy(), flipped[:60].numpy(), atol=1e-3)
    frequencies = frequencies_of(24, 24)
    assert sorted(frequencies.mirror.tolist()) == list(range(len(frequencies.mirror)))


def test_candidates_are_the_nearest_by_brute_force() -> None:
    import torch

    vectors = torch.nn.functional.normalize(torch.randn(5000, 20, generator=torch.Generator().manual_seed(0)), dim=1)
    rows = np.arange(0, 5000, 50)
    products = vectors[rows] @ vectors.T
    products[torch.arange(len(rows)), torch.from_numpy(rows)] = -1
    found = candidates(vectors[rows], vectors, rows, count=1, least=-1.0)
    np.testing.assert_array_equal(found, np.stack([rows, products.argmax(1).numpy()], 1))


def test_similarity_is_the_best_correlation_over_nine_shifts() -> None:
    one, two = photos(3, 5), photos(3, 6)
    assert similarity(one, np.roll(one, 1, 1)).min() > 0.97
    assert similarity(one, one).min() == pytest.approx(1, abs=1e-5)
    assert similarity(one, two).max() < 0.6
    assert similarity(one, np.full_like(one, 7)).max() == 0


def test_small_or_few_images_are_not_searched() -> None:
    tiny = ImageSet(photos(30, 1, side=8), np.zeros(30, np.int64), ("a",), np.arange(30))
    assert find_near({"train": tiny}, True).looked_up == 0
    one = ImageSet(photos(1, 1), np.zeros(1, np.int64), ("a",), np.arange(1))
    assert find_near({"train": one}, True).pairs == []


def test_the_nearest_is_found_where_all_are_opposite() -> None:
    import torch

    found = candidates(torch.ones(1, 1), -torch.ones(1, 1), np.array([5]), count=1, least=-1.0)
    assert found.tolist() == [[5, 0]]


def test_a_handful_of_images_is_audited() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        few = {
            part: ImageSet(
                rng.integers(0, 255, (count, 12, 12, 1), np.uint8), np.arange(count) % 2, ("a", "b"), np.arange(count)
            )
            for part, count in (("train", 4), ("val", 1), ("test", 1))
        }
        assert audit_splits(few, None).near.pairs == [], seed


def test_large_images_are_compared_small_and_a_sample_is_looked_up_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    large = photos(90, 7, side=70)
    images = np.concatenate([large, np.roll(large[:10], 1, 1)])
    found = ImageSet(images, np.zeros(100, np.int64), ("a",), np.arange(100))
    near = find_near({"train": found}, False)
    assert {(pair.row, pair.other_row) for pair in near.pairs} == {(row + 90, row) for row in range(10)}
    monkeypatch.setattr("fovea.data.near.MAX_PRODUCTS", 100 * 20)
    assert find_near({"train": found}, False).looked_up == 20


def test_the_audit_of_a_run_looks_up_what_judges_among_the_training_images() -> None:
    train, val = photos(300, 1), photos(60, 2)
    val[:5] = np.roll(train[:5], 1, 1)
    train[290] = np.roll(train[10], 1, 1)
    rng = np.random.default_rng(0)
    sets = {
        part: ImageSet(images, rng.integers(0, 2, len(images)), ("a", "b"), np.arange(len(images)))
        for part, images in (("train", train), ("val", val))
    }
    found = audit_splits(sets, "photos")
    assert found.near.looked_up == 60
    assert {(pair.row, pair.other_row) for pair in found.near.pairs} == {(row, row) for row in range(5)}
    assert {"near-duplicates-across"} <= {problem.id for problem in found.problems}


def test_training_images_alone_are_audited_too() -> None:
    alone = ImageSet(photos(60, 1), np.arange(60) % 2, ("a", "b"), np.arange(60))
    found = audit_splits({"train": alone}, "photos")
    assert (found.problems, found.near.pairs, found.near.looked_up) == ([], [], 0)


def test_the_key_of_an_image_is_the_same_in_every_process() -> None:
    images = ImageSet(np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int64), ("a", "b"), np.arange(2))
    assert images.image_keys.tolist() == [-7059167771142159282] * 2
