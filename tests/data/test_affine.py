"""Affine resampling against scipy, composed as Keras composes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fovea.data.affine import AffineParameters, resample, source_positions


def keras_matrix(theta: float, ty: float, tx: float, shear: float, zy: float, zx: float) -> NDArray[np.float64]:
    """rotation @ shift @ shear @ zoom of (x, y), as Keras' apply_affine_transform has it, for (row, column)."""
    t, s = np.deg2rad(theta), np.deg2rad(shear)
    rotation = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    shift = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    sheared = np.array([[1, -np.sin(s), 0], [0, np.cos(s), 0], [0, 0, 1]])
    zoom = np.diag([zx, zy, 1])
    matrix = rotation @ shift @ sheared @ zoom
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    return swap @ matrix @ swap


def by_scipy(
    image: NDArray[np.float32], matrix: NDArray[np.float64], mode: str, cval: float, order: int = 1
) -> NDArray[np.float64]:
    height, width = image.shape
    to_middle = np.array([[1, 0, height / 2 - 0.5], [0, 1, width / 2 - 0.5], [0, 0, 1]])
    from_middle = np.array([[1, 0, -height / 2 + 0.5], [0, 1, -width / 2 + 0.5], [0, 0, 1]])
    whole = to_middle @ matrix @ from_middle
    scipy_mode = "grid-wrap" if mode == "wrap" else mode
    return ndimage.affine_transform(
        image.astype(np.float64), whole[:2, :2], whole[:2, 2], order=order, mode=scipy_mode, cval=cval
    )


TRANSFORMS = [
    (0, 0, 0, 0, 1, 1),
    (25, 0, 0, 0, 1, 1),
    (0, 2.4, -3.3, 0, 1, 1),
    (0, 0, 0, 20, 1, 1),
    (0, 0, 0, 0, 0.6, 1.7),
    (-17, 1.5, 4.25, -12, 1.3, 0.8),
    (170, -9, 9, 30, 2.0, 2.0),
]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (28, 27)])
def test_resampling_agrees_with_scipy(mode: str, size: tuple[int, int], interpolation: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (len(TRANSFORMS), 2, *size)).astype(np.float32)
    parameters = AffineParameters(*np.array(TRANSFORMS, np.float32).T)
    positions = source_positions(parameters, *size)
    found = resample(torch.from_numpy(images), positions, mode, 77.0, interpolation).numpy()
    for transform, image, result in zip(TRANSFORMS, images, found, strict=True):
        for channel in range(2):
            expected = by_scipy(image[channel], keras_matrix(*transform), mode, 77.0, int(interpolation == "bilinear"))
            # A position within rounding of a border, or of the middle between two pixels, may fall on either side.
            differs = np.abs(result[channel] - expected) > 255e-4
            assert differs.mean() <= (0.02 if mode == "constant" or interpolation == "nearest" else 0.0), transform


def test_no_transform_changes_nothing() -> None:
    images = torch.rand(1, 1, 11, 6) * 255
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    positions = source_positions(AffineParameters(zero, zero, zero, zero, one, one), 11, 6)
    for mode in ("nearest", "constant", "reflect", "wrap"):
        assert torch.allclose(resample(images, positions, mode, 0.0), images, atol=1e-3)


def test_a_turn_is_counterclockwise_and_shear_leans_upright_lines_to_the_left() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 6] = 255
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    turned = resample(
        image, source_positions(AffineParameters(zero + 90, zero, zero, zero, one, one), 9, 9), "nearest", 0
    )
    assert (turned[0, 0] > 200).nonzero().tolist() == [[2, 4]]
    line = torch.zeros(1, 1, 9, 9)
    line[..., 4] = 255
    leant = resample(
        line, source_positions(AffineParameters(zero, zero, zero, zero + 30, one, one), 9, 9), "nearest", 0
    )
    assert (leant[0, 0] > 200).nonzero().tolist() == [[0, 2], [2, 3], [4, 4], [6, 5], [8, 6]]
