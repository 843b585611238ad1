"""examples.npz: what a run keeps to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fovea.data.augment import complete_augmentation
from fovea.data.imageset import ImageSet
from fovea.errors import DataError
from fovea.evaluation.gallery import gallery_as_npz, make_gallery, read_gallery, shrink, spread_over_classes
from fovea.evaluation.predictions import Predictions
from fovea.settings import AugmentationSettings


def image_set(count: int, side: int, num_classes: int, channels: int = 3) -> ImageSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    names = tuple(f"class {number}" for number in range(num_classes))
    return ImageSet(images, np.arange(count) % num_classes, names, np.arange(count))


def gallery_of(images: ImageSet, preset: str, logits: np.ndarray) -> tuple[bytes, Predictions]:
    found = Predictions(logits.astype(np.float32), images.labels, images.ids, images.classes)
    settings = complete_augmentation(AugmentationSettings(), preset)
    sets = {"train": images, "val": images, "test": images}
    return gallery_as_npz(make_gallery(sets, settings, 0, images, found)), found


def test_the_mistakes_come_with_the_highest_loss_first_and_survive_the_file(tmp_path: Path) -> None:
    images = image_set(60, 9, 3)
    rng = np.random.default_rng(1)
    content, found = gallery_of(images, "photos", rng.normal(size=(60, 3)) * 3)
    (tmp_path / "examples.npz").write_bytes(content)
    gallery = read_gallery(tmp_path / "examples.npz")
    wrong = np.flatnonzero(found.predicted != images.labels)
    probability = found.probabilities[np.arange(60), images.labels]
    expected = wrong[np.argsort(probability[wrong], kind="stable")][:30]
    assert gallery.mistake_rows.tolist() == expected.tolist()
    assert np.array_equal(gallery.mistakes, images.images[expected])
    assert gallery.class_counts.tolist() == [[20, 20, 20]] * 3
    assert gallery.augmented.shape == (6, 8, 9, 9, 3)
    assert np.array_equal(gallery.augmented[0, 0], images.images[0])
    assert content == gallery_of(images, "photos", found.logits)[0]


def test_without_augmentation_or_mistakes_there_is_nothing_to_show_of_them(tmp_path: Path) -> None:
    images = image_set(30, 9, 3)
    content, _ = gallery_of(images, "none", np.eye(3)[images.labels] * 9)
    (tmp_path / "examples.npz").write_bytes(content)
    gallery = read_gallery(tmp_path / "examples.npz")
    assert len(gallery.augmented) == len(gallery.mistakes) == 0


def test_a_hundred_classes_of_large_photos_keep_a_small_gallery() -> None:
    images = image_set(400, 150, 100)
    content, _ = gallery_of(images, "photos", np.zeros((400, 100)))
    assert len(content) < 4_000_000
    assert len(spread_over_classes(images, 25, 10)) == 25 * 4


def test_large_images_are_shrunk_with_their_aspect_and_small_ones_are_not() -> None:
    assert shrink(np.zeros((2, 200, 100, 3), np.uint8)).shape == (2, 64, 32, 3)
    assert shrink(np.zeros((2, 28, 28, 1), np.uint8)).shape == (2, 28, 28, 1)


def test_a_damaged_gallery_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "examples.npz"
    with pytest.raises(DataError, match=r"examples\.npz cannot be read"):
        read_gallery(path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DataError, match=r"examples\.npz cannot be read"):
        read_gallery(path)
