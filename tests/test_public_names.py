"""The public names are listed, sorted, lead somewhere, and have types."""

from __future__ import annotations

import ast
from pathlib import Path

import fovea


def test_all_is_sorted_and_every_name_loads() -> None:
    assert fovea.__all__ == sorted(fovea.__all__)
    for name in fovea.__all__:
        assert getattr(fovea, name).__name__ == name


def test_type_checkers_see_the_same_names_as_python() -> None:
    tree = ast.parse(Path(fovea.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(fovea.__all__) == set(fovea._HOMES)


def test_no_function_bears_a_sub_packages_name() -> None:
    folder = Path(fovea.__file__).parent
    assert not {path.name for path in folder.iterdir() if path.is_dir()} & set(fovea.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(fovea, "trian")


def test_the_version_is_the_packages_version() -> None:
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{fovea.__version__}"' in text
    changelog = (Path(__file__).resolve().parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {fovea.__version__}" in changelog
