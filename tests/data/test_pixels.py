"""Pixels: every dtype to uint8 by one range, sizes and channels fitted."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.data.pixels import check_images, fit_channels, fit_size, range_of_new_images, to_uint8, value_range
from fovea.errors import DataError

EVERY_VALUE = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_floats_that_are_255ths_become_the_integers_exactly(dtype: type) -> None:
    images = (EVERY_VALUE / 255).astype(dtype)
    assert np.array_equal(to_uint8(images, value_range(images)), EVERY_VALUE)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint16])
def test_whole_numbers_up_to_255_are_kept(dtype: type) -> None:
    images = EVERY_VALUE.astype(dtype)
    assert np.array_equal(to_uint8(images, value_range(images)), EVERY_VALUE)


def test_other_ranges_are_mapped_by_the_one_range_of_training() -> None:
    train = np.array([0, 8, 16], np.float64).reshape(1, 1, 3, 1)
    assert value_range(train) == (0.0, 16.0)
    assert to_uint8(train, (0.0, 16.0)).ravel().tolist() == [0, 128, 255]
    later = np.array([-5, 4, 40], np.float64).reshape(1, 1, 3, 1)
    assert to_uint8(later, (0.0, 16.0)).ravel().tolist() == [0, 64, 255]
    assert value_range(np.array([[-1.0, 1.0]])) == (-1.0, 1.0)
    assert value_range(np.array([[0, 65535]], np.uint16)) == (0.0, 65535.0)


def test_a_model_of_8_bit_images_takes_both_scales_and_refuses_others() -> None:
    for trained in (None, (0.0, 1.0)):
        assert range_of_new_images(EVERY_VALUE, trained, "x") is None
        assert range_of_new_images(EVERY_VALUE / 255, trained, "x") == (0.0, 1.0)
        with pytest.raises(DataError, match=r"range from -1 to 1, but the model was trained on 0..255"):
            range_of_new_images(np.array([-1.0, 1.0]), trained, "x")
    zeros_and_ones = np.array([[0, 1, 1]], np.int64)
    assert range_of_new_images(zeros_and_ones, (0.0, 1.0), "x") == (0.0, 1.0)  # trained on 0/1: they mean the same now
    assert range_of_new_images(zeros_and_ones.astype(np.uint8), None, "x") is None
    with pytest.raises(DataError, match=r"from 0 to 255, but the model was trained on 0..16"):
        range_of_new_images(EVERY_VALUE, (0.0, 16.0), "x")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([np.zeros((8, 8)), np.zeros((9, 8))], "unequal size"),
        (np.zeros((3, 8)), "shape (3, 8)"),
        (np.zeros((3, 1, 8, 8)), "channels last"),
        (np.zeros((3, 8, 8, 4)), "1 or 3 channels"),
        (np.full((3, 8, 8), np.nan), "NaN or infinite values in 3 of 3 images"),
        (np.full((3, 8, 8), "a"), "type <U1"),
    ],
)
def test_what_is_no_image_array_is_refused(images: object, words: str) -> None:
    with pytest.raises(DataError) as caught:
        check_images(images, "x")
    assert words in str(caught.value)


def test_sizes_and_channels_are_fitted() -> None:
    flat = np.full((2, 10, 6, 3), 77, np.uint8)
    assert np.array_equal(fit_size(flat, (5, 9)), np.full((2, 5, 9, 3), 77))
    assert fit_size(flat, (10, 6)) is flat
    assert np.array_equal(fit_channels(flat, 1), np.full((2, 10, 6, 1), 77))
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 255
    assert fit_channels(red, 1).ravel().tolist() == [76] * 4  # .299 of 255
    assert np.array_equal(fit_channels(EVERY_VALUE, 3)[..., 2], EVERY_VALUE[..., 0])


def test_values_too_far_apart_to_compute_with_are_refused() -> None:
    images = np.array([-1e308, 1e308]).reshape(2, 1, 1, 1)
    with pytest.raises(DataError, match=r"-1e\+308 to 1e\+308, a range too wide"):
        value_range(images)
