"""The rules of the house: who may import whom, what importing may do, how large a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "fovea"
# A module imports only from its own rank or below.
RANKS = {
    "errors": 0,
    "registry": 0,
    "faults": 0,
    "ranges": 0,
    "single": 0,
    "budget": 1,
    "assignments": 1,
    "settings": 1,
    "recipefile": 1,
    "files": 1,
    "runfolder": 1,
    "display": 1,
    "data": 2,
    "models": 3,
    "evaluation": 4,
    "training": 5,
    "studies": 6,
    "diagnosis": 7,
    "reporting": 8,
    "delivery": 8,
    "listing": 8,
    "sources": 9,
    "grades": 9,
    "netsource": 9,
    "runview": 9,
    "doctor": 9,
    "runs": 9,
    "programs": 9,
    "sidebyside": 9,
    "comparisons": 9,
    "comparing": 9,
    "api": 9,
    "labelcheck": 9,
    "afterwards": 9,
    "cli_base": 10,
    "cli_train": 10,
    "cli_judge": 10,
    "cli_use": 10,
    "cli": 10,
    "__init__": 11,
    "__main__": 11,
}
DELIVERY_MAY_IMPORT = {"errors", "registry", "settings", "files", "runfolder"}
DELIVERY_MAY_IMPORT |= {"data", "models", "evaluation", "delivery"}
MODULES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[str]:
    """The rooms that a module imports from, wherever in its text it does so."""
    rooms = []
    for node in ast.walk(tree_of(path)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "fovea" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms += [name.split(".")[1] for name in names if name.startswith("fovea.")]
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    for there in imports_of(path):
        if here == "delivery":
            assert there in DELIVERY_MAY_IMPORT
        else:
            assert RANKS[there] <= RANKS[here], f"{here} must not import {there}"


def test_only_the_faces_import_reporting() -> None:
    users = {room(path) for path in MODULES if "reporting" in imports_of(path)}
    faces = {"sources", "runview", "runs", "comparing", "api", "labelcheck", "cli_train", "cli_judge", "cli_use"}
    assert users - {"reporting"} <= faces


def test_every_module_has_a_docstring_unless_it_is_an_empty_package_file() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if path.name == "__init__.py" and path.parent != SOURCE:
            assert text == "", f"{path} must be empty"
        else:
            assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"


def test_files_and_functions_stay_small() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 420, f"{path.name} is too long"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and not path.name.startswith("cli"):
                length = node.end_lineno - node.body[0].lineno + 1 if node.end_lineno else 0
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"


def test_public_functions_and_classes_have_docstrings() -> None:
    for path in MODULES:
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                overload = any(getattr(mark, "id", "") == "overload" for mark in node.decorator_list)
                assert overload or ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def modules_after(code: str) -> set[str]:
    """The modules that are loaded once a fresh Python has run `code`; the code must print nothing."""
    script = f"import sys\n{code}\nprint('|'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    return set(done.stdout.strip().split("|"))


def test_importing_fovea_is_quiet_and_loads_nothing_heavy() -> None:
    assert not {"torch", "numpy", "sklearn", "pydantic", "matplotlib"} & modules_after("import fovea")


def test_help_answers_without_torch() -> None:
    code = (
        "import contextlib, io, fovea.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    fovea.cli.app(['train', '--help'])"
    )
    assert not {"torch", "numpy", "sklearn"} & modules_after(code)


def test_a_program_is_read_without_torch(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import keras\nmodel = keras.Sequential([keras.layers.Dense(10)])\n", encoding="utf-8")
    code = (
        "import contextlib, io, fovea.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    fovea.cli.app(['doctor', {str(program)!r}])"
    )
    loaded = modules_after(code)
    assert "fovea.diagnosis.script.reader" in loaded
    assert not {"torch", "sklearn", "matplotlib"} & loaded


def test_loading_a_run_needs_no_training_code() -> None:
    loaded = modules_after("import fovea.evaluation.stored")
    assert not [name for name in loaded if name.startswith(("fovea.training", "fovea.studies", "fovea.reporting"))]
