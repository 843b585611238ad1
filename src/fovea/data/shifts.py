"""Whether the values of one split are those of another: scale, polarity, order of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import Pixels, spread_rows
from fovea.data.problem import Problem

_SAMPLE = 10_000  # images of a part that are measured, evenly spread
_MEAN_STEP = 0.25  # of the standard deviation of training pixels (field notes, T10)
_STD_RATIOS = (0.8, 1.25)
_CERTAIN = 6.0  # standard errors: a small split differs by chance
_SCALE = 8.0  # a ratio of both means and deviations beyond this is another scale
_OPPOSITE = (-2.0, -0.5)  # times as much of the training images' mean image as they have
_PROJECTED = 2000  # images of a part that are held against the mean image


@dataclass(frozen=True, eq=False)
class Values:
    """The values of a part, by channel.

    Attributes:
        count: images measured.
        mean, std: of all pixels, float64 [C], in raw units.
        mean_spread, std_spread: how much both differ from image to image, standard deviation; float64 [C].
        mean_image: float64 [H, W, C].
        tint, tint_spread: the mean over images of last minus first channel, and its standard deviation.
    """

    count: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    mean_spread: NDArray[np.float64]
    std_spread: NDArray[np.float64]
    mean_image: NDArray[np.float64]
    tint: float
    tint_spread: float


def measure_values(images: Pixels) -> Values:
    """Measure up to 10,000 images, evenly spread over the part.

    Args:
        images: [N, H, W, C], raw values of any numeric dtype.
    """
    rows = spread_rows(len(images), _SAMPLE)
    means, squares = [], []
    total = np.zeros(images.shape[1:], np.float64)
    for start in range(0, len(rows), 1000):
        part = np.asarray(images[rows[start : start + 1000]]).astype(np.float32)
        total += part.sum(axis=0, dtype=np.float64)
        means.append(part.mean(axis=(1, 2), dtype=np.float64))
        squares.append(np.square(part).mean(axis=(1, 2), dtype=np.float64))
    mean_of_image, square_of_image = np.concatenate(means), np.concatenate(squares)
    mean = mean_of_image.mean(axis=0)
    variance = np.maximum(square_of_image.mean(axis=0) - mean**2, 0)
    std = np.sqrt(variance)
    spread = square_of_image - 2 * mean * mean_of_image + mean**2  # of each image, around the common mean
    tint = mean_of_image[:, -1] - mean_of_image[:, 0]
    return Values(
        count=len(rows),
        mean=mean,
        std=std,
        mean_spread=mean_of_image.std(axis=0),
        std_spread=spread.std(axis=0) / np.maximum(2 * std, 1e-12),
        mean_image=total / len(rows),
        tint=float(tint.mean()),
        tint_spread=float(tint.std()),
    )


def check_values(images: Mapping[str, Pixels]) -> list[Problem]:
    """Hold the values of each part against those of the training images.

    Args:
        images: part -> raw images [N, H, W, C], before any mapping.
    """
    if "train" not in images:
        return []
    train = measure_values(images["train"])
    problems = []
    for part, found in images.items():
        if part == "train" or not len(found) or found.shape[3] != images["train"].shape[3]:
            continue
        opposite = found.shape[1:3] == images["train"].shape[1:3] and is_opposite(images["train"], found, train)
        problems += _compare(part, train, measure_values(found), opposite)
    return problems


def _compare(part: str, train: Values, other: Values, opposite: bool) -> list[Problem]:
    """At most one problem: the most telling cause of a difference that is too large and not by chance."""
    std = np.maximum(train.std, 1e-12)
    step = np.abs(other.mean - train.mean) / std
    # A few images say little about how much they differ: those of training say it for them.
    error = np.sqrt(1 / train.count + 1 / other.count)
    chance = _CERTAIN * error * np.maximum(train.mean_spread, other.mean_spread)
    mean_off = (step > _MEAN_STEP) & (np.abs(other.mean - train.mean) > chance)
    ratio = other.std / std
    chance = _CERTAIN * error * np.maximum(train.std_spread, other.std_spread)
    std_off = ((ratio < _STD_RATIOS[0]) | (ratio > _STD_RATIOS[1])) & (np.abs(other.std - train.std) > chance)
    evidence = {
        "part": part, "train_mean": _rounded(train.mean), "part_mean": _rounded(other.mean),
        "train_std": _rounded(train.std), "part_std": _rounded(other.std),
    }  # fmt: skip
    values = f"mean {_words(other.mean)} and deviation {_words(other.std)}, in training {_words(train.mean)} and "
    values += _words(train.std)
    scale = np.median(ratio)
    if std_off.any() and not 1 / _SCALE < scale < _SCALE:
        cause = f"The {part} images have another scale than the training images: {values}."
        return [Problem("scale", cause, "Give both the same values, best 0 to 255.", "severe", evidence)]
    if opposite:
        cause = f"The {part} images seem to be inverted, dark for light: {values}."
        return [Problem("polarity", cause, f"Invert the {part} images.", "severe", evidence)]
    if _is_swapped(train, other):
        cause = f"The channels of the {part} images seem to stand in the opposite order (RGB and BGR): {values}."
        return [Problem("channel-order", cause, "Read both with the same program.", "severe", evidence)]
    if not (mean_off.any() or std_off.any()):
        return []
    cause = f"The {part} images differ from the training images in brightness or contrast: {values}."
    cure = "Find out why: another camera or program, or a step that one of them lacks."
    return [Problem("values-differ", cause, cure, "warning", evidence)]


def is_opposite(train: Pixels, other: Pixels, values: Values) -> bool:
    """Whether images show the mean image of the training images as a negative, beyond chance.

    Args:
        train, other: [N, H, W, C].
        values: of the training images.
    """
    pattern = values.mean_image.mean(axis=2)
    pattern = pattern - pattern.mean()
    strength = float(np.square(pattern).mean())
    if strength == 0:
        return False
    shares = [_projections(images, pattern) / strength for images in (train, other)]
    spread = max(float(share.std()) for share in shares)
    share = float(shares[1].mean())
    return _OPPOSITE[0] < share < _OPPOSITE[1] and abs(share) > _CERTAIN * spread / np.sqrt(len(shares[1]))


def _projections(images: Pixels, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of a pattern (of mean 0) each of up to 2,000 images shows, float64 [n]."""
    rows = spread_rows(len(images), _PROJECTED)
    grey = np.asarray(images[rows]).mean(axis=3, dtype=np.float32)
    projected: NDArray[np.float64] = (grey * pattern).mean(axis=(1, 2))
    return projected


def _is_swapped(train: Values, other: Values) -> bool:
    """Last minus first channel has the opposite sign and about the same size, both beyond chance."""
    if len(train.mean) != 3:
        return False
    spread = max(train.tint_spread, other.tint_spread, 1e-9)
    certain = all(abs(found.tint) > _CERTAIN * spread / np.sqrt(found.count) for found in (train, other))
    return certain and train.tint * other.tint < 0 and 0.5 < abs(other.tint / train.tint) < 2


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _words(values: NDArray[np.float64]) -> str:
    return "/".join(f"{value:.3g}" for value in values)
