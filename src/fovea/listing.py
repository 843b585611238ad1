"""What `fovea list` shows: names and one line about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fovea.recipefile import named_recipes, read_config
from fovea.studies.published import Record, parse_record

# A test holds that these are the keys of the section `augmentation`.
AUGMENTATION_KEYS = {
    "rotation_range": "degrees, either way",
    "width_shift_range": "below 1 a fraction of the width, else pixels; an int or a list gives the choices",
    "height_shift_range": "the same for the height",
    "shear_range": "degrees, either way",
    "zoom_range": "z for 1 - z to 1 + z, or a pair; height and width apart; below 1 magnifies",
    "channel_shift_range": "added to all values, in 0..255 units",
    "brightness_range": "a pair of factors",
    "contrast_range": "a pair of factors, about the image's mean",
    "horizontal_flip": "true mirrors half of the images left to right",
    "vertical_flip": "true mirrors half of the images top to bottom",
    "cutout": "side of a square, in pixels, that is covered with the image's mean",
    "fill_mode": "nearest, constant, reflect or wrap: what lies outside the image",
    "cval": "the value outside for fill_mode constant, in 0..255 units",
    "interpolation": "bilinear, or nearest for the nearest pixel's value",
}


def descriptions(kind: str) -> dict[str, str]:
    """Name -> description of all "datasets", "models", "recipes" or "augmentations"."""
    if kind == "datasets":
        from fovea.data.catalog import CATALOG

        return {name: entry.description for name, entry in CATALOG.items()}
    if kind == "models":
        from fovea.models.zoo import MODELS

        return {name: entry.description for name, entry in MODELS.items()}
    if kind == "recipes":
        recipes = {name: read_config(path) for name, path in named_recipes().items()}
        return {name: f"{recipe.description} {_expected(record)}" for name, (recipe, record) in recipes.items()}
    return _augmentations()


def _expected(record: Mapping[str, Any]) -> str:
    words = expectation(record)
    return f"{words[0].upper()}{words[1:]}."


def expectation(record: Mapping[str, Any]) -> str:
    """What a recipe's record says can be expected of it: "expected 99.62% [99.53%, 99.71%], 3 seeds, 138 s on ...".

    For a program's recipe: what was published.
    """
    program = parse_record(dict(record), "a recipe")
    if program is not None:
        return _published(program)
    expected = record.get("expected")
    if not isinstance(expected, Mapping):
        return "accuracy and time not measured"
    words = f"expected {_share(expected['test_accuracy'])}" if "test_accuracy" in expected else "accuracy not measured"
    if expected.get("interval"):
        words += f" [{', '.join(map(_share, expected['interval']))}]"
    if expected.get("tta"):
        words += " with test-time augmentation"
    if expected.get("seeds"):
        words += f", {expected['seeds']} seeds"
    if expected.get("seconds"):
        words += f", {expected['seconds']:g} s from start to final test"
    return words + (f" on {expected['cpu']}" if expected.get("cpu") else "")


def _published(program: Record) -> str:
    """The last figure of each kind, as "published: test accuracy, last epoch 71.26%"."""
    lasting = {(one.figure, one.beside): one for one in program.published if one.epoch != "best"}
    shown = [f"{one.words} {one.published}" for one in lasting.values()]
    return f"published: {'; '.join(shown)}" if shown else "published: no figures"


def _share(value: Any) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else str(value)


def _augmentations() -> dict[str, str]:
    from fovea.data.augment import PRESETS

    shown = {
        name: ", ".join(f"{key} {value}" for key, value in values.items()) or "images as they are"
        for name, values in PRESETS.items()
    }
    return {"auto": "digits for characters, photos for the rest", **shown, **AUGMENTATION_KEYS}
