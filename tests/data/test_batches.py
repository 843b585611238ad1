"""Batches: every image once an epoch, exact order, no partial batch of one image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fovea.data.augment import complete_augmentation
from fovea.data.batches import TrainBatches, batch_bounds
from fovea.data.imageset import ImageSet
from fovea.data.preprocess import fit_preprocessor
from fovea.settings import AugmentationSettings, PreprocessingSettings


@pytest.fixture
def batches(toy_set: ImageSet) -> TrainBatches:
    preprocessor = fit_preprocessor(toy_set.images, PreprocessingSettings(), None)
    augmentation = complete_augmentation(AugmentationSettings(), "digits")
    return TrainBatches(toy_set, preprocessor, augmentation, batch_size=40, seed=0, steps_per_epoch=4)


def test_every_image_comes_once_an_epoch_with_its_own_label(batches: TrainBatches) -> None:
    found = list(batches.epoch(1))
    indices = np.concatenate([batch.indices for batch in found])
    assert np.array_equal(np.sort(indices), np.arange(150))
    labels = torch.cat([batch.labels for batch in found]).numpy()
    assert np.array_equal(labels, batches.images.labels[indices])


def test_an_epoch_can_be_repeated_and_differs_from_the_next(batches: TrainBatches) -> None:
    first, again, second = (next(batches.epoch(epoch)) for epoch in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert not np.array_equal(first.indices, second.indices)


def test_an_epoch_is_taken_up_anywhere_to_the_bit(batches: TrainBatches) -> None:
    whole = list(batches.epoch(1))
    for num_done in range(4):
        rest = list(batches.epoch(1, num_done))
        assert len(rest) == 4 - num_done
        for batch, expected in zip(rest, whole[num_done:], strict=True):
            assert np.array_equal(batch.indices, expected.indices)
            assert torch.equal(batch.labels, expected.labels)
            assert torch.equal(batch.inputs, expected.inputs)


def test_an_images_augmentation_does_not_depend_on_the_batch_size(batches: TrainBatches) -> None:
    whole = next(replace(batches, batch_size=150).epoch(1))
    part = next(batches.epoch(1))
    assert torch.allclose(whole.inputs[:40], part.inputs, atol=1e-4)


def test_fewer_steps_end_the_epoch_early(batches: TrainBatches) -> None:
    assert len(list(replace(batches, steps_per_epoch=2).epoch(1))) == 2


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(10, 5, [5, 5]), (11, 5, [5, 6]), (12, 5, [5, 5, 2]), (3, 5, [3]), (1, 5, [1])],
)
def test_a_last_batch_of_one_image_joins_the_one_before(count: int, batch_size: int, sizes: list[int]) -> None:
    assert [end - start for start, end in batch_bounds(count, batch_size)] == sizes


def test_inputs_are_standardized(batches: TrainBatches) -> None:
    plain = replace(batches, augmentation=complete_augmentation(AugmentationSettings(), "none"))
    inputs = torch.cat([batch.inputs for batch in plain.epoch(1)])
    assert inputs.shape == (150, 1, 8, 8)
    assert abs(float(inputs.mean())) < 1e-4
    assert abs(float(inputs.std()) - 1) < 1e-3
