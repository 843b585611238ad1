"""Commands that judge: data, doctor, evaluate, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fovea.cli_base import RESERVED, AsJson, app, friendly, tell
from fovea.errors import SettingsError


@app.command("data")
@friendly
def show_data(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data set's name, a path, or a recipe.")],
    out: Annotated[Path, typer.Option(help="The folder for the page and the picture of samples.")] = Path(),
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="List training labels that are probably wrong.")] = False,
    test_labels: Annotated[bool, typer.Option("--test-labels", help="List such labels of the test images.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting of a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in DATA and what is wrong with it, before any training; exit code 3 if something is severe.

    Writes data-NAME.html, a page with pictures, and NAME-samples.png.
    """
    from fovea import api
    from fovea.assignments import parse_assignments
    from fovea.display import terminal_width
    from fovea.labelcheck import judge_labels
    from fovea.reporting.dataview import data_as_json, data_lines, has_severe
    from fovea.reporting.labelview import label_lines, with_labels

    settings = parse_assignments(assignments or [], reserved=RESERVED)
    settings |= {"skip_bad": True} if skip_bad else {}
    facts = api.audit_data(data, **settings)
    picture, page = api.write_samples(facts, out), api.write_data_page(facts, out)
    judged = [judge_labels(data, "train", out, **settings)] if labels else []
    judged += [judge_labels(data, "test", out, **settings)] if test_labels else []
    width = terminal_width(sys.stdout)
    if as_json:
        tell(json.dumps(with_labels(data_as_json(facts, picture, page), judged)))
    else:
        tell("\n".join([data_lines(facts, picture, width, page), *label_lines(judged, width)]))
    if has_severe(facts):
        raise typer.Exit(3)


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
    from fovea.display import terminal_width
    from fovea.doctor import diagnose
    from fovea.reporting.terminal import progress_stream, say_on

    settings = parse_assignments(assignments or [], reserved=RESERVED)
    found = diagnose(patient, verify=verify, say=say_on(progress_stream()), **settings)
    tell(json.dumps(found.as_json()) if as_json else diagnosis_lines(found, terminal_width(sys.stdout)))
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
    from fovea.display import terminal_width
    from fovea.reporting.console import evaluation_lines

    predictions, looks = api.evaluate_run(run, data, skip_bad)
    judged = api.load_run(run)
    width = terminal_width(sys.stdout)
    tell(evaluation_lines(predictions, looks, judged, as_json, is_own_test=data is None, width=width))


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
    tell(json.dumps({"written": [str(path) for path in written]}) if as_json else "\n".join(map(str, written)))
