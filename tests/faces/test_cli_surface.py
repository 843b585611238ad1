"""The shell's surface is a list: adding an option means editing it here on purpose."""

from __future__ import annotations

import subprocess
import sys

import typer
from typer.testing import CliRunner

from fovea.cli import app

SURFACE = {
    "train": {
        "--model", "--epochs", "--batch-size", "-b", "--lr", "--augmentation", "--val-split", "--val-data",
        "--test-data", "--skip-bad", "--no-test", "--seed", "--seeds", "--folds", "--device", "--precision", "--out",
        "--name", "--set", "--from", "--weights", "--resume", "--force", "--grade", "--budget", "--autotune",
        "--profile", "--json", "--help",
    },
    "reproduce": {"--seeds", "--epochs", "--out", "--device", "--set", "--json", "--help"},
    "compare": {"--seeds", "--data", "--vary", "--jobs", "--out", "--set", "--json", "--help"},
    "data": {"--out", "--skip-bad", "--labels", "--test-labels", "--set", "--json", "--help"},
    "doctor": {"--verify", "--set", "--json", "--help"},
    "evaluate": {"--data", "--skip-bad", "--json", "--help"},
    "report": {"--output", "--figure", "--format", "--normalize", "--out", "--json", "--help"},
    "predict": {
        "--top-k", "--format", "--output", "--submission", "--adapt", "--min-confidence", "--skip-bad", "--help",
    },
    "import": {"--out", "--scale", "--offset", "--mean", "--std", "--classes", "--help"},
    "export": {"--without-preprocessing", "--help"},
    "list": {"--json", "--help"},
}  # fmt: skip


def test_the_options_of_every_command_are_these() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        | {"--help"}
        for name, command in commands.items()
    }
    assert found == SURFACE


def test_help_names_every_command_and_version_prints() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in SURFACE)
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("fovea ")


def test_a_misspelt_command_or_option_exits_2() -> None:
    for arguments in (["trian"], ["train"], ["train", "digits", "--epoch", "3"], ["list", "things"]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m fovea list models --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
