"""What an image looks like in a hundred numbers that a shift by a pixel, a gain or an offset hardly change.

The magnitudes of the low spatial frequencies do not move with the image (the shift theorem of the Fourier transform);
whitened over the data, they tell images of one kind apart. Which frequency is which tells the mirrored image too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fovea.data.imageset import Pixels, slices
from fovea.data.pixels import as_array, from_array

SIDE = 32  # pixels; larger images are compared at this size
_RADIUS = 8  # cycles over the image, the highest frequency looked at
_COMPONENTS = 96  # at most; of few images fewer, which are told from chance
_IMAGES_A_COMPONENT, _LEAST_COMPONENTS = 8, 8
_FLOOR = 0.02  # of the mean variance: what no image varies in is not blown up
_FIT_IMAGES = 10_000  # that the whitening is fitted on
_BLOCK = 512  # images at a time: what is computed of them stays in the cache


def small_images(images: Pixels) -> Pixels:
    """Images at the size they are compared at: as they are up to 32 x 32 pixels, else reduced; uint8 [N, h, w, C]."""
    height, width, channels = images.shape[1:]
    if max(height, width) <= SIDE:
        return images
    reduced = np.empty((len(images), min(height, SIDE), min(width, SIDE), channels), np.uint8)
    size = (reduced.shape[2], reduced.shape[1])
    for start, part in slices(images):
        for row, image in enumerate(part):
            reduced[start + row] = as_array(from_array(image).resize(size, Image.Resampling.BOX))
    return reduced


def grey_blocks(images: Pixels) -> Iterator[Tensor]:
    """Consecutive blocks of images, float32 [n, h, w]: the mean of the channels."""
    for start in range(0, len(images), _BLOCK):
        yield grey(images[start : start + _BLOCK])


def grey(images: NDArray[np.uint8]) -> Tensor:
    """The mean of the channels, float32 [n, h, w]."""
    values = torch.tensor(np.ascontiguousarray(images))
    return values[..., 0].float() if values.shape[3] == 1 else values.float().mean(3)


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Which frequencies of images of one size are looked at.

    Attributes:
        waves: float32 [h * w, 2 F], the real, then the imaginary parts of torch.fft.rfft2 of each pixel behind a
            window that fades the borders out. Few frequencies are kept: a product takes a quarter of the time.
        mirror: int64 [F], the place of each kept frequency in the mirrored image.
    """

    waves: Tensor
    mirror: Tensor

    def magnitudes(self, images: Tensor) -> Tensor:
        """Square roots of the magnitudes, scaled alike for every image: float32 [n, F]."""
        centred = images - images.mean((1, 2), keepdim=True)
        real, imaginary = (centred.flatten(1) @ self.waves).square_().chunk(2, dim=1)
        power = real + imaginary
        scaled: Tensor = power.div_(power.sum(1, keepdim=True).clamp_min(1e-6))
        return scaled.sqrt_().sqrt_()


def frequencies_of(height: int, width: int) -> Frequencies:
    """The low frequencies of images of height x width."""
    down = torch.fft.fftfreq(height) * height
    across = torch.fft.rfftfreq(width) * width
    radius = (down[:, None] ** 2 + across[None] ** 2).sqrt()
    edge = min(_RADIUS, (height - 1) // 2 + 0.5, (width - 1) // 2 + 0.5)
    keep = (radius <= edge) & (radius > 0)
    place = {
        (int(down[row]), int(across[column])): number for number, (row, column) in enumerate(keep.nonzero().tolist())
    }
    mirror = torch.tensor([place[(-y, x)] for y, x in place], dtype=torch.int64)
    fades = [torch.sin(torch.pi * (torch.arange(side) + 0.5) / side) for side in (height, width)]
    pixels = torch.eye(height * width).view(-1, height, width) * (fades[0][:, None] * fades[1][None])
    found = torch.fft.rfft2(pixels)[:, keep]
    return Frequencies(torch.cat([found.real, found.imag], dim=1), mirror)


def describe_images(parts: Sequence[Pixels]) -> tuple[Tensor, Tensor]:
    """The descriptor of each image and of the mirrored image: two of float32 [N, D], of length 1.

    Args:
        parts: uint8 [n, h, w, C] each, of one size, as from `small_images`; N images in all.
    """
    frequencies = frequencies_of(*parts[0].shape[1:3])
    found = torch.cat([frequencies.magnitudes(block) for images in parts for block in grey_blocks(images)])
    sample = found[torch.linspace(0, len(found) - 1, min(len(found), _FIT_IMAGES)).long()]
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((sample - mean).T))
    components = min(_COMPONENTS, max(_LEAST_COMPONENTS, len(sample) // _IMAGES_A_COMPONENT))
    values, vectors = values.flip(0)[:components].clamp_min(0), vectors.flip(1)[:, :components]
    whitening = vectors / (values + _FLOOR * values.mean() + 1e-9).sqrt()

    def whitened(magnitudes: Tensor) -> Tensor:
        seen: Tensor = (magnitudes - mean) @ whitening
        return seen.div_(seen.norm(dim=1, keepdim=True).clamp_min(1e-6))

    return whitened(found), whitened(found[:, frequencies.mirror])
