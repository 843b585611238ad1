"""What all commands of the shell share: the app, the form of errors, common options."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import fovea
from fovea.errors import FoveaError, RunFailedError, SettingsError
from fovea.files import drop_what_is_buffered

app = typer.Typer(
    help="Trains small-image CNN classifiers and says how far to believe them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


# Not settings of a recipe but arguments of fovea.train, which have options of their own.
RESERVED = {
    "data", "out", "name", "seeds", "folds", "start_from", "callbacks", "verbose", "resume", "force", "grade", "budget",
    "autotune", "profile", "preprocessing_function",
}  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Errors that Fovea raises on purpose become one message on stderr and their exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            _check_working_folder()
            command(*args, **kwargs)
        except FoveaError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except OSError:  # in a folder that was removed not even torch can be loaded
        raise SettingsError("The working folder is not there any more: go to another one (cd).") from None


def tell(text: str) -> None:
    """Write a result to stdout; letters that its encoding lacks are escaped.

    Raises:
        RunFailedError: when it cannot be written, as on a full disk.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:  # whoever read has seen enough
        drop_what_is_buffered(sys.stdout)
        raise typer.Exit(1) from None
    except OSError as error:
        drop_what_is_buffered(sys.stdout)
        raise RunFailedError(f"stdout cannot be written: {error.strerror or error}.") from None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fovea {fovea.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Trains small-image CNN classifiers and says how far to believe them."""
