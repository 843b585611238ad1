"""The input guard: what the training images look like, and whether new images look like them.

Each image is measured (brightness, border, contrast, ink, place of the ink, colour). New images are held against the
training images as a batch: its mean of a measure must lie where some mixture of the classes could have it, give or take
what an average of so many images may deviate. A batch of one class alone therefore passes, and so does a single image
that is as odd as the oddest training images. Files are also held against the sizes of the training images' files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import Pixels, slices, spread_rows, take_rows
from fovea.errors import DataError

MAX_FITTED = 20_000  # training images that are measured: more tell little more
INK_LEVELS = 64.0  # a pixel is ink where it is so many levels of 255 away from the image's background
PLAIN_SHARE = 0.9  # of the training images whose border is one level, from which on ink can be cut out
_PLAIN_LEVELS = 16.0  # how much the border of such an image may vary (its 10th to 90th percentile)
_MARGIN = 1.5  # beyond the oddest training image, in units of its distance from the classes' means
_MARGIN_OF_FEW = 5.0  # more of it, over the root of the images a class: few do not show how odd an image can be
_DEVIATIONS = 6.0  # standard deviations that a mean of a few images may be away from what it should be
_MOST_COUNTED = 100  # images in a batch may resemble each other: more of them make the mean no surer
_SQUEEZED = 1.1  # sides of images that were squeezed by more than this no longer look as in training

# Measure -> (its unit, what an image below the training images is, what one above is).
MEASURES: dict[str, tuple[str, str, str]] = {
    "border": ("level", "the border is darker", "the border is brighter"),
    "brightness": ("level", "darker", "brighter"),
    "contrast": ("level", "less contrast", "more contrast"),
    "ink_share": ("share", "less ink", "more ink"),
    "ink_size": ("share", "what is shown is smaller", "what is shown is larger"),
    "centre_row": ("share", "what is shown stands higher", "what is shown stands lower"),
    "centre_column": ("share", "what is shown stands further left", "what is shown stands further right"),
    "colour": ("level", "less colour", "more colour"),
}
# Averages over a narrow band of values are allowed this much anyway.
_FLOOR = {"level": 8.0, "share": 0.05}


@dataclass(frozen=True)
class Spread:
    """How one measure is spread over the training images.

    Attributes:
        low, high: the lowest and highest mean of a class.
        deviation: the largest standard deviation within a class.
        smallest, largest: of all images.
        typical: the mean of all images.
    """

    low: float
    high: float
    deviation: float
    smallest: float
    largest: float
    typical: float

    def bounds(self, count: int, per_class: float, floor: float) -> tuple[float, float]:
        """Where the mean of `count` images may lie.

        Args:
            per_class: training images a class: of few, neither the means nor the extremes are known well.
            floor: is allowed anyway.
        """
        unsure = _DEVIATIONS * self.deviation / math.sqrt(max(per_class, 1.0))
        shrink = math.sqrt(min(count, _MOST_COUNTED))

        def tolerance(extreme: float) -> float:
            alone = (_MARGIN + _MARGIN_OF_FEW / math.sqrt(max(per_class, 1.0))) * extreme
            return max(min(alone, max(_DEVIATIONS * self.deviation, alone) / shrink), floor) + unsure

        return self.low - tolerance(self.low - self.smallest), self.high + tolerance(self.largest - self.high)


@dataclass(frozen=True)
class InputProfile:
    """What the training images look like to the net: uint8, of its size and channels.

    Attributes:
        count: training images.
        classes: how many classes they have.
        spreads: measure -> how it is spread.
        sizes: the distinct (height, width) of the images as they were read, ascending; () where there are many.
        plain_background: whether nearly all stand on a background of one level, so that what is shown can be cut out.
        background, ink: typical levels of the background and of the strongest ink, 0..255.
    """

    count: int
    classes: int
    spreads: dict[str, Spread]
    sizes: tuple[tuple[int, int], ...]
    plain_background: bool
    background: float
    ink: float

    def bounds(self, measure: str, count: int) -> tuple[float, float]:
        """Where the mean of a measure over `count` images may lie."""
        spread = self.spreads[measure]
        low, high = spread.bounds(count, self.count / self.classes, _FLOOR[MEASURES[measure][0]])
        if measure == "contrast":  # a blank image is never like one that shows something
            low = max(low, spread.smallest / 2)
        return low, high

    def as_json(self) -> dict[str, Any]:
        """The profile as plain values."""
        plain = {name: dict(spread.__dict__) for name, spread in self.spreads.items()}
        return {**self.__dict__, "spreads": plain, "sizes": [list(size) for size in self.sizes]}


def profile_from_json(value: dict[str, Any]) -> InputProfile:
    """The inverse of `InputProfile.as_json`.

    Raises:
        DataError: when a value is missing or of the wrong kind.
    """
    try:
        spreads = {
            str(name): Spread(**{key: float(number) for key, number in spread.items()})
            for name, spread in value["spreads"].items()
        }
        sizes = tuple((int(height), int(width)) for height, width in value["sizes"])
        if not set(spreads) <= set(MEASURES):
            raise ValueError(f"unknown measures {sorted(set(spreads) - set(MEASURES))}")
        if not set(MEASURES) - {"colour"} <= set(spreads):
            raise ValueError(f"it lacks {sorted(set(MEASURES) - {'colour'} - set(spreads))}")
        counts = {name: int(value[name]) for name in ("count", "classes")}
        if min(counts.values()) < 1:
            raise ValueError(f"counts {counts}")
        levels = {name: float(value[name]) for name in ("background", "ink")}
        return InputProfile(**{**value, **counts, **levels, "spreads": spreads, "sizes": sizes})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"The stored profile of the training images is damaged: {error}.") from None


def fit_profile(
    images: Pixels, labels: NDArray[np.int64], num_classes: int, sizes: tuple[tuple[int, int], ...]
) -> InputProfile:
    """Measure the training images (20,000 of them at most, spread evenly).

    Args:
        images: uint8 [N, H, W, C] of the train split, as the net sees them.
        labels: int64 [N].
        sizes: the distinct (height, width) of the images as they were read, three at most.
    """
    rows = spread_rows(len(images), MAX_FITTED)
    parts = [_all_measures(part) for _, part in slices(take_rows(images, rows))]  # never all of them at once
    measured = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    background, ink, plain = (measured.pop(name) for name in ("background", "ink", "plain"))
    spreads = {name: _spread(values, labels[rows]) for name, values in measured.items()}
    return InputProfile(
        count=len(images),
        classes=num_classes,
        spreads=spreads,
        sizes=tuple(sorted(sizes)) if len(sizes) < 3 else (),
        plain_background=bool(plain.mean() >= PLAIN_SHARE),
        background=float(np.median(background)),
        ink=float(np.median(ink)),
    )


def _spread(values: NDArray[np.float32], labels: NDArray[np.int64]) -> Spread:
    of_classes = [values[labels == label] for label in np.unique(labels)]
    means = [float(found.mean()) for found in of_classes]
    deviation = max(float(found.std()) for found in of_classes)
    return Spread(min(means), max(means), deviation, float(values.min()), float(values.max()), float(values.mean()))


def measure(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Measure -> its value for each image, float32 [N]; see MEASURES.

    Args:
        images: uint8 [N, H, W, C].
    """
    found = _all_measures(images)
    return {name: found[name] for name in found if name in MEASURES}


def border_of(images: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of each image: [N, H, W, ...] -> [N, pixels, ...]."""
    sides = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    return np.concatenate(sides, axis=1)


def _all_measures(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    grey = images.mean(axis=3, dtype=np.float32)
    height, width = grey.shape[1:]
    border = border_of(grey)
    background = np.median(border, axis=1)
    distance = np.abs(grey - background[:, None, None])
    is_ink = distance > INK_LEVELS
    weight = np.where(is_ink, distance, 0).astype(np.float32)
    total = weight.sum(axis=(1, 2))
    low, high = np.percentile(border, (10, 90), axis=1)
    found = {
        "border": border.mean(axis=1),
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "ink_share": is_ink.mean(axis=(1, 2), dtype=np.float32),
        "ink_size": np.maximum(_extent(is_ink.any(axis=2)), _extent(is_ink.any(axis=1))),
        "centre_row": _centre(weight.sum(axis=2), total, height),
        "centre_column": _centre(weight.sum(axis=1), total, width),
        "background": background,
        "ink": distance.max(axis=(1, 2)),
        "plain": (high - low) <= _PLAIN_LEVELS,
    }
    if images.shape[3] == 3:
        # max and min over three channels one by one: numpy's own along so short an axis is ten times slower
        red, green, blue = (images[..., channel] for channel in range(3))
        most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
        found["colour"] = (most - least).mean(axis=(1, 2), dtype=np.float32)
    return found


def _extent(has_ink: NDArray[np.bool_]) -> NDArray[np.float32]:
    """From the first to the last row (or column) with ink, as a share of all: bool [N, S] -> [N]."""
    side = has_ink.shape[1]
    span = side - has_ink[:, ::-1].argmax(axis=1) - has_ink.argmax(axis=1)
    return np.where(has_ink.any(axis=1), span / side, 0).astype(np.float32)


def _centre(weight: NDArray[np.float32], total: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The centre of the ink along one axis, as a share of the side: [N, side] -> [N]; .5 where there is no ink."""
    places = (np.arange(side, dtype=np.float32) + 0.5) / side
    moment = (weight * places).sum(axis=1)  # no matrix product: its last bits differ from processor to processor
    return np.where(total > 0, moment / np.maximum(total, 1), 0.5).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A batch of new images beside the training images.

    Attributes:
        outside: name of a difference -> which images it concerns, bool [N].
        values: measure -> its value for each image, float32 [N].
    """

    outside: dict[str, NDArray[np.bool_]]
    values: dict[str, NDArray[np.float32]]

    def of_image(self, row: int) -> tuple[str, ...]:
        """The differences that concern one image."""
        return tuple(name for name, which in self.outside.items() if which[row])


def compare(profile: InputProfile, images: NDArray[np.uint8]) -> Comparison:
    """Hold a batch of images against the training images.

    Args:
        images: uint8 [N, H, W, C], as the net sees them.
    """
    measured = measure(images)
    outside = {name: _outside(profile, name, values) for name, values in measured.items()}
    outside = {name: which for name, which in outside.items() if which.any()}
    if outside:
        inverted = np.any(list(outside.values()), axis=0) & _inverted(profile, measured)
        if inverted.any():  # the one cause of several differences
            outside = {name: which & ~inverted for name, which in outside.items()}
            outside = {"inverted": inverted, **{name: which for name, which in outside.items() if which.any()}}
    return Comparison(outside, measured)


def _outside(profile: InputProfile, name: str, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    low, high = profile.bounds(name, 1)
    outside = np.asarray((values < low) | (values > high))
    others = values[~outside]
    if len(others) > 1:  # each of them may pass, and all of them together not
        low, high = profile.bounds(name, len(others))
        spread, mean = profile.spreads[name], float(others.mean())
        if mean > high:
            outside |= values > spread.high
        elif mean < low:
            outside |= values < spread.low
    return outside


def _inverted(profile: InputProfile, measured: dict[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Which images are like the training images once black and white are exchanged, and are not as they are."""
    border, brightness = measured["border"], measured["brightness"]
    as_it_is = _distance(profile, border, brightness)
    return np.asarray(_distance(profile, 255 - border, 255 - brightness) < as_it_is / 2)


def _distance(
    profile: InputProfile, border: NDArray[np.float32], brightness: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How far outside the classes' means each image's levels lie, in standard deviations, summed: [N]."""
    total = np.zeros(len(border))
    for name, values in (("border", border), ("brightness", brightness)):
        spread = profile.spreads[name]
        beyond = np.maximum(spread.low - values, values - spread.high).clip(0)
        total += beyond / max(spread.deviation, _FLOOR["level"])
    return total


def compare_sizes(profile: InputProfile, sizes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which images came in another size than the training images, and which were squeezed to fit.

    Args:
        sizes: int64 [N, 2], height and width before resizing.
    """
    if not profile.sizes:  # the training images differ among each other
        return {}
    known = np.zeros(len(sizes), np.bool_)
    squeezed = np.ones(len(sizes), np.bool_)
    for height, width in profile.sizes:
        known |= (sizes[:, 0] == height) & (sizes[:, 1] == width)
        ratio = sizes[:, 0] / np.maximum(sizes[:, 1], 1) / (height / width)
        squeezed &= (ratio > _SQUEEZED) | (ratio < 1 / _SQUEEZED)
    found = {"aspect": ~known & squeezed, "size": ~known & ~squeezed}
    return {name: which for name, which in found.items() if which.any()}
