"""Augmentation: Keras' readings of its names, exact draws, presets that never mirror characters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fovea.data.augment import augment_batch, choose_preset, complete_augmentation
from fovea.errors import SettingsError
from fovea.settings import AugmentationSettings


def settings(**values: object) -> AugmentationSettings:
    return complete_augmentation(AugmentationSettings.model_validate(values), "none")


def batch(count: int = 64, channels: int = 1, side: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, side, side, generator=generator) * 255


EVERYTHING = {
    "rotation_range": 20,
    "width_shift_range": 0.2,
    "height_shift_range": 2,
    "shear_range": 10,
    "zoom_range": 0.2,
    "channel_shift_range": 20,
    "brightness_range": (0.7, 1.3),
    "contrast_range": (0.7, 1.3),
    "horizontal_flip": True,
    "vertical_flip": True,
    "cutout": 3,
}


def test_an_images_draws_do_not_depend_on_its_batch() -> None:
    images, indices = batch(), np.arange(64)
    whole = augment_batch(images, settings(**EVERYTHING), indices, seed=1, epoch=2)
    rows = np.array([40, 3, 17])
    part = augment_batch(images[rows], settings(**EVERYTHING), indices[rows], seed=1, epoch=2)
    assert torch.equal(part, whole[rows])
    other_epoch = augment_batch(images, settings(**EVERYTHING), indices, seed=1, epoch=3)
    assert not torch.allclose(other_epoch, whole, atol=1.0)


def test_values_stay_in_range_and_shapes_stay() -> None:
    found = augment_batch(batch(channels=3), settings(**EVERYTHING), np.arange(64), 0, 1)
    assert found.shape == (64, 3, 12, 12)
    assert found.min() >= 0
    assert found.max() <= 255.01


def test_no_augmentation_returns_the_images_themselves() -> None:
    images = batch()
    assert augment_batch(images, settings(), np.arange(64), 0, 1) is images


def test_half_of_the_images_are_mirrored_exactly() -> None:
    images = batch(2000, side=4)
    found = augment_batch(images, settings(horizontal_flip=True), np.arange(2000), 0, 1)
    same = (found == images).flatten(1).all(dim=1)
    mirrored = (found == images.flip(3)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 0.45 < mirrored.float().mean() < 0.55


def shifts_of(found: torch.Tensor) -> list[int]:
    """Where a single bright column went, relative to the middle column 6."""
    return sorted(set((found[:, 0].sum(dim=1).argmax(dim=1) - 6).tolist()))


@pytest.mark.parametrize(
    ("width_shift_range", "expected"),
    [
        (3, [-2, -1, 0, 1, 2]),  # an int n: whole pixels below n, as Keras draws them
        ([1.0, 4.0], [-4, -1, 1, 4]),  # a list: one of its values, with a random sign
        ([0.25], [-3, 3]),  # a list below 1: fractions of the width
    ],
)
def test_shift_ranges_are_read_as_keras_reads_them(width_shift_range: object, expected: list[int]) -> None:
    images = torch.zeros(500, 1, 12, 12)
    images[:, :, :, 6] = 255
    found = augment_batch(images, settings(width_shift_range=width_shift_range), np.arange(500), 0, 1)
    assert shifts_of(found) == expected


def test_a_float_shift_is_a_range_of_fractions_below_one_and_of_pixels_above() -> None:
    images = torch.zeros(4000, 1, 20, 20)
    images[:, :, :, 10] = 255
    column = torch.arange(20)
    for given, pixels in ((0.2, 4.0), (3.0, 3.0)):
        found = augment_batch(images, settings(width_shift_range=given), np.arange(4000), 0, 1)[:, 0, 0]
        centre = (found * column).sum(dim=1) / found.sum(dim=1) - 10
        assert centre.abs().max() <= pixels + 0.01
        assert abs(float(centre.std()) - 2 * pixels / 12**0.5) < 0.1


def test_zoom_axes_are_drawn_separately_and_a_factor_above_one_shrinks() -> None:
    images = torch.zeros(200, 1, 20, 20)
    images[:, :, 5:15, 5:15] = 255
    found = augment_batch(images, settings(zoom_range=(2.0, 2.0), fill_mode="constant"), np.arange(200), 0, 1)
    assert abs(float(found.sum() / images.sum()) - 0.25) < 0.02
    found = augment_batch(images, settings(zoom_range=0.4), np.arange(200), 0, 1)
    tall, wide = (found[:, 0].sum(dim=dim).gt(128).sum(dim=1).double() for dim in (2, 1))
    assert abs(float(torch.corrcoef(torch.stack([tall, wide]))[0, 1])) < 0.2


def test_cutout_covers_one_square_with_the_images_mean() -> None:
    images = batch(100)
    found = augment_batch(images, settings(cutout=5), np.arange(100), 0, 1)
    changed = (found != images).flatten(1).sum(dim=1)
    assert (changed == 25).all()
    hole = found[0][found[0] != images[0]]
    assert torch.allclose(hole, images[0].mean())


def test_brightness_multiplies_and_clips() -> None:
    images = torch.full((300, 1, 2, 2), 200.0)
    found = augment_batch(images, settings(brightness_range=(0.5, 2.0)), np.arange(300), 0, 1)
    assert 100 <= found.min() < 110
    assert found.max() == 255


@pytest.mark.parametrize(
    ("classes", "kind", "expected"),
    [
        (("0", "1"), None, "digits"),
        (("a", "b"), None, "digits"),
        (("cat", "dog"), None, "photos"),
        (("cat", "dog"), "characters", "digits"),
        (("0", "1"), "photos", "photos"),
    ],
)
def test_auto_never_mirrors_characters(classes: tuple[str, ...], kind: str | None, expected: str) -> None:
    preset, reason = choose_preset("auto", classes, kind)
    assert preset == expected
    assert reason
    complete = complete_augmentation(AugmentationSettings(), preset)
    assert complete.horizontal_flip == (expected == "photos")
    assert not complete.vertical_flip


def test_a_given_value_wins_over_the_preset_and_an_unknown_preset_is_refused() -> None:
    complete = complete_augmentation(AugmentationSettings(rotation_range=45), "digits")
    assert complete.rotation_range == 45
    assert complete.zoom_range == 0.1
    with pytest.raises(SettingsError, match=r"Unknown augmentation preset 'digit'\. Did you mean 'digits'"):
        choose_preset("digit", ("0", "1"), None)


def test_completing_twice_changes_nothing() -> None:
    once = complete_augmentation(AugmentationSettings(preset="photos"), "photos")
    assert complete_augmentation(once, "photos") == once
