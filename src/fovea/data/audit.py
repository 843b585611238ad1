"""What is in data, as plain facts that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet, RawData
from fovea.data.pixels import check_images, extremes, to_uint8, value_range
from fovea.data.prepare import Problem, check_class_presence, check_shared_images, encode_parts


@dataclass(frozen=True)
class PartFacts:
    """One part of the data.

    Attributes:
        count: images.
        shape: height, width, channels.
        dtype: of the values as they were read.
        low, high: the lowest and highest value.
        class_counts: class name -> images; None where the part has no labels.
    """

    count: int
    shape: tuple[int, int, int]
    dtype: str
    low: float
    high: float
    class_counts: dict[str, int] | None

    def as_json(self) -> dict[str, Any]:
        """The facts as plain values."""
        return {**self.__dict__, "shape": list(self.shape)}


@dataclass(frozen=True, eq=False)
class DataFacts:
    """What was found under a name or a path.

    Attributes:
        known: whether the content is the published one; None where nothing is known to hold it against.
        sets: part -> its images and labels, as training would see them; of unlabelled parts all labels are 0.
        problems: what is wrong.
    """

    name: str
    form: str
    place: str | None
    known: bool | None
    classes: tuple[str, ...]
    parts: dict[str, PartFacts]
    notes: list[str]
    problems: list[Problem]
    sets: dict[str, ImageSet]


def describe(raw: RawData) -> DataFacts:
    """Count and measure the parts of raw data.

    Raises:
        DataError: for images or labels that cannot be used.
    """
    labelled = all(found.labels is not None for found in raw.parts.values())
    labels, classes = encode_parts(raw) if labelled else ({}, ())
    images = {part: check_images(found.images, f"{raw.name} ({part})") for part, found in raw.parts.items()}
    input_range = value_range(next(iter(images.values())))
    parts, sets = {}, {}
    for part, found in images.items():
        names = classes or ("",)
        coded: NDArray[np.int64] = labels.get(part, np.zeros(len(found), np.int64))
        sets[part] = ImageSet(to_uint8(found, input_range), coded, names, raw.parts[part].ids)
        height, width, channels = found.shape[1:]
        low, high = extremes(found)
        counts = sets[part].class_counts() if labelled else None
        parts[part] = PartFacts(len(found), (height, width, channels), str(found.dtype), low, high, counts)
    same_shape = len({facts.shape for facts in parts.values()}) == 1
    problems = [*check_class_presence(sets)] if labelled else []
    problems += check_shared_images(sets) if same_shape and "train" in sets else []
    place = None if raw.place is None else str(raw.place)
    return DataFacts(raw.name, raw.form, place, raw.known, classes, parts, list(raw.notes), problems, sets)
