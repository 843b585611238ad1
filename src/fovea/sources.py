"""What DATA means, and how it is read: names, paths, arrays, recipes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fovea.data.catalog import CATALOG
from fovea.data.groups import group_column
from fovea.data.imageset import RawData
from fovea.data.load import is_known_data, read_raw, with_part
from fovea.data.options import ReadOptions
from fovea.errors import SettingsError
from fovea.recipefile import named_recipes, read_recipe
from fovea.registry import unknown_name
from fovea.reporting.progress import ProgressBar
from fovea.reporting.terminal import progress_stream
from fovea.settings import ARRAYS, Recipe, with_fields


def resolve_data(data: Any) -> tuple[Recipe, Any]:
    """What DATA means: (recipe, where its images come from).

    Raises:
        SettingsError: when a name means both a data set and a recipe, or neither.
    """
    if isinstance(data, Recipe):
        return data, data.data.source
    if not isinstance(data, str | Path):
        return Recipe(), data
    text = str(data)
    if not text.strip():
        raise SettingsError("DATA is empty: name a data set, a path or a recipe.")
    recipes = named_recipes()
    if text in recipes and is_known_data(text):
        raise SettingsError(f"{text!r} is both data and a recipe: write ./{text} for a folder, or {text}.yaml's path.")
    if names_recipe(data):
        recipe = read_recipe(Path(text) if _is_recipe_file(text) else recipes[text])
        return recipe, recipe.data.source
    if not is_known_data(text) and Path(text).name == text:
        raise unknown_name("data set or recipe", text, [*CATALOG, *recipes])
    return Recipe(), text


def names_recipe(data: Any) -> bool:
    """Whether DATA is a recipe, a recipe's name or a recipe's file."""
    if not isinstance(data, str | Path):
        return isinstance(data, Recipe)
    return _is_recipe_file(str(data)) or str(data) in named_recipes()


def _is_recipe_file(text: str) -> bool:
    return Path(text).suffix in {".yaml", ".yml"}


def read_all(recipe: Recipe, source: Any, val_data: Any = None, test_data: Any = None) -> RawData:
    """Read the images of a recipe.

    Args:
        source: where its training images come from.
        val_data, test_data: used instead of what the recipe names.

    Raises:
        UserError: for data that cannot be used, and where arrays of the recipe are missing.
    """
    if source is None:
        raise SettingsError(
            "This recipe names no data: say where it is with --set source=..., or pass the arrays in Python."
        )
    options = read_options(recipe)
    raw = read_raw(source, options)
    given = {"val": val_data, "test": test_data}
    named = {"val": recipe.data.val_data, "test": recipe.data.test_data}
    for role in ("val", "test"):
        other = given[role] if given[role] is not None else named[role]
        if isinstance(other, str) and other == ARRAYS:
            raise SettingsError(f"The {role}_data of this recipe were arrays: pass them again in Python.")
        if other is not None:
            raw = with_part(raw, role, read_raw(other, options))
    return raw


def read_options(recipe: Recipe) -> ReadOptions:
    """How the data of a recipe is read, with a progress bar where there is a terminal."""
    data = recipe.data
    return ReadOptions(
        image_size=recipe.preprocessing.image_size,
        skip_bad=data.skip_bad,
        label_column=data.label_column,
        group_column=group_column(data.groups),
        outside_paths=data.outside_paths,
        progress=ProgressBar(progress_stream()),
    )


def read_to_judge(data: Any, options: ReadOptions) -> RawData:
    """Read other data than a run was trained on, which may lack the columns that its own tables have.

    Groups decide splits alone, and a label column that is not there is looked for as if none had been named.

    Raises:
        UserError: for data that cannot be used.
    """
    no_groups = replace(options, group_column=None)
    others = [no_groups, replace(options, label_column=None), replace(no_groups, label_column=None)]
    try:
        return read_raw(data, options)
    except SettingsError as error:
        for fewer in others:
            with suppress(SettingsError):
                return read_raw(data, fewer)
        raise error from None


def with_places(recipe: Recipe, source: Any) -> Recipe:
    """The recipe with its data's and weights' places absolute, so that config.yaml holds from any folder."""
    places = {"source": source, "val_data": recipe.data.val_data, "test_data": recipe.data.test_data}
    absolute = {name: data_place(place) for name, place in places.items() if isinstance(place, str | Path)}
    fixes, weights = recipe.data.label_fixes, recipe.model.weights
    if fixes is not None:
        absolute["label_fixes"] = str(Path(fixes).expanduser().resolve())
    whole = None if weights is None else str(Path(weights).expanduser().resolve())
    return with_fields(with_fields(recipe, "data", **absolute), "model", weights=whole)


def data_place(data: str | Path) -> str:
    """A catalog name as it is, a path made absolute."""
    return str(Path(data).expanduser().resolve()) if is_known_data(data) == "path" else str(data)
