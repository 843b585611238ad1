"""What `fovea list` shows: names and one line about each."""

from __future__ import annotations

from fovea.settings import named_recipes, read_recipe


def descriptions(kind: str) -> dict[str, str]:
    """Name -> description of all "datasets", "models", "recipes" or "augmentations"."""
    if kind == "datasets":
        from fovea.data.catalog import CATALOG

        return {name: entry.description for name, entry in CATALOG.items()}
    if kind == "models":
        from fovea.models.zoo import MODELS

        return {name: entry.description for name, entry in MODELS.items()}
    if kind == "recipes":
        return {name: read_recipe(path).description for name, path in named_recipes().items()}
    return _augmentations()


def _augmentations() -> dict[str, str]:
    from fovea.data.augment import PRESETS

    shown = {
        name: ", ".join(f"{key} {value}" for key, value in values.items()) or "images as they are"
        for name, values in PRESETS.items()
    }
    return {"auto": "digits for characters, photos for the rest", **shown}
