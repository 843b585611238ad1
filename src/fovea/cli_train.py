"""Commands that train: train, reproduce, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli_base import RESERVED, AsJson, app, friendly, tell


@app.command()
@friendly
def train(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA|RECIPE", help="A data set's name, a path, or a recipe.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's name (fovea list models), or a Keras file.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="The full learning rate.")] = None,
    augmentation: Annotated[str | None, typer.Option(help="auto, none, digits or photos.")] = None,
    val_split: Annotated[float | None, typer.Option(help="Share of the training images for validation.")] = None,
    val_data: Annotated[str | None, typer.Option(help="Validation images of their own.")] = None,
    test_data: Annotated[str | None, typer.Option(help="Test images of their own.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")] = False,
    no_test: Annotated[bool, typer.Option("--no-test", help="Leave the test split closed.")] = False,
    grade: Annotated[str | None, typer.Option(help="fast, standard or best; standard where none is given.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="90s, 5m, 1h: from the start to the last prediction.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Train so many times; report mean and spread.")] = None,
    folds: Annotated[
        int | None, typer.Option(help="Train so many times, each with another fold for validation.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 ..., mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for run folders; else runs.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the run folder.")] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", metavar="RUN|FILE", help="Start from the net and weights of a run or file.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="RUN|FILE", help="Start from its weights.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was broken off, in place.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on although data, torch or threads have changed.")] = False,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Measure the fastest way of each convolution; kept in config.yaml.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time of the run went.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, any setting of a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train on DATA, test once, and leave a run folder."""
    from fovea.budget import Budget, parse_seconds, process_began
    from fovea.training.stopwatch import Stopwatch

    stopwatch = Stopwatch("importing") if profile else None  # before torch is imported
    limit = None if budget is None else Budget(parse_seconds(budget), process_began())
    from fovea import api
    from fovea.assignments import parse_assignments
    from fovea.display import terminal_width
    from fovea.reporting.console import result_lines

    given = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "augmentation": augmentation, "val_split": val_split,
        "seed": seed, "device": device, "precision": precision, "test": False if no_test else None,
        "skip_bad": skip_bad or None, "weights": None if weights is None else str(weights),
    }  # fmt: skip
    settings = {key: value for key, value in given.items() if value is not None}
    options: dict[str, Any] = {"model": model, "val_data": val_data, "test_data": test_data}
    options |= {
        "seeds": seeds, "folds": folds, "out": out, "name": name, "start_from": start_from, "resume": resume,
        "force": force, "autotune": autotune, "grade": grade, "budget": limit, "profile": stopwatch or False,
    }  # fmt: skip
    found = api.train(data, **(options | parse_assignments(assignments or [], RESERVED, settings)))
    tell(json.dumps(found.as_json()) if as_json else result_lines(found, terminal_width(sys.stdout)))


@app.command()
@friendly
def reproduce(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A published program: fovea list recipes.")],
    seeds: Annotated[int, typer.Option(help="Train so many times.")] = 5,
    epochs: Annotated[int | None, typer.Option(help="Fewer than published: for a look.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for the study of seeds; else runs.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 ..., mps.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, any setting of a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a published program again and hold it against what was published.

    The same command goes on where it was broken off, and adds seeds.
    """
    from fovea import api
    from fovea.assignments import parse_assignments
    from fovea.display import terminal_width
    from fovea.reporting.reproduction import reproduction_lines

    given = {"epochs": epochs, "device": device}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings = parse_assignments(assignments or [], RESERVED | {"program"}, settings)
    found = api.reproduce(recipe, seeds=seeds, out=out, **settings)
    tell(json.dumps(found.as_json()) if as_json else reproduction_lines(found, terminal_width(sys.stdout)))


@app.command()
@friendly
def compare(
    what: Annotated[
        list[str],
        typer.Argument(metavar="A B ...", help="Run folders, studies of seeds, or recipes; A is the measure."),
    ],
    seeds: Annotated[
        int | None, typer.Option(help="Of recipes: train each so many times; 5 where none is given.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Of recipes: the images in place of their own.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,W", help="Compare one DATA or recipe with itself, this setting changed."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Trainings side by side; half as many as there are cores.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Of runs: a folder for page and table. Of recipes: where theirs is made; else runs."),
    ] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, any setting of a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold runs against each other on the same test images, or recipes over paired seeds.

    The same command goes on where it was broken off, and adds seeds.
    """
    from fovea.assignments import parse_assignments, parse_varied
    from fovea.comparing import compare_and_write
    from fovea.display import terminal_width
    from fovea.reporting.compared import comparison_lines

    settings = parse_assignments(assignments or [], reserved=RESERVED | {"what", "vary", "jobs"})
    options = {"data": data, "vary": parse_varied(vary) if vary else None, "jobs": jobs}
    found, written = compare_and_write(what, out, seeds, options | settings)
    if as_json:
        tell(json.dumps({**found.as_json(), "written": [str(path) for path in written]}))
    else:
        tell("\n".join([comparison_lines(found, terminal_width(sys.stdout)), *map(str, written)]))
