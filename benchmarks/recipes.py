"""Time to accuracy: one recipe, one seed, from a cold start in a fresh process to the final test.

    python benchmarks/recipes.py RECIPE_OR_DATA --seed 0 [--grade fast] [--data DATA]

Its row goes to benchmarks/results/recipes/<recipe>.json, in place of an older one of the same seed, and the table of
benchmarks/README.md is filled again. Before and after, a few seconds of P1's net under Keras on TensorFlow give the
yardstick: how long one epoch of it takes here and now.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench import commit
from chunks import Clock
from fovea.files import make_folder, write_json
from fovea.runfolder import now_utc, processor_name
from pages import RECIPES, fill_page
from peers import Peers, find_peers
from spine import measured
from workers import NotMeasuredError, starter
from workloads import CONTENDERS, KERAS_TF_DEFAULT, WORKLOADS, YARDSTICK_STEPS, Job

YARDSTICK_CHUNKS, YARDSTICK_CHUNK_SECONDS = 3, 1.5


def recipe_name(given: str, grade: str | None) -> str:
    """What rows are filed under: mnist and fast make mnist-fast; a path gives its last part."""
    name = Path(given).name.removesuffix(".yaml").removesuffix(".yml")
    return f"{name}-{grade}" if grade else name


def with_row(found: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A recipe's file with one more row, which takes the place of an older one of its seed; rows by seed."""
    rows = [other for other in found["rows"] if other["seed"] != row["seed"]] + [row]
    return {**found, "rows": sorted(rows, key=lambda one: int(one["seed"]))}


def store_row(path: Path, recipe: str, row: dict[str, Any]) -> None:
    """Put a row into a recipe's file, which appears whole or not at all."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"recipe": recipe, "rows": []}
    make_folder(path.parent)
    write_json(path, with_row(found, row))


def yardstick_chunks(peers: Peers) -> list[float]:
    """Seconds of one epoch of P1's net under Keras on TensorFlow, from each of a few short chunks.

    Raises:
        NotMeasuredError: where the peers are missing.
    """
    worker = starter(peers)(Job(KERAS_TF_DEFAULT, WORKLOADS["p1"], CONTENDERS[KERAS_TF_DEFAULT]))
    try:
        steps = max(3, min(40, round(YARDSTICK_CHUNK_SECONDS / worker.ready["step_seconds"])))
        chunks = [worker.ask(steps, lead_in=3)["seconds"] / steps for _ in range(YARDSTICK_CHUNKS)]
    finally:
        worker.close()
    return [YARDSTICK_STEPS * seconds for seconds in chunks]


def yardstick(before: list[float] | str, after: list[float] | str) -> dict[str, Any]:
    """The median of the chunks before and after, and that of each: how steady the machine was; or a note."""
    if isinstance(before, str) or isinstance(after, str):
        return {"yardstick_seconds": None, "yardstick_note": before if isinstance(before, str) else after}
    parts = [round(statistics.median(part), 2) for part in (before, after)]
    return {
        "yardstick_seconds": round(statistics.median([*before, *after]), 2),
        "yardstick_before_and_after_seconds": parts,
    }


def train_once(command: list[str], out: Path) -> dict[str, Any]:
    """Run `fovea train` in a fresh process, its run folder in `out`: the part of a row that it gives."""
    start = Clock()
    seconds, megabytes, text = measured([sys.executable, "-m", "fovea", *command, "--out", str(out)])
    others = start.until(Clock())["others_fraction"]
    told = json.loads(text)
    config = next(out.rglob("config.yaml"))
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    return {
        "test_accuracy": told["test_accuracy"]["value"],
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(megabytes),
        "tta": settings["evaluation"].get("tta") or "none",
        "n_train": settings["record"]["images"]["train"],
        "n_test": told["test_accuracy"]["count"],
        "epochs": told["epochs"],
        "others_fraction": None if others is None else round(others, 3),
    }


def measure_recipe(command: list[str], seed: int, peers: Peers | None) -> dict[str, Any]:
    """A whole row: yardstick, training, yardstick; without peers the training alone."""
    with tempfile.TemporaryDirectory() as folder:
        before = try_yardstick(peers) if peers else "left out"
        row = train_once(command, Path(folder))
        after = try_yardstick(peers) if peers else "left out"
    yards = yardstick(before, after)
    return {"seed": seed, **row, **yards, "cpu": processor_name(), "date": now_utc(), "commit": commit()}


def try_yardstick(peers: Peers) -> list[float] | str:
    """The yardstick's chunks, or why there are none."""
    try:
        return yardstick_chunks(peers)
    except NotMeasuredError as error:
        return f"not measured: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE_OR_DATA", help="what `fovea train` takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grade", help="handed to `fovea train --grade`, and part of the row's name")
    parser.add_argument("--data", help="where the recipe's data lies")
    parser.add_argument("--set", action="append", default=[], dest="assignments", help="as of `fovea train`")
    parser.add_argument("--name", help="of the rows' file; else the recipe's, with the grade")
    parser.add_argument("--no-yardstick", action="store_true", help="for further seeds: half a minute less")
    given = parser.parse_args()
    command = ["train", given.recipe, "--seed", str(given.seed), "--set", "report=false", "--json"]
    command += ["--grade", given.grade] if given.grade else []
    for assignment in [*([f"data.source={given.data}"] if given.data else []), *given.assignments]:
        command += ["--set", assignment]
    row = measure_recipe(command, given.seed, None if given.no_yardstick else find_peers(install=False))
    name = given.name or recipe_name(given.recipe, given.grade)
    store_row(RECIPES / f"{name}.json", name, row)
    fill_page()
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
