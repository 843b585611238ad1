"""The input guard: silent on images like those of the training, outspoken on others, whatever the batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fovea.data.adapt import adapt_images, centre
from fovea.data.guard import InputProfile, compare, compare_sizes, fit_profile, profile_from_json
from fovea.data.guard_words import GuardTally
from fovea.data.new_images import NewImages, fit_new_images, from_array
from fovea.data.preprocess import Preprocessor
from fovea.errors import DataError
from tests.conftest import bars

Images = NDArray[np.uint8]


def strokes(count: int, seed: int, side: int = 28) -> tuple[Images, NDArray[np.int64]]:
    """Bright strokes of three kinds on black, centred as digits are: uint8 [N, side, side, 1]."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, side, side, 1), np.uint8)
    labels = np.arange(count) % 3
    middle, reach = side // 2, side // 3
    for image, label in zip(images, labels, strict=True):
        width, level = rng.integers(1, 4), rng.integers(200, 256)
        if label != 1:
            image[middle - reach : middle + reach, middle - width : middle + width] = level
        if label != 0:
            image[middle - width : middle + width, middle - reach : middle + reach] = level
    return images, labels.astype(np.int64)


@pytest.fixture(scope="module")
def profile() -> InputProfile:
    images, labels = strokes(900, seed=0)
    return fit_profile(images, labels, 3, ((28, 28),))


def warned_share(profile: InputProfile, images: Images, batch: int) -> float:
    batches = [images[start : start + batch] for start in range(0, len(images), batch)]
    return float(np.mean([bool(compare(profile, part).outside) for part in batches]))


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_images_like_those_of_the_training_are_never_warned_about(profile: InputProfile, batch: int) -> None:
    images, labels = strokes(600, seed=1)
    assert warned_share(profile, images, batch) == 0
    assert warned_share(profile, images[np.argsort(labels)], batch) == 0  # batches of one class


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_inverted_images_are_always_recognised_as_such(profile: InputProfile, batch: int) -> None:
    images = 255 - strokes(600, seed=1)[0]
    for start in range(0, len(images), batch):
        found = compare(profile, images[start : start + batch])
        assert list(found.outside) == ["inverted"]
        assert found.outside["inverted"].all()


def test_a_few_inverted_images_among_many_are_found_one_by_one(profile: InputProfile) -> None:
    images = strokes(600, seed=1)[0]
    images[[3, 77, 500]] = 255 - images[[3, 77, 500]]
    assert np.flatnonzero(compare(profile, images).outside["inverted"]).tolist() == [3, 77, 500]


def test_blank_images_shifted_ones_and_small_ones_are_each_told(profile: InputProfile) -> None:
    images = strokes(90, seed=1)[0]
    small = np.zeros_like(images)
    small[:, 10:19, 10:19] = images[:, ::3, ::3][:, :9, :9]
    expected = {"contrast": images * 0, "centre_column": np.roll(images, 6, axis=2), "ink_size": small}
    for name, changed in expected.items():
        assert compare(profile, changed).outside[name].all(), name


def test_a_batch_that_is_a_little_dim_is_told_although_each_image_could_be_normal(profile: InputProfile) -> None:
    dim = (strokes(300, seed=1)[0] * 0.6).astype(np.uint8)
    assert warned_share(profile, dim, 1) < 0.05
    assert warned_share(profile, dim, 100) == 1


def test_another_size_is_told_from_another_aspect_and_various_training_sizes_tell_nothing() -> None:
    images, labels = strokes(90, seed=0)
    sizes = np.array([[28, 28], [56, 56], [28, 60]], np.int64)
    found = compare_sizes(fit_profile(images, labels, 3, ((28, 28),)), sizes)
    assert {name: which.tolist() for name, which in found.items()} == {
        "size": [False, True, False],
        "aspect": [False, False, True],
    }
    assert compare_sizes(fit_profile(images, labels, 3, ((28, 28), (9, 9), (5, 5))), sizes) == {}


def test_a_profile_survives_json_and_a_damaged_one_is_refused(profile: InputProfile) -> None:
    value = profile.as_json()
    assert profile_from_json(value) == profile
    spreads = value["spreads"]
    for damaged in (
        {},
        {**value, "sizes": 3},
        {**value, "sizes": [[math.inf, 28]]},
        {**value, "spreads": {"border": {}}},
        {**value, "spreads": {"border": spreads["border"]}},
        {**value, "spreads": {**spreads, "border": {**spreads["border"], "typical": None}}},
        {**value, "classes": 0},
        {**value, "count": "x"},
        {**value, "new": 1},
    ):
        with pytest.raises(DataError, match="profile of the training images is damaged"):
            profile_from_json(damaged)


def preprocessor(channels: int = 1) -> Preprocessor:
    return Preprocessor((28, 28, channels), None, 1 / 255, False, False, None, None, None)


def fitted(profile: InputProfile, images: Images, adapt: bool = False) -> GuardTally:
    new = from_array(preprocessor(), images)
    tally = GuardTally(profile)
    tally.add(fit_new_images(preprocessor(), profile, new, adapt))
    return tally


def test_the_words_hold_the_figures_and_the_cure(profile: InputProfile) -> None:
    lines = fitted(profile, 255 - strokes(40, seed=1)[0]).lines()
    assert lines[0] == (
        "warning",
        "40 of 40 images look inverted: the border has the level 255 on average, in training 0 to 0",
    )
    assert "--adapt" in lines[1][1]
    assert fitted(profile, strokes(40, seed=1)[0]).lines() == []


def test_one_odd_image_in_five_hundred_is_a_note(profile: InputProfile) -> None:
    images = strokes(500, seed=1)[0]
    images[7] = 0
    (found,) = [topic for topic, text in fitted(profile, images).lines() if "contrast" in text]
    assert found == "note"


def test_images_in_colour_before_a_net_of_grey_ones_are_told_and_grey_ones_saved_as_colour_are_not(
    profile: InputProfile,
) -> None:
    grey = np.repeat(strokes(20, seed=1)[0], 3, axis=3)
    assert fitted(profile, grey).lines() == []
    red = grey.copy()
    red[..., 1:] = 0
    assert any("are in colour, the training images are grey" in text for _, text in fitted(profile, red).lines())


def test_adapting_inverts_what_is_inverted_to_the_last_bit_and_leaves_the_rest(profile: InputProfile) -> None:
    images = strokes(60, seed=1)[0]
    mixed = images.copy()
    mixed[::2] = 255 - mixed[::2]
    adapted, done = adapt_images(profile, mixed, (28, 28))
    assert np.array_equal(adapted, images)
    assert done["inverted"].tolist() == [row % 2 == 0 for row in range(60)]
    assert not done["centred"].any()


def test_adapting_brings_a_small_stroke_on_grey_paper_to_its_place_size_and_levels(profile: InputProfile) -> None:
    rng = np.random.default_rng(0)
    paper = rng.normal(225, 4, (120, 90, 1)).clip(0, 255)
    stroke = strokes(3, seed=1)[0][2, ::2, ::2]  # a cross, half as large
    paper[60:74, 5:19] -= stroke * (180 / 255)
    adapted, done = adapt_images(profile, [paper.clip(0, 255).astype(np.uint8)], (28, 28))
    assert done["inverted"].all()
    assert done["centred"].all()
    assert not compare(profile, adapted).outside
    whole = strokes(3, seed=1)[0][2].astype(float).ravel()
    assert np.corrcoef(adapted[0].astype(float).ravel(), whole)[0, 1] > 0.9


def test_nothing_is_cut_out_of_a_blank_image_and_nothing_where_training_has_no_plain_background(
    profile: InputProfile,
) -> None:
    assert centre(profile, np.full((28, 28, 1), 7, np.uint8), (28, 28)) is None
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (90, 28, 28, 3), dtype=np.uint8)
    busy = fit_profile(photos, np.arange(90) % 3, 3, ((28, 28),))
    assert not busy.plain_background
    _, done = adapt_images(busy, photos[:9] // 9, (28, 28))
    assert not done["centred"].any()


def test_images_of_many_sizes_are_fitted_one_by_one(profile: InputProfile) -> None:
    images = [np.zeros((28, 28, 1), np.uint8), np.full((9, 70, 1), 255, np.uint8)]
    new = NewImages(images, np.array(["a", "b"]), np.array([[28, 28], [9, 70]]))
    found = fit_new_images(preprocessor(), profile, new, adapt=False)
    assert found.images.shape == (2, 28, 28, 1)
    assert found.comparison.outside["aspect"].tolist() == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("mnist", 0.99), ("fashion-mnist", 0.99)])
def test_real_images_are_never_warned_about_and_inverted_ones_are(real_data: Path, name: str, least: float) -> None:
    from fovea.data.load import read_raw

    train = read_raw(name).parts["train"]
    images, labels = np.asarray(train.images)[..., None], np.asarray(train.labels).astype(np.int64)
    profile = fit_profile(images[:50_000], labels[:50_000], 10, ((28, 28),))
    held_out = images[50_000:]  # not the test images
    for batch, count in ((1, 500), (10, 2000), (1000, 10_000)):
        assert warned_share(profile, held_out[:count], batch) == 0
        assert warned_share(profile, 255 - held_out[:count], batch) >= least


def test_bars_with_noise_are_like_bars_with_other_noise() -> None:
    images, labels = bars(150)
    profile = fit_profile(images[..., None], labels, 3, ((8, 8),))
    assert not compare(profile, bars(60, seed=1)[0][..., None]).outside


def test_a_normal_image_beside_odd_ones_is_neither_told_nor_adapted(profile: InputProfile) -> None:
    images = strokes(4, seed=1)[0]
    images[1:] = np.roll(images[1:], 6, axis=2)
    assert not compare(profile, images).of_image(0)
    adapted, done = adapt_images(profile, images, (28, 28))
    assert done["centred"].tolist() == [False, True, True, True]
    assert np.array_equal(adapted[0], images[0])


def test_the_figures_are_those_of_the_images_concerned_each_direction_by_itself(profile: InputProfile) -> None:
    images = strokes(100, seed=1)[0]
    images[:5] = np.roll(images[:5], 4, axis=2)
    images[5:8] = np.roll(images[5:8], -4, axis=2)
    found = [text for _, text in fitted(profile, images).lines() if "centre column" in text]
    assert found == [
        "5 of 100 images are unlike the training images: what is shown stands further right (centre column 64% on "
        "average, 50% to 50% in training)",
        "3 of 100 images are unlike the training images: what is shown stands further left (centre column 36% on "
        "average, 50% to 50% in training)",
    ]


def test_after_adapting_the_figures_are_those_of_what_the_net_saw(profile: InputProfile) -> None:
    images = 255 - strokes(100, seed=1)[0]
    images[:10] = 128
    lines = fitted(profile, images, adapt=True).lines()
    assert lines[0] == ("adapted", "of 100 images 90 inverted")
    (border,) = [text for _, text in lines if "border" in text]
    assert border.startswith("10 of 100 images")
    assert "(border 128 on average" in border


def test_rows_of_pixels_are_images_in_python_as_they_are_in_the_shell() -> None:
    rows = strokes(4, seed=1)[0].reshape(4, 784)
    assert np.array_equal(np.asarray(from_array(preprocessor(), rows).pixels), rows.reshape(4, 28, 28, 1))
    with pytest.raises(DataError, match="read them first, or answer for files with `fovea predict`"):
        from_array(preprocessor(), "digit.png")
