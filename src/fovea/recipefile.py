"""Recipes as YAML, both ways, and the ones that come with Fovea."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fovea.errors import SettingsError
from fovea.settings import Recipe, parse_recipe


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML, a run's config.yaml included.

    Raises:
        SettingsError: when the file cannot be read, is not YAML, or holds unknown settings.
    """
    return _recipe_of(_read_yaml(path), path)


def read_record(path: Path) -> dict[str, Any]:
    """What a run's config.yaml says of what was derived and chosen, with reasons.

    Raises:
        SettingsError: as `read_recipe`.
    """
    return _record_of(_read_yaml(path))


def read_config(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """What `read_recipe` and `read_record` give, by reading the file once.

    Raises:
        SettingsError: as `read_recipe`.
    """
    values = _read_yaml(path)
    return _recipe_of(values, path), _record_of(values)


def _recipe_of(values: Any, path: Path) -> Recipe:
    if isinstance(values, Mapping):
        values = {key: value for key, value in values.items() if key != "record"}
    return parse_recipe(values, where=f"the recipe {path}")


def _record_of(values: Any) -> dict[str, Any]:
    record = values.get("record") if isinstance(values, Mapping) else None
    return dict(record) if isinstance(record, Mapping) else {}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The recipe {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:  # PyYAML calls itself once a level
        raise SettingsError(f"The recipe {path} is nested too deeply: a recipe has sections of settings.") from None


def recipe_as_yaml(recipe: Recipe, record: Mapping[str, Any] | None = None) -> str:
    """The recipe as YAML; `record` adds facts that explain it and that reading it back leaves out."""
    values = recipe.model_dump(mode="json")
    if record:
        values["record"] = dict(record)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def named_recipes() -> dict[str, Path]:
    """The recipes that come with Fovea: name -> YAML file."""
    folder = Path(str(resources.files("fovea"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
