"""Whether the values of one split are those of another: scale, polarity, order of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import Pixels
from fovea.data.problem import Problem

_SAMPLE = 10_000  # images of a part that are measured, evenly spread
_MEAN_STEP = 0.25  # of the standard deviation of training pixels (field notes, T10)
_STD_RATIOS = (0.8, 1.25)
_CERTAIN = 6.0  # standard errors: a small split differs by chance
_SCALE = 8.0  # a ratio of both means and deviations beyond this is another scale
_OPPOSITE = -0.5  # correlation of mean images


@dataclass(frozen=True, eq=False)
class Values:
    """The values of a part, by channel.

    Attributes:
        count: images measured.
        mean, std: of all pixels, float64 [C], in raw units.
        mean_error, std_error: the standard error of both, from how images differ; float64 [C].
        mean_image: float64 [H, W, C].
        tint, tint_error: the mean over images of last minus first channel, and its standard error.
    """

    count: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    mean_error: NDArray[np.float64]
    std_error: NDArray[np.float64]
    mean_image: NDArray[np.float64]
    tint: float
    tint_error: float


def measure_values(images: Pixels) -> Values:
    """Measure up to 10,000 images, evenly spread over the part.

    Args:
        images: [N, H, W, C], raw values of any numeric dtype.
    """
    rows = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(np.int64)
    means, squares = [], []
    total = np.zeros(images.shape[1:], np.float64)
    for start in range(0, len(rows), 1000):
        part = np.asarray(images[rows[start : start + 1000]]).astype(np.float32)
        total += part.sum(axis=0, dtype=np.float64)
        means.append(part.mean(axis=(1, 2), dtype=np.float64))
        squares.append(np.square(part).mean(axis=(1, 2), dtype=np.float64))
    mean_of_image, square_of_image = np.concatenate(means), np.concatenate(squares)
    mean, root = mean_of_image.mean(axis=0), np.sqrt(len(rows))
    variance = np.maximum(square_of_image.mean(axis=0) - mean**2, 0)
    std = np.sqrt(variance)
    spread = square_of_image - 2 * mean * mean_of_image + mean**2  # of each image, around the common mean
    tint = mean_of_image[:, -1] - mean_of_image[:, 0]
    return Values(
        count=len(rows),
        mean=mean,
        std=std,
        mean_error=mean_of_image.std(axis=0) / root,
        std_error=spread.std(axis=0) / root / np.maximum(2 * std, 1e-12),
        mean_image=total / len(rows),
        tint=float(tint.mean()),
        tint_error=float(tint.std() / root),
    )


def check_values(images: Mapping[str, Pixels]) -> list[Problem]:
    """Hold the values of each part against those of the training images.

    Args:
        images: part -> raw images [N, H, W, C], before any mapping.
    """
    if "train" not in images:
        return []
    train = measure_values(images["train"])
    others = {part: measure_values(found) for part, found in images.items() if part != "train" and len(found)}
    return [problem for part, found in others.items() for problem in _compare(part, train, found)]


def _compare(part: str, train: Values, other: Values) -> list[Problem]:
    """At most one problem: the most telling cause of a difference that is too large and not by chance."""
    if len(train.mean) != len(other.mean):
        return []
    std = np.maximum(train.std, 1e-12)
    step = np.abs(other.mean - train.mean) / std
    mean_off = (step > _MEAN_STEP) & (
        np.abs(other.mean - train.mean) > _CERTAIN * np.hypot(train.mean_error, other.mean_error)
    )
    ratio = other.std / std
    std_off = ((ratio < _STD_RATIOS[0]) | (ratio > _STD_RATIOS[1])) & (
        np.abs(other.std - train.std) > _CERTAIN * np.hypot(train.std_error, other.std_error)
    )
    evidence = {
        "part": part, "train_mean": _rounded(train.mean), "part_mean": _rounded(other.mean),
        "train_std": _rounded(train.std), "part_std": _rounded(other.std),
    }  # fmt: skip
    values = f"mean {_words(other.mean)} and deviation {_words(other.std)}, in training {_words(train.mean)} and "
    values += _words(train.std)
    if _is_swapped(train, other):
        cause = f"The channels of the {part} images seem to stand in the opposite order (RGB and BGR): {values}."
        return [Problem("channel-order", cause, "Read both with the same program.", "severe", evidence)]
    if not (mean_off.any() or std_off.any()):
        return []
    scale = np.median(ratio)
    if scale < 1 / _SCALE or scale > _SCALE:
        cause = f"The {part} images have another scale than the training images: {values}."
        return [Problem("scale", cause, "Give both the same values, best 0 to 255.", "severe", evidence)]
    if mean_off.any() and _is_opposite(train, other):
        cause = f"The {part} images seem to be inverted, dark for light: {values}."
        return [Problem("polarity", cause, f"Invert the {part} images.", "severe", evidence)]
    cause = f"The {part} images differ from the training images in brightness or contrast: {values}."
    cure = "Find out why: another camera or program, or a step that one of them lacks."
    return [Problem("values-differ", cause, cure, "warning", evidence)]


def _is_opposite(train: Values, other: Values) -> bool:
    if train.mean_image.shape != other.mean_image.shape:
        return False
    one, two = (found.mean_image.ravel() - found.mean_image.mean() for found in (train, other))
    length = float(np.linalg.norm(one) * np.linalg.norm(two))
    return length > 0 and float(one @ two) / length < _OPPOSITE


def _is_swapped(train: Values, other: Values) -> bool:
    """Last minus first channel has the opposite sign and about the same size, both beyond chance."""
    if len(train.mean) != 3:
        return False
    certain = all(abs(found.tint) > _CERTAIN * max(found.tint_error, 1e-9) for found in (train, other))
    return certain and train.tint * other.tint < 0 and 0.5 < abs(other.tint / train.tint) < 2


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _words(values: NDArray[np.float64]) -> str:
    return "/".join(f"{value:.3g}" for value in values)
