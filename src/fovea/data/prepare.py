"""From raw parts to three ImageSets: class map, split, mapping to uint8. Only training images decide anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.duplicates import check_shared_images
from fovea.data.groups import groups_of
from fovea.data.imageset import ImageSet, Pixels, RawData, RawSet, take_rows
from fovea.data.label_fixes import LabelFixes, read_label_fixes
from fovea.data.labels import class_map, encode_labels, flat_labels
from fovea.data.pixels import Range, check_images, extremes, fit_size, range_of_new_images, to_uint8, value_range
from fovea.data.problem import Problem
from fovea.data.split import Groups, Split, make_split
from fovea.data.tree import listed
from fovea.errors import DataError, SettingsError
from fovea.settings import DataSettings


@dataclass(frozen=True, eq=False)
class Splits:
    """What training needs to know of the data.

    Attributes:
        sets: "train", "val" (unless val_split is 0) and "test" as ImageSets of one size and one class map.
        split: which raw images they are.
        input_range: how raw values were mapped to 0..255; None: they were 0..255.
        kind: "characters" or "photos" where known.
        sizes: the distinct (height, width) of the training images as they came, three at most.
        notes: lines to show.
        problems: what the figures of these splits cannot tell.
        fixes: the changes of labels that were read from a file; None where there is none.
    """

    sets: dict[str, ImageSet]
    split: Split
    input_range: Range | None
    kind: str | None
    sizes: tuple[tuple[int, int], ...]
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    fixes: LabelFixes | None = None


def prepare_splits(
    raw: RawData,
    settings: DataSettings,
    image_size: tuple[int, int] | None = None,
    split: Split | None = None,
) -> Splits:
    """Check the parts, cut the splits and map the images to uint8.

    Args:
        raw: the parts as read.
        image_size: height, width to resize to; None: as the images are.
        split: a saved split to use again instead of cutting a new one.

    Raises:
        DataError: for images or labels that cannot be used, classes that do not fit, or a part whose values lie far
            outside those of the training images.
        SettingsError: when a split would be empty.
    """
    images = {part: check_images(found.images, _where(raw, part)) for part, found in raw.parts.items()}
    _check_shapes(raw, images, image_size)
    labels, classes = encode_parts(raw)
    groups = groups_of(raw, settings.groups)
    notes: list[str] = []
    if split is None:  # by the labels as they came: fixes move no image from one split to another
        split, notes = make_split(labels, settings, groups)
    else:
        _check_saved_split(raw, labels, split)
    fixes = None
    if settings.label_fixes is not None:
        fixes = read_label_fixes(settings.label_fixes, raw, labels, classes, settings.label_fixes_sha256)
        labels, split = fixes.labels(labels), fixes.without_excluded(split)
        notes.append(_fixes_note(fixes, settings.label_fixes))
    train_rows = take_rows(images[split.sources["train"]], split.indices["train"])
    input_range = value_range(train_rows)
    sets, problems = {}, []
    for name, rows in split.indices.items():
        part = split.sources[name]
        pixels = take_rows(images[part], rows)
        own_range = (
            input_range if part == split.sources["train"] else range_of_part(pixels, input_range, _where(raw, part))
        )
        if own_range != input_range:
            problems.append(_mapped_apart(name, pixels, train_rows))
        mapped = to_uint8(pixels, own_range)
        resized = fit_size(mapped, image_size) if image_size else mapped
        sets[name] = ImageSet(resized, labels[part][rows], classes, raw.parts[part].ids[rows])
    if len(sets["train"]) < 2:
        raise SettingsError("Fewer than two training images are left.")
    problems += [*check_class_presence(sets), *check_shared_images(sets), *check_shared_groups(groups, split)]
    height, width = train_rows.shape[1:3]
    sizes = raw.sizes or ((height, width),)
    return Splits(sets, split, input_range, raw.kind, sizes, [*raw.notes, *notes], problems, fixes)


def range_of_part(images: Pixels, trained: Range | None, where: str) -> Range | None:
    """How a part that did not train is mapped to 0..255: as `fovea evaluate` and `fovea predict` would map it."""
    if trained == (0.0, 1.0) and images.dtype == np.uint8 and len(images) and extremes(images)[1] <= 1:
        return trained  # a single image of 0 and 1 may be black; a whole part of them means what training means by 1
    return range_of_new_images(images, trained, where)


def _mapped_apart(name: str, images: Pixels, train: Pixels) -> Problem:
    (low, high), (train_low, train_high) = extremes(images), extremes(train)
    cause = (
        f"The {name} images have values of {low:g} to {high:g}, the training images of {train_low:g} to "
        f"{train_high:g}: they were taken for the same on another scale, and each mapped to 0..255 by its own."
    )
    evidence = {"part": name, "range": [low, high], "train_range": [train_low, train_high]}
    return Problem("scale-mapped", cause, "Give both the same values, best 0 to 255.", "warning", evidence)


def _fixes_note(fixes: LabelFixes, path: str) -> str:
    counts = fixes.counts
    return (
        f"label fixes of {path}: {counts['changed']:,} labels changed, {counts['excluded']:,} images left out (sha256 "
        f"{fixes.sha256[:12]}...)"
    )


def labels_of(found: RawSet, where: str) -> NDArray[Any]:
    """The labels of a part, raw.

    Raises:
        DataError: when it has none.
    """
    if found.labels is None:
        raise DataError(
            f"{where} has no labels, which training and evaluation need: a column called 'label' (or another one that "
            "--set data.label_column=NAME names), or y_train beside x_train in a .npz."
        )
    return found.labels


def _check_saved_split(raw: RawData, labels: dict[str, NDArray[np.int64]], split: Split) -> None:
    for name, rows in split.indices.items():
        part = split.sources[name]
        if part not in labels or (len(rows) and rows.max() >= len(labels[part])):
            raise DataError(f"{raw.name} has fewer images than when it was split: the {name} split is not all there.")


def _where(raw: RawData, part: str) -> str:
    return raw.name if len(raw.parts) == 1 else f"{raw.name} ({part})"


def _check_shapes(raw: RawData, images: dict[str, Pixels], image_size: tuple[int, int] | None) -> None:
    shapes = {part: found.shape[1:] for part, found in images.items()}
    comparable = {shape[2:] if image_size else shape for shape in shapes.values()}
    if len(comparable) > 1:
        sizes = ", ".join(f"{part} {'x'.join(map(str, shape))}" for part, shape in shapes.items())
        raise DataError(
            f"The parts of {raw.name} differ in height x width x channels: {sizes}. "
            "Give all the same, or set image_size."
        )


def encode_parts(raw: RawData) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Class indices of each part, and the class names; the training part decides which classes there are."""
    if "train" not in raw.parts:
        raise DataError(f"{raw.name} has no training images, only {', '.join(raw.parts)} images.")
    flat = {
        part: flat_labels(labels_of(found, _where(raw, part)), _where(raw, part)) for part, found in raw.parts.items()
    }
    train = np.asarray(raw.parts["train"].labels)
    width = train.shape[1] if train.ndim == 2 and train.shape[1] > 1 else None
    mapping = class_map(flat["train"], one_hot_width=width)
    if raw.classes is not None:
        mapping = _named(raw, flat["train"], mapping)
    if len(mapping) < 2:
        raise DataError(
            f"{raw.name} has one class only ({next(iter(mapping.values()))}): a classifier needs two or more."
        )
    if len(mapping) == len(flat["train"]) and len(mapping) > 2:
        raise DataError(
            f"Each of the {len(mapping):,} training images of {raw.name} has a label of its own: these are no classes."
        )
    by_name = {name: name for name in mapping.values()}
    encoded = {}
    for part, found in flat.items():  # a table whose labels happen to be numbers, beside one with words among them
        is_alike = (found.dtype.kind == "U") == (flat["train"].dtype.kind == "U")
        of_part, classes = (found, mapping) if is_alike else (found.astype(np.str_), by_name)
        encoded[part] = encode_labels(of_part, classes, _where(raw, part))
    return encoded, tuple(mapping.values())


def _named(raw: RawData, train: NDArray[Any], found: dict[Any, str]) -> dict[Any, str]:
    """The class map of a source that states its class names."""
    assert raw.classes is not None
    if train.dtype.kind == "U":
        return {name: name for name in raw.classes}
    strangers = [value for value in found if not 0 <= value < len(raw.classes)]
    if strangers:
        raise DataError(
            f"{raw.name} has {len(raw.classes)} classes, but its training labels hold {strangers[:5]}: "
            f"expected 0 to {len(raw.classes) - 1}."
        )
    return dict(enumerate(raw.classes))


def check_class_presence(sets: dict[str, ImageSet]) -> list[Problem]:
    """Refuse a class without training images; warn of one that validation or test cannot judge."""
    problems: list[Problem] = []
    for name, images in sets.items():
        missing = [label for label, count in images.class_counts().items() if count == 0]
        if not missing:
            continue
        named = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        if name == "train":
            raise DataError(
                f"No training image of class {named}: a class that is never seen cannot be learned. "
                "Add images of it, or leave the class out."
            )
        cause = f"No {name} image of class {named}: the {name} figures say nothing about it."
        evidence = {"part": name, "classes": missing}
        problems.append(Problem("class-missing", cause, f"Give {name} images of that class.", evidence=evidence))
    return problems


def check_shared_groups(groups: Groups | None, split: Split) -> list[Problem]:
    """Count the groups of validation and test that training images belong to as well: parts that came so."""
    if groups is None:
        return []
    found = {name: np.unique(groups[split.sources[name]][rows]) for name, rows in split.indices.items()}
    problems = []
    for name in [name for name in ("val", "test") if name in found]:
        shared = np.intersect1d(found[name], found["train"])
        if len(shared):
            cause = (
                f"{len(shared):,} of the {len(found[name]):,} groups of {name} images are in the training images too "
                f"({listed(shared, 3)}): who was seen in training is answered too well."
            )
            cure = "Leave the given parts out, so that Fovea cuts whole groups, or move these groups to one side."
            problems.append(Problem("group-leak", cause, cure))
    return problems
