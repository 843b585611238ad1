"""Weak slices: kinds of images, by what they look like, on which a net is right less often than on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.guard import InputProfile, border_of, measure
from fovea.data.imageset import Pixels, take_rows
from fovea.data.imageset import slices as blocks_of
from fovea.evaluation.intervals import Score, accuracy_score
from fovea.evaluation.metrics import confusion_matrix
from fovea.evaluation.paired import holm
from fovea.evaluation.predictions import Predictions

SLICES = "slices.json"
ALPHA = 0.05
MAX_MEASURED = 20_000  # images: of more, so many are spread evenly over all
LEAST = 10  # images in a slice that is tested
# From how many images on a measure is cut into so many slices of about equal size.
_PARTS = ((250, 5), (60, 3))

# Measure -> (its name, its unit, the word for its lowest slice, for its highest).
MEASURES: dict[str, tuple[str, str, str, str]] = {
    "brightness": ("brightness", "levels", "darkest", "brightest"),
    "contrast": ("contrast", "levels", "lowest in contrast", "highest in contrast"),
    "sharpness": ("sharpness", "", "most blurred", "sharpest"),
    "colour": ("colour", "levels", "least colourful", "most colourful"),
    "ink_size": ("size of the shape", "of the side", "smallest shapes", "largest shapes"),
    "stroke_width": ("stroke width", "pixels", "thinnest strokes", "thickest strokes"),
}


@dataclass(frozen=True)
class Slice:
    """The images whose measure lies above `low` and up to `high` (the first slice holds `low` itself).

    Attributes:
        measure: of MEASURES.
        part, parts: which of how many slices of the measure, from 0.
        accuracy: of its images, with its interval.
        others: accuracy of all other images.
        expected: what accuracy its mixture of classes alone would have, from the accuracy of each class.
        p_value: of Fisher's exact test, two-sided, of "as often right as the others".
        adjusted_p_value: the same after Holm, over all slices that were tested.
    """

    measure: str
    part: int
    parts: int
    low: float
    high: float
    accuracy: Score
    others: float
    expected: float
    p_value: float
    adjusted_p_value: float

    @property
    def is_weak(self) -> bool:
        """Whether it is significantly below the others."""
        return self.accuracy.value < self.others and self.adjusted_p_value < ALPHA

    @property
    def words(self) -> str:
        """ "thinnest strokes (up to 1.9 pixels)", "contrast, part 2 of 5 (35.8 to 45.2 levels)"."""
        name, unit, lowest, highest = MEASURES[self.measure]
        name = lowest if self.part == 0 else highest if self.part == self.parts - 1 else name
        name += "" if self.part in (0, self.parts - 1) else f", part {self.part + 1} of {self.parts}"
        low, high = number_text(self.low), number_text(self.high)
        ends = (
            f"up to {high}" if self.part == 0 else f"over {low}" if self.part == self.parts - 1 else f"{low} to {high}"
        )
        return f"{name} ({ends}{f' {unit}' if unit else ''})"

    def as_json(self) -> dict[str, Any]:
        """The slice as plain values."""
        return {**self.__dict__, "accuracy": self.accuracy.as_json(), "words": self.words, "is_weak": self.is_weak}


def number_text(value: float) -> str:
    """A measure with as many digits as tell it."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 10 else f"{value:.1f}"


def find_slices(
    found: Predictions, measured: Mapping[str, NDArray[np.float32]], confidence: float = 0.95
) -> list[Slice]:
    """Accuracy in slices of equal size by each measure, each held against all other images.

    Two-sided Fisher tests, adjusted by Holm (Scandinavian Journal of Statistics 6, 1979): were the net equally good
    on all slices, one or more of them would be called weak in at most 5 % of the cases.

    Args:
        found: predictions of labelled images.
        measured: measure -> its value for each image, [N].

    Returns:
        Every slice that was tested; none where there are fewer than 60 images, or all answers are right or all wrong.
    """
    correct = found.correct
    parts = next((parts for least, parts in _PARTS if len(found) >= least), 0)
    if parts == 0 or correct.all() or not correct.any():
        return []
    expected = _class_accuracy(found)[found.labels]
    tested = [
        _slice(name, part, edges, inside, correct, expected, confidence)
        for name, values in measured.items()
        for part, edges, inside in _cut(values, parts)
        if LEAST <= inside.sum() <= len(inside) - LEAST
    ]
    adjusted = holm([each.p_value for each in tested])
    return [replace(each, adjusted_p_value=p) for each, p in zip(tested, adjusted, strict=True)]


def _class_accuracy(found: Predictions) -> NDArray[np.float64]:
    matrix = confusion_matrix(found)
    accuracy: NDArray[np.float64] = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    return accuracy


def _cut(values: NDArray[np.float32], parts: int) -> list[tuple[int, NDArray[np.float64], NDArray[np.bool_]]]:
    """Slices between the quantiles: (number, all edges, which images); equal values stay together."""
    edges = np.quantile(values.astype(np.float64), np.linspace(0, 1, parts + 1))
    place = np.searchsorted(edges[1:-1], values, side="left")
    return [(part, edges, np.asarray(place == part)) for part in range(parts)]


def _slice(
    name: str,
    part: int,
    edges: NDArray[np.float64],
    inside: NDArray[np.bool_],
    correct: NDArray[np.bool_],
    expected: NDArray[np.float64],
    confidence: float,
) -> Slice:
    from scipy.stats import fisher_exact

    right, count = int(correct[inside].sum()), int(inside.sum())
    right_outside, outside = int(correct.sum()) - right, len(correct) - count
    table = [[right, count - right], [right_outside, outside - right_outside]]
    return Slice(
        measure=name,
        part=part,
        parts=len(edges) - 1,
        low=float(edges[part]),
        high=float(edges[part + 1]),
        accuracy=accuracy_score(right, count, confidence),
        others=right_outside / outside,
        expected=float(expected[inside].mean()),
        p_value=float(fisher_exact(table).pvalue),
        adjusted_p_value=1.0,
    )


def slices_of(found: Predictions, images: Pixels, profile: InputProfile, confidence: float = 0.95) -> list[Slice]:
    """Measure images and test every slice of them, see `find_slices`.

    Args:
        found: their predictions.
        images: uint8 [N, H, W, C].
        profile: of the training images, see `measure_images`.
    """
    rows = np.linspace(0, len(found) - 1, min(len(found), MAX_MEASURED)).astype(np.int64)
    some = replace(found, logits=found.logits[rows], labels=found.labels[rows], ids=found.ids[rows])
    return find_slices(some, measure_images(take_rows(images, rows), profile), confidence)


def measure_images(images: Pixels, profile: InputProfile) -> dict[str, NDArray[np.float32]]:
    """Measure -> its value for each image, float32 [N]: those of MEASURES that such images have.

    Args:
        images: uint8 [N, H, W, C].
        profile: of the training images: of images on a plain background, shapes and strokes are measured, too.
    """
    parts = [_measure_block(block, profile) for _, block in blocks_of(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}


def _measure_block(images: NDArray[np.uint8], profile: InputProfile) -> dict[str, NDArray[np.float32]]:
    found = measure(images)
    grey = images.mean(axis=3, dtype=np.float32)
    wanted = ["brightness", "contrast", *(["colour"] if "colour" in found else [])]
    measured = {name: found[name] for name in wanted} | {"sharpness": sharpness(grey)}
    if profile.plain_background:
        measured |= {"ink_size": found["ink_size"], "stroke_width": stroke_width(grey)}
    return measured


def sharpness(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The standard deviation of the Laplacian over that of the levels: [N, H, W] -> [N]; 0 for a constant image.

    The variance of the Laplacian is a usual measure of focus (Pech-Pacheco et al., ICPR 2000); here contrast is
    divided out.
    """
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    laplacian, spread = (around - 4 * grey).std(axis=(1, 2)), grey.std(axis=(1, 2))
    return np.where(spread > 0, laplacian / np.maximum(spread, 1e-6), 0).astype(np.float32)


def stroke_width(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean width of strokes on a plain background, in pixels: [N, H, W] -> [N]; 0 where nothing is shown.

    A stroke of width w and length l has the area w l and two edges of length l. The area is the sum of the levels of
    ink, the length of the edges that of the gradients (the coarea formula), so that grey edges count in parts.
    """
    background = np.median(border_of(grey), axis=1)
    ink = np.abs(grey - background[:, None, None])
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))  # a stroke may end at the border
    down, across = np.diff(padded, axis=1)[:, :, :-1], np.diff(padded, axis=2)[:, :-1]
    edges = np.sqrt(down**2 + across**2).sum(axis=(1, 2))
    return np.where(edges > 0, 2 * ink.sum(axis=(1, 2)) / np.maximum(edges, 1e-6), 0).astype(np.float32)


def slices_as_json(split: str, tested: list[Slice]) -> dict[str, Any]:
    """The content of slices.json: every slice that was tested, and which of them are weak, the surest first."""
    weak = sorted((each for each in tested if each.is_weak), key=lambda each: each.p_value)
    return {"split": split, "alpha": ALPHA, "weak": [each.as_json() for each in weak],
            "tested": [each.as_json() for each in tested]}  # fmt: skip
