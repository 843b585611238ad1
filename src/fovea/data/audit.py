"""What is in data, and what is wrong with it: facts that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.checks import check_constant, check_groups, check_labels
from fovea.data.duplicates import check_conflicts, check_copies, check_near, check_shared_images
from fovea.data.imageset import ImageSet, Pixels, RawData, slices
from fovea.data.near import NearDuplicates, find_near
from fovea.data.pixel_cache import UNREADABLE
from fovea.data.pixels import Range, check_images, extremes, to_uint8, value_range
from fovea.data.prepare import check_class_presence, encode_parts, range_of_part
from fovea.data.problem import Problem
from fovea.data.shifts import check_values
from fovea.errors import DataError

_ORDER = {"severe": 0, "warning": 1, "note": 2}


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
        problems: what is wrong, the worst first; [] where nobody has looked (`describe`).
        near: the near-duplicates; None where nobody has looked.
        mean_images: part -> the mean image, uint8 [H, W, C].
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
    near: NearDuplicates | None = None
    mean_images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


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
        sets[part] = ImageSet(to_uint8(found, _range_of(found, input_range, part)), coded, names, raw.parts[part].ids)
        height, width, channels = found.shape[1:]
        low, high = extremes(found)
        counts = sets[part].class_counts() if labelled else None
        parts[part] = PartFacts(len(found), (height, width, channels), str(found.dtype), low, high, counts)
    place = None if raw.place is None else str(raw.place)
    return DataFacts(raw.name, raw.form, place, raw.known, classes, parts, list(raw.notes), [], sets)


def _range_of(images: Pixels, trained: Range | None, part: str) -> Range | None:
    """The range that training would map a part by; of values that it would refuse, that of the training images."""
    try:
        return range_of_part(images, trained, part)
    except DataError:  # `check_values` says what is wrong with them
        return trained


def audit(raw: RawData) -> DataFacts:
    """Count and measure the parts of raw data, and look for what is wrong with them.

    Raises:
        DataError: for images or labels that cannot be used.
    """
    facts = describe(raw)
    labelled = all(found.class_counts is not None for found in facts.parts.values())
    images = {part: check_images(found.images, f"{raw.name} ({part})") for part, found in raw.parts.items()}
    problems = [*_unreadable(raw), *(check_class_presence(facts.sets) if labelled else []), *check_values(images)]
    found, near = check_sets(facts.sets, labelled, "folder" not in raw.form, raw.kind != "characters")
    means = {part: _mean_image(part_set.images) for part, part_set in facts.sets.items() if len(part_set)}
    return replace(facts, problems=by_severity([*problems, *found]), near=near, mean_images=means)


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found about the splits of a training.

    Attributes:
        sets: the splits that were looked at.
    """

    sets: Mapping[str, ImageSet]
    problems: list[Problem]
    near: NearDuplicates


def audit_splits(sets: Mapping[str, ImageSet], kind: str | None) -> Audit:
    """What the splits of a training get of the audit: all that takes little time.

    Copies across splits and absent classes are told when splits are made; near-duplicates are looked for across splits
    alone, mirrored ones where the images are no characters; that the training images may be sorted says nothing here.

    Args:
        sets: "train" and what judges; test images only where the test may be opened.
        kind: "characters" or "photos" where known.
    """
    problems = [*check_values({part: images.images for part, images in sets.items()}), *check_constant(sets)]
    near = find_near(sets, kind != "characters", across_only=True)
    problems += [*check_labels(sets, in_order=False), *check_groups(sets), *check_conflicts(sets)]
    return Audit(sets, by_severity([*problems, *check_near(sets, near, True)]), near)


def check_sets(
    sets: Mapping[str, ImageSet], labelled: bool, in_order: bool, mirrored: bool
) -> tuple[list[Problem], NearDuplicates | None]:
    """Every check of images, labels and names.

    Args:
        sets: part -> images as uint8.
        labelled: whether the labels mean anything.
        in_order: whether the rows stand in the order of the source.
        mirrored: whether mirrored images are copies, as of photos.
    """
    shape = next(iter(sets.values())).image_shape
    alike = {part: images for part, images in sets.items() if images.image_shape == shape and len(images)}
    problems = [*check_constant(sets), *check_copies(alike)]
    if "train" in alike:
        problems += check_shared_images(alike)
    if labelled:
        problems += [*check_labels(sets, in_order), *check_groups(sets), *check_conflicts(alike)]
    near = find_near(alike, mirrored) if alike else None
    return problems + ([] if near is None else check_near(alike, near, labelled)), near


def by_severity(problems: list[Problem]) -> list[Problem]:
    """The worst first, else in the order in which they were found."""
    return sorted(problems, key=lambda problem: _ORDER[problem.severity])


def _unreadable(raw: RawData) -> list[Problem]:
    """Images that were left out because they cannot be decoded."""
    lines = [note for note in raw.notes if UNREADABLE in note]
    cure = "Mend or remove them: what is left out is not measured either."
    return [Problem("unreadable-images", f"{line}.", cure, "warning", {"files": line}) for line in lines]


def _mean_image(images: Pixels) -> NDArray[np.uint8]:
    total = np.zeros(images.shape[1:], np.float64)
    for _, part in slices(images):
        total += part.sum(axis=0, dtype=np.float64)
    return np.rint(total / len(images)).astype(np.uint8)
