"""Augmentation: whole-batch functions with the names and meanings of Keras' ImageDataGenerator.

Everything drawn is a function of (seed, epoch, image index). Images are float32 [B, C, H, W] with values 0..255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.data.affine import AffineParameters, is_whole_shift, resample, shift_whole, source_positions
from fovea.data.draws import random_words, uniform, uniform_each
from fovea.registry import Registry
from fovea.settings import AugmentationSettings, Flip


@dataclass(frozen=True, eq=False)
class Draws:
    """What is drawn for the images at `indices`, int64 [B]; `purpose` tells the draws of an image apart."""

    indices: NDArray[np.int64]
    seed: int
    epoch: int

    def uniform(self, purpose: str) -> torch.Tensor:
        """One number in [0, 1) an image, float32 [B]."""
        return torch.from_numpy(uniform(self.indices, self.seed, self.epoch, purpose))

    def uniform_each(self, *purposes: str) -> NDArray[np.float32]:
        """One number in [0, 1) an image for each purpose, float32 [purposes, B]."""
        return uniform_each(self.indices, purposes, self.seed, self.epoch)

    def between(self, low: float, high: float, purpose: str) -> torch.Tensor:
        """One number in [low, high) an image, float32 [B]; as with Keras, the higher one may come first."""
        return low + (high - low) * self.uniform(purpose)

    def coins(self, purpose: str, alternating: bool) -> torch.Tensor:
        """Heads or tails an image, bool [B]: a toss each epoch, or one toss and from then on in turns."""
        if not alternating:
            return self.uniform(purpose) < 0.5
        first = random_words(self.indices, self.seed, purpose + " alternating") % np.uint64(2)
        return torch.from_numpy((first + np.uint64(self.epoch)) % np.uint64(2) == 0)


Operation = Callable[[torch.Tensor, AugmentationSettings, Draws], torch.Tensor]

# Values where a preset differs from "nothing". Digits and letters are never mirrored.
PRESETS: Registry[dict[str, Any]] = Registry(
    "augmentation preset",
    {
        "none": {},
        "digits": {
            "rotation_range": 10.0,
            "width_shift_range": 0.08,
            "height_shift_range": 0.08,
            "zoom_range": 0.1,
            "shear_range": 10.0,
            "fill_mode": "constant",
        },
        "photos": {
            "width_shift_range": 0.08,
            "height_shift_range": 0.08,
            "horizontal_flip": True,
            "fill_mode": "reflect",
        },
    },
)


def choose_preset(preset: str, classes: tuple[str, ...], kind: str | None) -> tuple[str, str]:
    """The preset that "auto" stands for, and why.

    Characters are never mirrored: a flipped 3 is no 3. Where the class names do not tell, they count as characters.

    Args:
        kind: "characters" or "photos" where the source says so.
    """
    if preset != "auto":
        PRESETS[preset]
        return preset, "as asked"
    if kind == "photos":
        return "photos", "a mirrored image keeps its class"
    if kind == "characters":
        return "digits", "characters, which are never mirrored"
    if all(len(name) == 1 or name.lstrip("-").isdecimal() for name in classes):
        return "digits", "class names look like digits or letters, which are never mirrored"
    return "photos", "class names are words; --augmentation none or digits if mirroring changes a class"


def complete_augmentation(settings: AugmentationSettings, preset: str) -> AugmentationSettings:
    """Fill what was left open with the preset's values and with "nothing" for the rest."""
    neutral = {
        "rotation_range": 0.0,
        "width_shift_range": 0.0,
        "height_shift_range": 0.0,
        "shear_range": 0.0,
        "zoom_range": 0.0,
        "channel_shift_range": 0.0,
        "brightness_range": None,
        "contrast_range": None,
        "horizontal_flip": False,
        "vertical_flip": False,
        "cutout": 0,
        "fill_mode": "nearest",
        "cval": 0.0,
        "interpolation": "bilinear",
    }
    given = {name: value for name, value in settings.model_dump().items() if value is not None}
    return AugmentationSettings.model_validate({**neutral, **PRESETS[preset], **given, "preset": preset})


def augment_batch(
    images: torch.Tensor, settings: AugmentationSettings, indices: NDArray[np.int64], seed: int, epoch: int
) -> torch.Tensor:
    """Augment one batch.

    Args:
        images: float32 [B, C, H, W], values 0..255.
        settings: complete (see `complete_augmentation`).
        indices: int64 [B], the images' positions in the train split: what the draws depend on.

    Returns:
        float32 [B, C, H, W].
    """

    draws = Draws(indices, seed, epoch)
    for operation in AUGMENTATIONS.values():
        images = operation(images, settings, draws)
    return images


def _affine(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    height, width = images.shape[2:]
    parameters = draw_affine(settings, height, width, draws)
    if parameters is None:
        return images
    fill_mode, cval = settings.fill_mode or "nearest", settings.cval or 0.0
    if is_whole_shift(parameters):
        return shift_whole(images, parameters, fill_mode, cval)
    positions = source_positions(parameters, height, width)
    return resample(images, positions, fill_mode, cval, settings.interpolation or "bilinear")


def draw_affine(settings: AugmentationSettings, height: int, width: int, draws: Draws) -> AffineParameters | None:
    """One affine transform for each image; None where the settings ask for none."""
    low, high = _zoom_pair(settings.zoom_range)
    asked = (
        settings.rotation_range,
        settings.shear_range,
        settings.width_shift_range,
        settings.height_shift_range,
    )
    if not any(asked) and (low, high) == (1.0, 1.0):
        return None
    purposes = ("rotation", "height_shift", "width_shift", "shear", "zoom_rows", "zoom_columns")
    theta, down, right, shear, zoom_rows, zoom_columns = draws.uniform_each(*purposes)
    most_theta, most_shear = settings.rotation_range or 0.0, settings.shear_range or 0.0
    return AffineParameters(
        theta=_between(theta, -most_theta, most_theta),
        shift_rows=_shift(down, settings.height_shift_range or 0.0, height),
        shift_columns=_shift(right, settings.width_shift_range or 0.0, width),
        shear=_between(shear, -most_shear, most_shear),
        zoom_rows=_between(zoom_rows, low, high),
        zoom_columns=_between(zoom_columns, low, high),
    )


def _between(drawn: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return low + (high - low) * drawn


def _zoom_pair(zoom: float | tuple[float, float] | None) -> tuple[float, float]:
    if isinstance(zoom, tuple):
        return zoom
    return 1 - (zoom or 0.0), 1 + (zoom or 0.0)


def _shift(drawn: NDArray[np.float32], shift: float | int | tuple[float, ...], side: int) -> NDArray[np.float32]:
    """Pixels from numbers in [0, 1), in Keras' three readings.

    A list gives the choices, an int n whole pixels below n, both with a random sign; a float gives a range. A float
    below 1, or a list of such, is a fraction of the side.
    """
    if isinstance(shift, float):
        pixels = shift * side if shift < 1 else shift
        return _between(drawn, -pixels, pixels)
    choices = shift if isinstance(shift, tuple) else tuple(range(max(shift, 1)))
    scale = side if isinstance(shift, tuple) and max(choices) < 1 else 1
    signed = np.array([sign * scale * choice for choice in choices for sign in (1, -1)], np.float32)
    return signed[(drawn.astype(np.float64) * len(signed)).astype(np.int64)]


def _channel_shift(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    if not settings.channel_shift_range:
        return images
    by = draws.between(-settings.channel_shift_range, settings.channel_shift_range, "channel_shift")
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + by[:, None, None, None]).clamp(min=low, max=high)


def _horizontal_flip(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    return _flip(images, settings.horizontal_flip, draws, "horizontal_flip", dim=3)


def _vertical_flip(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    return _flip(images, settings.vertical_flip, draws, "vertical_flip", dim=2)


def _flip(images: torch.Tensor, asked: Flip | None, draws: Draws, purpose: str, dim: int) -> torch.Tensor:
    """Mirror half of the images; "alternating" mirrors each in every other epoch (Jordan, arXiv 2404.00498)."""
    if not asked:
        return images
    which = draws.coins(purpose, alternating=asked == "alternating")
    return torch.where(which[:, None, None, None], images.flip(dim), images)


def _brightness(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    if settings.brightness_range is None:
        return images
    factor = draws.between(*settings.brightness_range, "brightness")
    return (images * factor[:, None, None, None]).clamp(0, 255)


def _contrast(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    """Distance from the image's mean times a factor, clipped to 0..255."""
    if settings.contrast_range is None:
        return images
    factor = draws.between(*settings.contrast_range, "contrast")[:, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (images - mean) * factor).clamp(0, 255)


def _cutout(images: torch.Tensor, settings: AugmentationSettings, draws: Draws) -> torch.Tensor:
    """A square of the image's own mean, wholly inside (after DeVries and Taylor, arXiv 1708.04552)."""
    if not settings.cutout:
        return images
    height, width = images.shape[2:]
    tall, wide = min(settings.cutout, height), min(settings.cutout, width)
    top = (draws.uniform("cutout_row") * (height - tall + 1)).floor()[:, None]
    left = (draws.uniform("cutout_column") * (width - wide + 1)).floor()[:, None]
    row, column = torch.arange(height)[None], torch.arange(width)[None]
    in_rows = (row >= top) & (row < top + tall)
    in_columns = (column >= left) & (column < left + wide)
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(hole, images.mean(dim=(2, 3), keepdim=True), images)


# In the order in which they are applied: Keras' own, then ours.
AUGMENTATIONS: Registry[Operation] = Registry(
    "augmentation",
    {
        "affine": _affine,
        "channel_shift": _channel_shift,
        "horizontal_flip": _horizontal_flip,
        "vertical_flip": _vertical_flip,
        "brightness": _brightness,
        "contrast": _contrast,
        "cutout": _cutout,
    },
)
