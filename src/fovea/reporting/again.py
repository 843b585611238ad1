"""The last sections of a report: where a run was made, and what makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath

from fovea.evaluation.stored import StoredRun
from fovea.reporting.blocks import Block, Code, Paragraph, Table
from fovea.settings import ARRAYS


def machine_blocks(run: StoredRun) -> list[Block]:
    """Processor, versions and hardware choices of a run."""
    environment = run.environment
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    rows = [
        ["processor", f"{environment['processor']}, {environment['cores']} cores"],
        ["system", f"{environment['platform']}, Python {environment['python']}"],
        ["packages", packages],
        ["begun", environment["time"]],
        *([name.replace("_", " "), text] for name, text in run.record.get("hardware", {}).items()),
        ["seed", f"{run.recipe.training.seed} (of weights, order, augmentation and dropout)"],
    ]
    return [Table("Where and with what it was trained", [], rows, figures=False)]


def again_blocks(run: StoredRun) -> list[Block]:
    """What trains the same weights again, and what answers for images."""
    blocks: list[Block] = []
    if _needs_python(run):
        blocks.append(
            Paragraph("It was trained on what only Python can pass again: arrays, a module or a function of your own.")
        )
    blocks.append(Code(call_of(run), "What trains the same weights again"))
    if run.result.get("changed_on_the_way"):
        blocks.append(Paragraph("What changed on the way may make its weights others than those of this run.", "note"))
    else:
        blocks.append(
            Paragraph(
                "The same settings give the same bytes on the same machine type, torch build and thread count. "
                "Callbacks of your own are passed again."
            )
        )
    command = _command(run.environment.get("command", []))
    if command:
        blocks += [Paragraph("It was trained by:", "note"), Code(command, "The command that was typed")]
    answers = f"fovea predict {shlex.quote(str(run.path))} IMAGE..."
    if own := _own_arguments(run):
        answers = f"fovea.load_model({', '.join([repr(str(run.path)), *own])}).predict(images)"
    return [*blocks, Code(answers, "What answers for images")]


def _needs_python(run: StoredRun) -> bool:
    data = run.recipe.data
    return bool(_own_arguments(run)) or data.source is None or ARRAYS in (data.val_data, data.test_data)


def _own_arguments(run: StoredRun) -> list[str]:
    function = run.recipe.preprocessing.function
    named = [] if function is None else [f"preprocessing_function={function.rpartition('.')[2]}"]
    return (["model=module"] if run.has_own_net else []) + named


def call_of(run: StoredRun) -> str:
    """What trains the same weights again: a command, or a call where only Python can pass what is needed."""
    if not _needs_python(run):
        return f"fovea train {shlex.quote(str(run.path / 'config.yaml'))}"
    data = run.recipe.data
    arguments = ["(images, labels)" if data.source is None else repr(data.source)]
    for part, place in (("val", data.val_data), ("test", data.test_data)):
        if place is not None:
            arguments.append(f"{part}_data=" + (f"({part}_images, {part}_labels)" if place == ARRAYS else repr(place)))
    arguments += _own_arguments(run)
    return f"fovea.train({', '.join(arguments)}, **fovea.load_run({str(run.path)!r}).settings)"


def _command(words: Sequence[str]) -> str:
    """What was typed in the shell; nothing where it was Python."""
    if not words or PurePath(words[0]).name not in ("fovea", "__main__.py"):
        return ""
    return shlex.join(["fovea", *words[1:]])
