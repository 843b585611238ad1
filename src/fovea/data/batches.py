"""Batches: gathered from uint8 in memory, augmented and preprocessed as a whole, without worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.data.augment import augment_batch
from fovea.data.draws import random_order
from fovea.data.imageset import ImageSet, Pixels
from fovea.data.preprocess import Preprocessor
from fovea.settings import AugmentationSettings


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: `inputs` float32 [B, C, H, W], `labels` int64 [B], `indices` int64 [B] into the set."""

    inputs: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]


def batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Where the batches of `count` images begin and end; a last batch of one image joins the batch before it.

    (Batch normalisation has no variance to compute from a single value.)
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


@dataclass(frozen=True, eq=False)
class TrainBatches:
    """The training batches of any epoch: order a function of (seed, epoch), draws of (seed, epoch, image index)."""

    images: ImageSet
    preprocessor: Preprocessor
    augmentation: AugmentationSettings
    batch_size: int
    seed: int
    steps_per_epoch: int

    def epoch(self, epoch: int, num_done: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 1, after the first `num_done`."""
        order = random_order(len(self.images), self.seed, epoch)
        for start, end in batch_bounds(len(self.images), self.batch_size)[num_done : self.steps_per_epoch]:
            indices = order[start:end]
            pixels = gather(self.images.images, indices)
            augmented = augment_batch(pixels, self.augmentation, indices, self.seed, epoch)
            labels = torch.from_numpy(self.images.labels[indices])
            yield Batch(self.preprocessor.to_input(augmented), labels, indices)


def gather(images: Pixels, indices: NDArray[np.int64]) -> torch.Tensor:
    """uint8 [N, H, W, C] at `indices` -> float32 [B, C, H, W] in channels_last order."""
    return torch.from_numpy(images[indices]).permute(0, 3, 1, 2).to(torch.float32)
