"""The published programs against our own recipes: same data, same split, paired seeds.

    python benchmarks/programs.py [CASE ...] [--seeds 5] [--long] [--out benchmarks/.programs]

Each seed of a program is trained by `fovea reproduce`, each of ours (benchmarks/programs/*.yaml) by `fovea train`, one
at a time, in a fresh process. Rows go to benchmarks/results/programs/, the tables to docs/programs.md. What is trained
already in --out is read back, so that a call that was broken off goes on. The short cases take about two hours on two
cores, with --long a day.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import commit
from fovea.evaluation.intervals import PredictionInterval, mean_score
from fovea.evaluation.paired import SeedsTest, paired_over_seeds
from fovea.evaluation.stored import StoredRun
from fovea.files import make_folder, write_json, write_text
from fovea.recipefile import read_recipe
from fovea.reporting.reproduction import interval_text
from fovea.runfolder import is_finished, now_utc, processor_name
from fovea.studies.published import Figure, read_program
from pages import replace_block
from recipes import with_row
from spine import measured

HERE = Path(__file__).resolve().parent
RESULTS, OURS, PAGE = HERE / "results" / "programs", HERE / "programs", HERE.parent / "docs" / "programs.md"


@dataclass(frozen=True)
class Case:
    """A program, with the settings that it is run with, and our recipe for the same task."""

    recipe: str
    ours: str
    is_long: bool = False
    settings: tuple[str, ...] = ()


CASES = {
    "p0-80": Case("p0-same-fit-twice", "p0-80"),
    "p0-8000": Case("p0-same-fit-twice", "p0-8000", True, ("first_images=[8000, 2000]",)),
    "p1": Case("p1-digit-recognizer", "p1", True),
    "p2-first": Case("p2-cifar10-first", "p2"),
    "p2-edited": Case("p2-cifar10-edited", "p2"),
    "p2-answer": Case("p2-cifar10-answer", "p2"),
    "p3-off": Case("p3-translation-off", "p3", True, ("epochs=5",)),
    "p3-on": Case("p3-translation-on", "p3", True, ("epochs=5",)),
    "p4-dense": Case("p4-fashion-dense", "p4"),
    "p4-conv": Case("p4-fashion-conv", "p4"),
    "p4-conv1": Case("p4-fashion-conv1", "p4-long"),
}


def fovea(*arguments: str) -> tuple[float, dict[str, Any]]:
    """Run a command of Fovea in a fresh process: wall seconds, and what it prints as JSON."""
    seconds, _, text = measured([sys.executable, "-m", "fovea", *arguments, "--set", "report=false", "--json"])
    return seconds, dict(json.loads(text))


def stored(name: str) -> dict[str, Any]:
    """What was measured so far of a case, or of one of our recipes."""
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {"name": name, "rows": []}


def store(name: str, row: dict[str, Any], **facts: Any) -> None:
    """Put a row in the place of an older one of its seed; machine, date and commit are of now where it has none."""
    make_folder(RESULTS)
    here = {"cpu": processor_name(), "date": now_utc(), "commit": commit()}
    write_json(RESULTS / f"{name}.json", {**with_row(stored(name), {**row, **here, **row}), **facts})


def reproduce(name: str, index: int, out: Path) -> None:
    """Train one more seed of a program, the `index`-th from 0, and store its row.

    The wall time is the row's where the process has trained this seed and no other, without what the extra evaluations
    took.
    """
    case = CASES[name]
    parent = out / name.split("-")[0]  # one folder a program: an answer may need another of its recipes
    before = len(list(parent.glob("*/seed-*/manifest.json")))
    begun = any(not is_finished(path.parent) for path in parent.glob("*/seed-*/config.yaml"))
    settings = [part for setting in case.settings for part in ("--set", setting)]
    wall, told = fovea("reproduce", case.recipe, "--seeds", str(index + 1), "--out", str(parent), *settings)
    each = told["each_seed"][index]
    trained = len(list(parent.glob("*/seed-*/manifest.json"))) - before
    whole = trained == told["trainings_a_seed"] == 1 and not begun
    facts = {name: told[name] for name in ("figures", "answer", "mark", "notes", "asked")}
    seconds = round(wall - each["beside_seconds"], 2) if whole else None
    row = {key: value for key, value in each.items() if key != "run"}
    row |= {"seconds": seconds, "parameters": told["parameters"], "epochs": told["epochs"]}
    if trained == 0:  # read back: time, date and machine are known from when it was trained, or not at all
        row |= next((one for one in stored(name)["rows"] if one["seed"] == each["seed"]), {})
    store(name, row, **facts)


def train_ours(name: str, seed: int, out: Path) -> None:
    """Train one seed of our recipe, and store its row; one that is there already is left alone."""
    parent, folder = out / f"ours-{name}", f"seed-{seed}"
    wall = None
    if not is_finished(parent / folder):
        shutil.rmtree(parent / folder, ignore_errors=True)  # broken off: its time would say nothing
        command = ["train", str(OURS / f"{name}.yaml"), "--seed", str(seed), "--out", str(parent), "--name", folder]
        wall = round(fovea(*command)[0], 2)
    elif any(row["seed"] == seed for row in stored(f"ours-{name}")["rows"]):
        return
    store(f"ours-{name}", {"seconds": wall, **row_of(StoredRun(parent / folder), seed)})


def row_of(run: StoredRun, seed: int) -> dict[str, Any]:
    """Accuracy of the last and of the best epoch; the last one's answers average views where the recipe says so."""
    last = run.val_accuracy.value
    return {
        "seed": seed,
        "best": max(*run.history["val_accuracy"], last),
        "last": last,
        "train_seconds": run.result["train_seconds"],
        "parameters": run.result["parameters"],
        "epochs": run.result["epochs"],
        "tta": run.views.words or "none",
    }


def accuracy_cell(rows: list[dict[str, Any]]) -> str:
    """Mean and interval of the best epochs, and the mean of the last."""
    if not rows:
        return "not measured"
    best, last = (mean_score([row[name] for row in rows]) for name in ("best", "last"))
    interval = "" if best.low is None or best.high is None else f" [{best.low:.2%}, {best.high:.2%}]"
    return f"{best.value:.2%}{interval}; {last.value:.2%}"


def seconds_of(rows: list[dict[str, Any]], wall: bool) -> float | None:
    """The median seconds of a row."""
    values = [row["seconds" if wall else "train_seconds"] for row in rows]
    return None if not values or None in values else float(statistics.median(values))


def table_line(name: str) -> str:
    """A case's line of the table."""
    case = CASES[name]
    rows, ours = stored(name)["rows"], stored(f"ours-{case.ours}")["rows"]
    by_seed = {row["seed"]: row for row in ours}
    pairs = [(row, by_seed[row["seed"]]) for row in rows if row["seed"] in by_seed]
    test = paired_over_seeds([a["best"] for a, _ in pairs], [b["best"] for _, b in pairs]) if pairs else None
    wall = all(row["seconds"] is not None for row in [*rows, *(row for _, row in pairs)])
    theirs, mine = seconds_of(rows, wall), seconds_of([row for _, row in pairs], wall)
    unit = "s" if wall else "s of training"
    seconds = f"{theirs:,.0f} {unit}" if theirs else ""
    seconds += f" / {mine:,.0f} {unit}" if theirs and mine else ""
    times = f"{theirs / mine:.1f}" if theirs and mine else ""
    parameters = " / ".join(f"{found[0]['parameters']:,}" for found in (rows, ours) if found)
    cells = [
        name,
        str(len(rows)),
        published_cell(case.recipe),
        accuracy_cell(rows),
        accuracy_cell([b for _, b in pairs]),
    ]
    return f"| {' | '.join([*cells, difference_cell(test), seconds, times, parameters])} |"


def difference_cell(test: SeedsTest | None) -> str:
    """Ours against the program: points with their interval, p, and on how many seeds it is lower."""
    if test is None:
        return ""
    text = f"{test.difference.value * 100:+.2f}"
    if test.p_value is not None and test.difference.low is not None and test.difference.high is not None:
        text += f" [{test.difference.low * 100:+.2f}, {test.difference.high * 100:+.2f}], p {test.p_value:.2g}"
    return f"{text}; lower on {test.num_lower} of {len(test.differences)}"


def published_cell(recipe: str) -> str:
    """The published accuracy: the best epoch's where the source names it, else the last one's."""
    shares = [one for one in read_program(recipe).record.published if one.figure == "val_accuracy"]
    best = [one for one in shares if one.epoch == "best"] or shares[-1:]
    return "none" if not best else best[0].published + (f" ({best[0].beside})" if best[0].beside else "")


def table() -> str:
    """Published, reproduced and ours, a line a case."""
    lines = [
        "| program | seeds | published | reproduced, best epoch; last | ours, best epoch; last "
        "| ours - reproduced, best epochs, points | seconds | times as fast | parameters |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(table_line, CASES),
    ]
    rows = [row for name in CASES for row in stored(name)["rows"]]
    where = sorted({f"{row['cpu']}, {row['date'][:10]}" for row in rows})
    return "\n".join([*lines, "", f"{'; '.join(where)}." if where else "Not measured so far."])


def figures() -> str:
    """Each published figure with the prediction interval of the seeds, and the answer, a part a case."""
    parts = []
    for name in CASES:
        found = stored(name)
        if "figures" not in found:
            continue
        lines = [f"### {name}: {CASES[name].recipe}", ""]
        if found["figures"]:
            lines += ["| figure | published | measured | inside |", "|---|---|---|---|"]
            lines += [figure_line(entry) for entry in found["figures"]]
            lines.append("")
        explained = read_program(CASES[name].recipe).record.explained
        lines += [f"- {line}" for line in [*found["answer"]["lines"], *found["notes"], *explained]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "Not measured so far."


def figure_line(entry: dict[str, Any]) -> str:
    """A published figure beside the measured one."""
    figure = Figure.model_validate({name: entry[name] for name in Figure.model_fields})
    told = {True: "yes", False: "no", None: ""}[entry["inside"]]
    measured_text = entry["reason"]
    if entry["measured"]:
        measured_text = interval_text(figure, PredictionInterval(**entry["measured"]))
    return f"| {figure.words} | {figure.published} | {measured_text} | {told} |"


def fill_page() -> None:
    """Fill the marked places of docs/programs.md from what is on the disk."""
    text = replace_block(PAGE.read_text(encoding="utf-8"), "table", table())
    write_text(PAGE, replace_block(text, "figures", figures()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; none: the short ones")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="the long ones too: p0-8000, p1, p3-off, p3-on")
    parser.add_argument("--out", type=Path, default=HERE / ".programs", help="the folder of the runs")
    parser.add_argument("--fill", action="store_true", help="train nothing: fill docs/programs.md again")
    given = parser.parse_args()
    strangers = set(given.cases) - set(CASES)
    if strangers:
        parser.error(f"unknown case {', '.join(sorted(strangers))}: one of {', '.join(CASES)}")
    names = given.cases or [name for name, case in CASES.items() if given.long or not case.is_long]
    for index in range(0 if given.fill else given.seeds):
        for name in names:
            reproduce(name, index, given.out)
            case = CASES[name]
            train_ours(case.ours, read_recipe(read_program(case.recipe).path).training.seed + index, given.out)
            fill_page()
            print(table_line(name), flush=True)
    fill_page()


if __name__ == "__main__":
    main()
