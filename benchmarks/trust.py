"""What is promised about trust, measured: the data audit, label errors, intervals and tests, the cost of it all.

    python benchmarks/trust.py audit|labels|intervals|cost|all [--data DATA]

DATA is a folder that holds mnist/, fashion-mnist/ and CIFAR-10; without it FOVEA_DATA is. Each part is a module
trust_<part>.py beside this one with a function `main(data: Path) -> dict`; of what it returns, "figures" is a list of
{"name", "asked", "measured", "reached"} for the table, and everything is kept in benchmarks/results/trust/<part>.json.
The tables of all parts go into benchmarks/trust.md, between its marks.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from fovea.files import make_folder, write_json, write_text
from fovea.runfolder import now_utc
from machine import describe_machine
from pages import replace_block

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "trust", HERE / "trust.md"
PARTS = {
    "audit": "The data audit",
    "labels": "Labels that are wrong",
    "intervals": "Intervals and paired tests",
    "cost": "What it costs",
}


def present_parts() -> list[str]:
    """The parts whose module is here."""
    return [part for part in PARTS if importlib.util.find_spec(f"trust_{part}") is not None]


def measure(part: str, data: Path) -> dict[str, Any]:
    """Run a part: what it found, and where and when."""
    before = os.getloadavg()[0]
    found = importlib.import_module(f"trust_{part}").main(data)
    load = f"load average {before:.1f} before"
    return {"measured_at": now_utc(), "machine": describe_machine(), "load": load, **found}


def table(title: str, found: dict[str, Any]) -> str:
    """The figures of one part as a table in Markdown."""
    lines = [f"## {title}", "", "| figure | asked | measured | reached |", "|---|---|---|---|"]
    for figure in found.get("figures", []):
        reached = {True: "yes", False: "no"}.get(figure.get("reached"), "")
        lines.append(f"| {figure['name']} | {figure.get('asked', '')} | {figure['measured']} | {reached} |")
    machine = found.get("machine", {})
    words = [machine.get("processor"), f"{machine['cores']} cores" if machine else None, found.get("load")]
    place = ", ".join([*filter(None, words), found.get("measured_at", "")[:10]])
    return "\n".join([*lines, "", place])


def fill_page() -> None:
    """Write the tables of all results into the page."""
    kept = {part: RESULTS / f"{part}.json" for part in PARTS}
    results = {part: json.loads(kept[part].read_text(encoding="utf-8")) for part in PARTS if kept[part].exists()}
    tables = [table(PARTS[part], found) for part, found in results.items() if "figures" in found]
    write_text(PAGE, replace_block(PAGE.read_text(encoding="utf-8"), "measured", "\n\n".join(tables)))


def main() -> None:
    """Measure what was asked for, keep it, fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--data", type=Path, help="a folder with mnist/, fashion-mnist/ and CIFAR-10; else FOVEA_DATA")
    asked = parser.parse_args()
    data = (asked.data or Path(os.environ.get("FOVEA_DATA", "data"))).resolve()
    if not data.is_dir():
        sys.exit(f"{data} is no folder: name one that holds the data sets with --data or FOVEA_DATA.")
    os.environ["FOVEA_DATA"] = str(data)
    parts = present_parts() if asked.part == "all" else [asked.part]
    missing = [part for part in parts if part not in present_parts()]
    if missing:
        sys.exit(f"benchmarks/trust_{missing[0]}.py is not there.")
    make_folder(RESULTS)
    for part in parts:
        found = measure(part, data)
        write_json(RESULTS / f"{part}.json", found)
        fill_page()
        print(table(PARTS[part], found))


if __name__ == "__main__":
    main()
