"""Every Python block of README and docs runs, every path and setting that they name exists."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fovea.cli import app
from fovea.settings import SECTIONS, Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page: Path) -> None:
    """Data that has to be fetched is replaced by the embedded digits."""
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block.replace('"mnist"', '"digits"'), str(page), "exec"), names)


def test_the_file_tree_of_the_readme_names_files_that_exist_and_all_of_them() -> None:
    (tree,) = [block for block in blocks(ROOT / "README.md", "text") if "src/fovea/" in block]
    named = set(re.findall(r"^\s+([\w./]+\.py)\s", tree, re.MULTILINE))
    source = ROOT / "src" / "fovea"
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if path.read_text(encoding="utf-8")}
    assert named == found


def test_every_setting_stands_in_the_settings_page() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for section in SECTIONS:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{section}` |"))
        for field in Recipe.model_fields[section].annotation.model_fields:  # type: ignore[union-attr]
            assert f"`{field}`" in row, f"{section}.{field} is not in docs/settings.md"


def test_every_option_that_the_pages_name_exists() -> None:
    import typer

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    others = {"--version", "--help", "--index-url", "--strict"}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named <= options | others, f"{page.name} names {named - options - others}"


def test_links_to_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert os.path.exists(page.parent / target), f"{page.name} links to {target}"  # noqa: PTH110
