"""Affine resampling against scipy, composed as Keras composes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fovea.data.affine import AffineParameters, affine_matrices, resample, source_positions


def keras_matrix(theta: float, tx: float, ty: float, shear: float, zx: float, zy: float) -> NDArray[np.float64]:
    """rotation @ shift @ shear @ zoom as Keras' apply_affine_transform multiplies them."""
    t, s = np.deg2rad(theta), np.deg2rad(shear)
    rotation = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    shift = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    sheared = np.array([[1, -np.sin(s), 0], [0, np.cos(s), 0], [0, 0, 1]])
    zoom = np.diag([zx, zy, 1])
    return rotation @ shift @ sheared @ zoom


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
    columns = torch.tensor(TRANSFORMS, dtype=torch.float32).unbind(dim=1)
    parameters = AffineParameters(*columns)
    positions = source_positions(affine_matrices(parameters), *size)
    found = resample(torch.from_numpy(images), *positions, mode, 77.0, interpolation).numpy()
    for transform, image, result in zip(TRANSFORMS, images, found, strict=True):
        for channel in range(2):
            expected = by_scipy(image[channel], keras_matrix(*transform), mode, 77.0, int(interpolation == "bilinear"))
            # A position within rounding of a border, or of the middle between two pixels, may fall on either side.
            differs = np.abs(result[channel] - expected) > 255e-4
            assert differs.mean() <= (0.02 if mode == "constant" or interpolation == "nearest" else 0.0), transform


def test_no_transform_changes_nothing() -> None:
    images = torch.rand(1, 1, 11, 6) * 255
    one, zero = torch.ones(1), torch.zeros(1)
    parameters = AffineParameters(zero, zero, zero, zero, one, one)
    positions = source_positions(affine_matrices(parameters), 11, 6)
    for mode in ("nearest", "constant", "reflect", "wrap"):
        assert torch.allclose(resample(images, *positions, mode, 0.0), images, atol=1e-3)
