"""Every Python block of README and docs runs, every path and setting that they name exists."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fovea.cli import app
from fovea.settings import SECTIONS, Recipe
from tests.conftest import bars
from tests.data.formats import (
    colour,
    pack_tar,
    pack_zip,
    pixel_table,
    write_cifar_binary,
    write_cifar_python,
    write_class_folders,
    write_idx,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page: Path) -> None:
    """Data that has to be fetched is replaced by the embedded digits, of which there are few here."""
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
    parameters = [parameter for command in commands.values() for parameter in command.params]
    options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    others = {"--version", "--help", "--index-url", "--strict"}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named <= options | others, f"{page.name} names {named - options - others}"


def test_links_to_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert os.path.exists(page.parent / target), f"{page.name} links to {target}"  # noqa: PTH110


def write_every_format(folder: Path) -> None:
    """What the table of formats in the README names, each with a few images in it."""
    toy = bars(60)
    write_class_folders(folder / "parts", toy)
    for split in ("train", "val", "test"):
        write_class_folders(folder / "photos" / split, toy, ".jpg")
    (folder / "pixels.csv").write_text(pixel_table(toy, "last", header=False))
    (folder / "digit-recognizer").mkdir()
    (folder / "digit-recognizer" / "train.csv").write_text(pixel_table(toy))
    (folder / "digit-recognizer" / "test.csv").write_text(pixel_table(toy, None))
    rows = [f"parts/{'abc'[label]}/{row:03d}.png,{label}" for row, label in enumerate(toy[1])]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    np.savez(folder / "arrays.npz", x_train=toy[0], y_train=toy[1], x_test=toy[0], y_test=toy[1])
    (folder / "kmnist-npz").mkdir()
    for part in ("train", "test"):
        np.savez(folder / "kmnist-npz" / f"kmnist-{part}-imgs.npz", toy[0])
        np.savez(folder / "kmnist-npz" / f"kmnist-{part}-labels.npz", toy[1])
    write_idx(folder / "idx", toy, packed=True)
    write_cifar_binary(folder / "cifar-10-batches-bin", colour(30))
    write_cifar_python(folder / "cifar-10-batches-py", colour(30))
    pack_zip(folder / "parts", folder / "parts.zip")
    pack_tar(folder / "photos", folder / "photos.tar.gz", "photos")


@pytest.mark.usefixtures("few_digits")
def test_every_line_of_the_table_of_formats_trains(tmp_path: Path) -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Data\n")[1].split("## Install")[0]
    commands = re.findall(r"^\| .* \| `fovea train (\S+)`", table, re.MULTILINE)
    assert len(commands) >= 14
    write_every_format(tmp_path)
    for source in commands:
        known = "digits" if source == "mnist" else source  # what has to be fetched is replaced
        done = CliRunner().invoke(app, ["train", known, "--model", "p4-dense", "--epochs", "1"])
        assert done.exit_code == 0, f"{source}: {done.stderr}"
        assert "test accuracy" in done.stdout
