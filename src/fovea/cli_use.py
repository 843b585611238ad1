"""Commands that use what was trained: predict, import, export; and list."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fovea.cli_base import AsJson, app, friendly, tell


class Kind(StrEnum):
    """What `fovea list` can list."""

    DATASETS = "datasets"
    MODELS = "models"
    RECIPES = "recipes"
    AUGMENTATIONS = "augmentations"


@app.command()
@friendly
def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder or a best.safetensors.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, a folder, an archive, a CSV, .npy, .npz, a data set, or -."),
    ],
    top_k: Annotated[int, typer.Option(help="How many labels an image, the most likely first.")] = 1,
    form: Annotated[
        str | None, typer.Option("--format", help="csv (default) or jsonl, one JSON object a line.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A file for the rows; else stdout. An older one is replaced at the end.")
    ] = None,
    submission: Annotated[
        Path | None, typer.Option(help="A file ImageId,Label for Kaggle, held against sample_submission.csv.")
    ] = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="Make images unlike those of the training like them.")] = False,
    min_confidence: Annotated[
        float, typer.Option(metavar="P", help="Leave the label empty where its probability is below P.")
    ] = 0.0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")] = False,
) -> None:
    """Answer for new images: label, probability, and in what they are unlike those of the training.

    Rows of tables are numbered from 1, those of arrays from 0, where no column or file names them.
    """
    from fovea.delivery.predict import Wanted, predict_to
    from fovea.delivery.predictor import load_model
    from fovea.reporting.progress import ProgressBar
    from fovea.reporting.terminal import progress_stream, say_on

    wanted = Wanted(top_k, form, output, submission, adapt, skip_bad, min_confidence)
    bar, say = ProgressBar(progress_stream()), say_on(progress_stream())
    stdout = None if sys.stdout is None else sys.stdout.buffer  # None where the shell has closed it
    for line in predict_to(load_model(run), inputs, wanted, stdout, bar, say):
        tell(line)


@app.command("import")
@friendly
def import_model(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE [WEIGHTS]", help="A .keras, a whole-model .h5, or a .json and its weights."),
    ],
    out: Annotated[Path, typer.Option(help="The model file to write: NAME.safetensors.")],
    scale: Annotated[
        str | None, typer.Option(help="What values of 0 to 255 are multiplied by before the net: 1/255, 1 ...")
    ] = None,
    offset: Annotated[str | None, typer.Option(help="What is added then, as -1.")] = None,
    mean: Annotated[str | None, typer.Option(help="Then subtracted: one number, or one a channel.")] = None,
    std: Annotated[str | None, typer.Option(help="Then divided by: one number, or one a channel.")] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...|FILE", help="Names in the order of the outputs; else 0, 1 ...")
    ] = None,
) -> None:
    """Make a model file of a Keras model, for `fovea predict`. No code in a file is run."""
    from fovea.delivery.keras_import import ImportOptions, import_keras

    _tell_each(import_keras(files, ImportOptions(scale, offset, mean, std, classes), out))


@app.command()
@friendly
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder or a best.safetensors.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.keras, or NAME.json with NAME.weights.h5 beside.")],
    without_preprocessing: Annotated[
        bool, typer.Option("--without-preprocessing", help="Leave it out: Keras is given what the net sees.")
    ] = False,
) -> None:
    """Write the net of a run for Keras 3, its preprocessing before it."""
    from fovea.delivery.keras_export import export_keras

    _tell_each(export_keras(run, out, not without_preprocessing))


def _tell_each(lines: Iterable[str]) -> None:
    """Results to stdout, notes to stderr."""
    for line in lines:
        if line.startswith("note: "):
            typer.echo(line, err=True)
        else:
            tell(line)


@app.command("list")
@friendly
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: AsJson = False,
) -> None:
    """List what can be given by name."""
    from fovea.listing import descriptions

    found = descriptions(kind.value)
    width = max(map(len, found))
    lines = [f"{name:<{width}}  {description}".rstrip() for name, description in found.items()]
    tell(json.dumps(found) if as_json else "\n".join(lines))
