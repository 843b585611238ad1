"""Batches: gathered from uint8 in memory, augmented and preprocessed as a whole, without worker processes."""

from __future__ import annotations

import contextlib
import math
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

SMALL = 2**18  # values of images that one thread prepares at a time: 334 of MNIST, 85 of CIFAR


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
        """The batches of one epoch, counted from 1, after the first `num_done`.

        Small batches are prepared several at a time: always the same ones together, wherever the epoch is taken up.
        """
        order = random_order(len(self.images), self.seed, epoch)
        bounds = batch_bounds(len(self.images), self.batch_size)[: self.steps_per_epoch]
        together = max(1, SMALL // (self.batch_size * math.prod(self.images.image_shape)))
        for first in range(num_done - num_done % together, len(bounds), together):
            group = bounds[first : first + together]
            begin = group[0][0]
            indices = order[begin : group[-1][1]]
            inputs = self._inputs(indices, epoch)
            for start, end in group[max(num_done - first, 0) :]:
                part = slice(start - begin, end - begin)
                yield Batch(inputs[part], torch.from_numpy(self.images.labels[indices[part]]), indices[part])

    def _inputs(self, indices: NDArray[np.int64], epoch: int) -> torch.Tensor:
        with _few_threads(len(indices) * math.prod(self.images.image_shape)):
            pixels = gather(self.images.images, indices)
            augmented = augment_batch(pixels, self.augmentation, indices, self.seed, epoch)
            return self.preprocessor.to_input(augmented)


@contextlib.contextmanager
def _few_threads(num_values: int) -> Iterator[None]:
    """One thread for few values: the steps are so short that waiting for a second one costs what it saves.

    On a busy machine each wait lasts until the other program's turn is over, a hundred times as long as the step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if num_values <= SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def gather(images: Pixels, indices: NDArray[np.int64]) -> torch.Tensor:
    """uint8 [N, H, W, C] at `indices` -> float32 [B, C, H, W] in channels_last order."""
    return torch.from_numpy(images[indices]).permute(0, 3, 1, 2).to(torch.float32)


def as_pixels(batch: torch.Tensor) -> NDArray[np.uint8]:
    """The inverse of `gather`: float32 [B, C, H, W] -> whole values of 0 to 255, uint8 [B, H, W, C]."""
    return np.ascontiguousarray(batch.clamp(0, 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8))
