"""The shell face: parse, call the API, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import fovea
from fovea.errors import FoveaError, SettingsError

app = typer.Typer(
    help="Trains small-image CNN classifiers and says how far to believe them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Kind(StrEnum):
    """What `fovea list` can list."""

    DATASETS = "datasets"
    MODELS = "models"
    RECIPES = "recipes"
    AUGMENTATIONS = "augmentations"


# Not settings of a recipe but arguments of fovea.train, which have options of their own.
RESERVED = {
    "data", "out", "name", "seeds", "folds", "start_from", "callbacks", "verbose", "resume", "force", "grade", "budget",
    "autotune", "profile", "preprocessing_function",
}  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def main() -> None:
    """The entry point of the command `fovea`."""
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _terminated)
    app()


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Errors that Fovea raises on purpose become one message on stderr and their exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except FoveaError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None

    return wrapped


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
    found = api.train(data, **(options | settings | parse_assignments(assignments or [], reserved=RESERVED)))
    typer.echo(json.dumps(found.as_json()) if as_json else result_lines(found))


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
    from fovea.reporting.console import terminal_width
    from fovea.reporting.reproduction import reproduction_lines

    given = {"epochs": epochs, "device": device}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    settings |= parse_assignments(assignments or [], reserved=RESERVED | {"program"})
    found = api.reproduce(recipe, seeds=seeds, out=out, **settings)
    typer.echo(json.dumps(found.as_json()) if as_json else reproduction_lines(found, terminal_width(sys.stdout)))


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
    from fovea.reporting.compared import comparison_lines
    from fovea.reporting.console import terminal_width

    settings = parse_assignments(assignments or [], reserved=RESERVED | {"what", "vary", "jobs"})
    options = {"data": data, "vary": parse_varied(vary) if vary else None, "jobs": jobs}
    found, written = compare_and_write(what, out, seeds, options | settings)
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "written": [str(path) for path in written]}))
    else:
        typer.echo("\n".join([comparison_lines(found, terminal_width(sys.stdout)), *map(str, written)]))


@app.command("data")
@friendly
def show_data(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data set's name, a path, or a recipe.")],
    out: Annotated[Path, typer.Option(help="The folder for the picture of samples.")] = Path(),
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="List training labels that are probably wrong.")] = False,
    test_labels: Annotated[bool, typer.Option("--test-labels", help="List such labels of the test images.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting of a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in DATA before any training; draw some of its images."""
    from fovea import api
    from fovea.assignments import parse_assignments
    from fovea.labelcheck import judge_labels
    from fovea.reporting.console import terminal_width
    from fovea.reporting.dataview import data_as_json, data_lines
    from fovea.reporting.labelview import label_lines, with_labels

    settings = parse_assignments(assignments or [], reserved=RESERVED)
    settings |= {"skip_bad": True} if skip_bad else {}
    facts = api.describe_data(data, **settings)
    picture = api.write_samples(facts, out)
    judged = [judge_labels(data, "train", out, **settings)] if labels else []
    judged += [judge_labels(data, "test", out, **settings)] if test_labels else []
    width = terminal_width(sys.stdout)
    if as_json:
        typer.echo(json.dumps(with_labels(data_as_json(facts, picture), judged)))
    else:
        typer.echo("\n".join([data_lines(facts, picture, width), *label_lines(judged, width)]))


@app.command()
@friendly
def doctor(
    patient: Annotated[
        str, typer.Argument(metavar="RUN|DATA|PROGRAM", help="A run folder, data, or a program: .py or .ipynb.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Try suspected causes in short trainings (a minute).")
    ] = True,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting; for DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong, and prove it. Exit code 3: something severe was found."""
    from fovea.assignments import parse_assignments
    from fovea.diagnosis.telling import diagnosis_lines
    from fovea.doctor import diagnose
    from fovea.reporting.console import progress_stream, say_on, terminal_width

    settings = parse_assignments(assignments or [], reserved=RESERVED)
    found = diagnose(patient, verify=verify, say=say_on(progress_stream()), **settings)
    typer.echo(json.dumps(found.as_json()) if as_json else diagnosis_lines(found, terminal_width(sys.stdout)))
    if found.is_severe:
        raise typer.Exit(3)


@app.command()
@friendly
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    data: Annotated[str | None, typer.Option(help="Other labelled images; else the run's own test split.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a saved run again; each look at a test set is written into the ledger."""
    from fovea import api
    from fovea.reporting.console import evaluation_lines

    predictions, looks = api.evaluate_run(run, data, skip_bad)
    judged = api.load_run(run)
    typer.echo(evaluation_lines(predictions, looks, judged, as_json, is_own_test=data is None))


@app.command()
@friendly
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN [RUN ...]", help="Run folders; several are compared.")],
    output: Annotated[Path | None, typer.Option(help="The page; else report.html in the run folder.")] = None,
    figure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Draw this figure instead of the page; all for every one.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="Of figures: png (default) or svg.")] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Confusion matrix: shares, not counts.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder for figures; else the run folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run as one HTML page, or of several held against each other; or single figures."""
    from fovea import api

    if figure and output:
        raise SettingsError("--output names the page, --out the folder of figures: give one of them.")
    if not figure and (form or normalize or out):
        raise SettingsError("--format, --normalize and --out belong to figures: name one with --figure, or all.")
    if figure:
        written = api.write_run_figures(runs, figure, out, form or "png", normalize)
    else:
        written = [api.write_reports(runs, output)]
    typer.echo(json.dumps({"written": [str(path) for path in written]}) if as_json else "\n".join(map(str, written)))


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
    from fovea.reporting.console import progress_stream, say_on
    from fovea.reporting.progress import ProgressBar

    wanted = Wanted(top_k, form, output, submission, adapt, skip_bad, min_confidence)
    bar, say = ProgressBar(progress_stream()), say_on(progress_stream())
    stdout = None if sys.stdout is None else sys.stdout.buffer  # None where the shell has closed it
    for line in predict_to(load_model(run), inputs, wanted, stdout, bar, say):
        typer.echo(line)


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

    for line in import_keras(files, ImportOptions(scale, offset, mean, std, classes), out):
        typer.echo(line, err=line.startswith("note: "))


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

    for line in export_keras(run, out, not without_preprocessing):
        typer.echo(line, err=line.startswith("note: "))


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
    typer.echo(json.dumps(found) if as_json else "\n".join(lines))
