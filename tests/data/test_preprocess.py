"""The preprocessor against plain NumPy, fitted on the images it is given and on nothing else."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from fovea.data.preprocess import Preprocessor, fit_preprocessor, preprocessor_from_json
from fovea.errors import DataError, ModelError
from fovea.settings import PreprocessingSettings


def images(count: int = 400, side: int = 6, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 200, (count, side, side, channels), dtype=np.uint8) + np.arange(channels, dtype=np.uint8) * 20
    )


def fitted(pixels: np.ndarray, **settings: object) -> Preprocessor:
    neutral = {"featurewise_center": False, "featurewise_std_normalization": False}
    return fit_preprocessor(pixels, PreprocessingSettings.model_validate({**neutral, **settings}), None)


def inputs(preprocessor: Preprocessor, pixels: np.ndarray) -> np.ndarray:
    """The net's input, channels last."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return preprocessor.to_input(batch).permute(0, 2, 3, 1).numpy()


def test_featurewise_gives_each_channel_mean_zero_and_deviation_one() -> None:
    found = inputs(fitted(images(), featurewise_center=True, featurewise_std_normalization=True), images())
    assert np.allclose(found.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    assert np.allclose(found.std(axis=(0, 1, 2)), 1, atol=1e-4)
    expected = (images() / 255 - (images() / 255).mean(axis=(0, 1, 2))) / ((images() / 255).std(axis=(0, 1, 2)) + 1e-6)
    assert np.allclose(found, expected, atol=1e-5)


def test_samplewise_gives_each_image_mean_zero_and_deviation_one() -> None:
    found = inputs(fitted(images(), samplewise_center=True, samplewise_std_normalization=True), images())
    assert np.allclose(found.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(found.std(axis=(1, 2, 3)), 1, atol=1e-4)


def test_zca_whitens_and_is_symmetric() -> None:
    preprocessor = fitted(images(2000, 4, 1), featurewise_center=True, zca_whitening=True)
    found = inputs(preprocessor, images(2000, 4, 1)).reshape(2000, -1)
    assert np.allclose(found.T @ found / 2000, np.eye(16), atol=2e-3)
    assert preprocessor.zca is not None
    assert np.allclose(preprocessor.zca, preprocessor.zca.T, atol=1e-3)


def test_rescale_alone_is_a_division() -> None:
    assert np.allclose(inputs(fitted(images()), images()), images() / 255, atol=1e-6)


def test_it_survives_json_to_the_bit() -> None:
    preprocessor = fitted(images(50, 4, 1), featurewise_center=True, zca_whitening=True, samplewise_center=True)
    again = preprocessor_from_json(json.loads(json.dumps(preprocessor.as_json())))
    assert np.array_equal(inputs(again, images(5, 4, 1)), inputs(preprocessor, images(5, 4, 1)))
    assert again.as_json() == preprocessor.as_json()
    good = preprocessor.as_json()
    for damaged in (
        {"image_shape": [1, 2]},
        {**good, "image_shape": [4, 4, math.inf]},
        {**good, "image_shape": [4, 0, 1]},
        {**good, "input_range": []},
        {**good, "featurewise_mean": "x"},
        {**good, "featurewise_mean": [0.5, 0.5]},
        {**good, "featurewise_std": [[]]},
    ):
        with pytest.raises(DataError, match="stored preprocessing is damaged"):
            preprocessor_from_json(damaged)


def test_new_images_of_another_size_and_channel_count_are_fitted() -> None:
    grey = np.full((2, 12, 12), 100, np.uint8)
    found = fitted(images()).to_uint8(grey)
    assert found.shape == (2, 6, 6, 3)
    assert (found == 100).all()


def test_a_constant_image_does_not_divide_by_zero() -> None:
    black = np.zeros((3, 4, 4, 1), np.uint8)
    settings = {"samplewise_std_normalization": True, "featurewise_std_normalization": True}
    assert np.isfinite(inputs(fitted(black, **settings), black)).all()


def test_a_function_of_ones_own_comes_first_and_gets_each_image_alone() -> None:
    seen = []

    def darker(image: np.ndarray) -> np.ndarray:
        seen.append((image.shape, image.dtype, float(image.max())))
        image *= 0.5  # its own to change
        return image

    pixels = images(5)
    settings = {"featurewise_center": True, "featurewise_std_normalization": False}
    found = fit_preprocessor(pixels, PreprocessingSettings.model_validate(settings), None, darker)
    assert found.mean == pytest.approx((pixels / 2 / 255).mean(axis=(0, 1, 2)))
    seen.clear()
    batch = torch.from_numpy(pixels).float().permute(0, 3, 1, 2)
    made = found.to_input(batch)
    assert torch.equal(batch, torch.from_numpy(pixels).float().permute(0, 3, 1, 2))
    assert seen == [((6, 6, 3), np.float32, float(image.max())) for image in pixels]
    expected = pixels / 2 / 255 - (pixels / 2 / 255).mean(axis=(0, 1, 2))
    assert np.allclose(made.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"darker has not been passed again"):
        preprocessor_from_json(found.as_json()).to_input(batch)
