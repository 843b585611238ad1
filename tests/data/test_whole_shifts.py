"""Shifts by whole pixels are copied, and give what the resampling gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fovea.data.affine import AffineParameters, resample, shift_whole, source_positions
from fovea.data.augment import augment_batch, complete_augmentation
from fovea.settings import AugmentationSettings


def shifts(rows: list[float], columns: list[float]) -> AffineParameters:
    zero, one = np.zeros(len(rows), np.float32), np.ones(len(rows), np.float32)
    return AffineParameters(zero, np.array(rows, np.float32), np.array(columns, np.float32), zero, one, one)


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
def test_copying_and_resampling_agree(fill_mode: str) -> None:
    images = torch.randint(0, 256, (7, 3, 6, 8)).float()
    moves = shifts([0, 1, -2, 3, 0, 1, -1], [0, -1, 4, 0, 2, -1, 0])
    expected = resample(images, source_positions(moves, 6, 8), fill_mode, 9.0)
    torch.testing.assert_close(shift_whole(images, moves, fill_mode, 9.0), expected, atol=2e-3, rtol=0)


def test_an_alternating_flip_shows_each_image_once_as_it_is_and_once_mirrored() -> None:
    settings = complete_augmentation(AugmentationSettings(horizontal_flip="alternating"), "none")
    images = torch.arange(60 * 12).float().view(60, 1, 3, 4)
    epochs = [augment_batch(images, settings, np.arange(60), seed=0, epoch=epoch) for epoch in (1, 2, 3)]
    mirrored = [(epoch == images.flip(3)).flatten(1).all(dim=1) for epoch in epochs]
    plain = [(epoch == images).flatten(1).all(dim=1) for epoch in epochs]
    assert all((a ^ b).all() for a, b in zip(mirrored, plain, strict=True))
    assert torch.equal(mirrored[0], plain[1])
    assert torch.equal(mirrored[0], mirrored[2])
    assert 15 < int(mirrored[0].sum()) < 45
