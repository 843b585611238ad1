"""Rules on augmentation: too strong, in the wrong unit, breaking labels."""

from __future__ import annotations

import math
from typing import Any

from fovea.diagnosis.reading import is_ours, learns_well, listed, split
from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion

_NONE = {"brightness_range": None, "zoom_range": 0.1, "rotation_range": 10.0}  # in place of what goes too far
_DIGIT_SETS = ("mnist", "digit", "emnist", "svhn", "letters")


def augmentation_extreme(record: Record) -> Suspicion | None:
    """Augmentation that leaves nothing to recognise."""
    given = record.training.augmentation or {}
    extreme = {name: words for name, value in given.items() if (words := _extreme(name, value, record)) is not None}
    if not extreme:
        return None
    return Suspicion(
        {name: _plain(given[name]) for name in extreme},
        f"The augmentation goes too far: {'; '.join(extreme.values())}.",
        "Start with rotation 10 degrees, shifts .1, zoom .1, and look at a few augmented images.",
        {name: _NONE.get(name, 0.0) for name in extreme} if is_ours(record) else None,
        record.line_of("training.augmentation"),
        0.75,
        "warning" if learns_well(record) else "severe",
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _extreme(name: str, value: Any, record: Record) -> str | None:
    """What is wrong with one argument; None: nothing."""
    numbers = [value] if isinstance(value, int | float) else list(value) if isinstance(value, list | tuple) else []
    if isinstance(value, bool) or not all(isinstance(number, int | float) for number in numbers) or not numbers:
        return None
    if name == "zoom_range":
        low, high = (1 - numbers[0], 1 + numbers[0]) if len(numbers) == 1 else (min(numbers), max(numbers))
        if low < 0.3 or high > 2:
            return f"zoom by {low:g} to {high:g} (1 is none; below 1 magnifies) leaves a few pixels, or specks"
    if name in ("width_shift_range", "height_shift_range") and len(numbers) == 1:
        shape = split(record, "train").shape
        side = shape[1 if name.startswith("width") else 0] if shape else None
        share = numbers[0] if numbers[0] < 1 else numbers[0] / side if side else 0.0
        if share > 0.5:
            return f"{name} {numbers[0]:g} moves images out of the frame"
    if name == "rotation_range" and len(numbers) == 1 and numbers[0] > 360:
        return f"rotation_range {numbers[0]:g} is more than a full turn"
    if name == "shear_range" and max(numbers) > 60:
        return f"shear_range {max(numbers):g} (degrees) flattens images"
    if name == "brightness_range" and (min(numbers) < 0.05 or max(numbers) > 4):
        return f"brightness {min(numbers):g} to {max(numbers):g} makes images black or white"
    if name == "channel_shift_range" and max(numbers) > 150 and (split(record, "train").maximum or 255) > 20:
        return f"channel_shift_range {max(numbers):g} of 255 makes images black or white"
    if name == "channel_shift_range" and max(numbers) > 0.6 and (split(record, "train").maximum or 255) <= 1:
        return f"channel_shift_range {max(numbers):g} is more than half of the values' range"
    return None


def augmentation_radians(record: Record) -> Suspicion | None:
    """A rotation that was given in radians or as a share where degrees are meant."""
    value = (record.training.augmentation or {}).get("rotation_range")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 2 * math.pi:
        return None
    if value == int(value) or math.isclose(value % 0.5, 0):
        return None  # 1, 2.5, 5 degrees are said on purpose
    return Suspicion(
        {"rotation_range": value},
        f"rotation_range {value:g} means degrees: next to no rotation.",
        f"In degrees: {math.degrees(value):.0f} if radians were meant; 10 to 20 is usual.",
        line=record.line_of("training.augmentation"),
        weight=0.4,
    )


def augmentation_breaks_labels(record: Record) -> Suspicion | None:
    """Flips and turns of digits or letters, which become others."""
    given = record.training.augmentation or {}
    if not _shows_signs(record):
        return None
    rotation = given.get("rotation_range")
    said = [name.replace("_", " ") for name in ("horizontal_flip", "vertical_flip") if given.get(name)]
    turned = rotation if isinstance(rotation, int | float) and rotation > 60 else None
    said += [] if turned is None else [f"rotation by up to {turned:g} degrees"]
    if not said:
        return None
    remedy = dict.fromkeys(("horizontal_flip", "vertical_flip"), False) | ({"rotation_range": 10.0} if turned else {})
    return Suspicion(
        {name: given[name] for name in ("horizontal_flip", "vertical_flip", "rotation_range") if given.get(name)},
        f"{listed(said).capitalize()} turns signs into others (6 and 9, 2 and 5): the labels no longer fit the images.",
        "Leave flips and large rotations out for digits and letters.",
        remedy if is_ours(record) else None,
        record.line_of("training.augmentation"),
        0.8,
    )


def _shows_signs(record: Record) -> bool:
    """Whether the images are digits or letters, by the names of set and classes."""
    name = (record.dataset or (record.name if is_ours(record) else "")).lower()
    if "fashion" in name or "kmnist" in name or "cifar" in name:
        return False
    if any(word in name for word in _DIGIT_SETS):
        return True
    shape, classes = split(record, "train").shape, record.classes or ()
    grey = shape is not None and shape[-1] == 1
    return is_ours(record) and grey and len(classes) >= 10 and all(len(each) == 1 for each in classes)


AUGMENTATION_RULES = (
    Rule(
        "augmentation-extreme", "augmentation too strong", "severe", "settings", augmentation_extreme,
        "zoom factor below .3 or above 2, shifts above half, more than a full turn, shear above 60 degrees, brightness "
        "below .05 or above 4; a warning where the net learned",
        "usual ranges", "own bounds; a published program (docs/programs.md, P0)",
        ("underfitting", "validation-above-train", "too-few-epochs"),
    ),
    Rule(
        "augmentation-in-radians", "rotation in radians", "warning", "settings", augmentation_radians,
        "rotation_range between 0 and 2 pi, no multiple of a half", "1, 2.5 or 5 degrees, said on purpose",
        "own bounds",
    ),
    Rule(
        "augmentation-breaks-labels", "augmentation changes the class", "warning", "settings",
        augmentation_breaks_labels, "flips, or rotation above 60 degrees, of digits or letters",
        "photos, clothes, kana; sets that do not say what they show", "own bounds",
    ),
)  # fmt: skip
