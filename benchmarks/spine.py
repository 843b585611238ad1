"""Measure what the spine promises, each figure in a fresh process, and write it down.

    python benchmarks/spine.py             everything (about 15 minutes)
    python benchmarks/spine.py --quick     without the MNIST and Fashion-MNIST runs

MNIST and Fashion-MNIST are found through FOVEA_DATA; without it their rows say so. Results go to
benchmarks/results/spine.json, the table to benchmarks/spine.md.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fovea.evaluation.intervals import mean_score, standard_deviation
from fovea.files import file_digest
from machine import describe_machine

HERE = Path(__file__).resolve().parent
FOVEA = [sys.executable, "-m", "fovea"]
NUM_REPEATS = 7


def measured(command: list[str], folder: Path | None = None) -> tuple[float, float, str]:
    """Run a command: (seconds, peak memory in MB, stdout)."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        out.seek(0)
        if status != 0:
            raise SystemExit(f"{' '.join(command)} failed with status {status}")
        return seconds, usage.ru_maxrss / 1024, out.read()


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)}


def startup() -> dict[str, Any]:
    """Seconds of `fovea --help`, of importing torch alone, and of loading MNIST once everything is imported."""
    load = (
        "import time; from fovea.data.load import read_raw; read_raw('digits'); start = time.perf_counter(); "
        "read_raw('mnist'); print(time.perf_counter() - start)"
    )
    found: dict[str, list[float]] = {"help": [], "import_torch": [], "load_mnist": []}
    for _ in range(NUM_REPEATS):  # alternating, so that a slow moment of the machine meets all three
        found["help"].append(measured([*FOVEA, "--help"])[0])
        found["import_torch"].append(measured([sys.executable, "-c", "import torch"])[0])
        if os.environ.get("FOVEA_DATA"):
            found["load_mnist"].append(float(measured([sys.executable, "-c", load])[2]))
    return {name: spread(values) for name, values in found.items() if values}


def training(data: str, num_seeds: int) -> dict[str, Any]:
    """Train with the general defaults, one process a seed; the first seed twice, to compare its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        runs, memory, wall = [], [], []
        for seed in [*range(num_seeds), 0]:
            command = [*FOVEA, "train", data, "--model", "small", "--seed", str(seed), "--json"]
            seconds, megabytes, out = measured(command, Path(folder))
            runs.append(json.loads(out))
            memory.append(megabytes)
            wall.append(seconds)
            print(f"{data} seed {seed}: test {runs[-1]['test_accuracy']['value']:.4f}, {seconds:.0f} s", flush=True)
        digests = [file_digest(Path(folder, run["run"], "best.safetensors")) for run in (runs[0], runs[-1])]
    del runs[-1]
    accuracies = [run["test_accuracy"]["value"] for run in runs]
    return {
        "test_accuracy": mean_score(accuracies).as_json(),
        "standard_deviation": standard_deviation(accuracies),
        "test_accuracies": accuracies,
        "val_accuracies": [run["val_accuracy"]["value"] for run in runs],
        "train_seconds": spread([run["train_seconds"] for run in runs]),
        "wall_seconds": spread(wall),
        "peak_memory_mb": max(memory),
        "epochs": runs[0]["epochs"],
        "parameters": runs[0]["parameters"],
        "same_bytes_twice": digests[0] == digests[1],
        "sha256_of_seed_0": digests[0],
    }


def table(results: dict[str, Any]) -> str:
    lines = ["| what | measured |", "|---|---|"]
    for name, label in (
        ("help", "`fovea --help`, cold process"),
        ("import_torch", "`import torch` alone, for comparison"),
        ("load_mnist", "MNIST from gzipped IDX files into memory"),
    ):
        if name in results["startup"]:
            found = results["startup"][name]
            lines.append(f"| {label} | {found['median']:.2f} s ({found['low']:.2f} to {found['high']:.2f}) |")
    for name, found in results["training"].items():
        score, seconds = found["test_accuracy"], found["train_seconds"]
        same = "yes" if found["same_bytes_twice"] else "no"
        lines.append(
            f"| `fovea train {name} --model small`: test accuracy, mean of {score['count']} seeds "
            f"| {score['value']:.2%} [{score['low']:.2%}, {score['high']:.2%}], "
            f"deviation {found['standard_deviation'] * 100:.2f} points |"
        )
        lines.append(
            f"| its training, {found['epochs']} epochs "
            f"| {seconds['median']:.0f} s ({seconds['low']:.0f} to {seconds['high']:.0f}) |"
        )
        lines.append(f"| its peak memory | {found['peak_memory_mb']:,.0f} MB |")
        lines.append(f"| the same command twice gives the same `best.safetensors` | {same} |")
    return "\n".join(lines)


def main() -> None:
    sets = [("digits", 5)]
    if os.environ.get("FOVEA_DATA") and "--quick" not in sys.argv:
        sets += [("mnist", 3), ("fashion-mnist", 3)]
    machine = describe_machine()
    results = {"machine": machine, "startup": startup(), "training": {name: training(name, k) for name, k in sets}}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "spine.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}"
    text = (
        "# The general defaults\n\n`make bench-spine` writes this page: what data without recipes of its own is "
        "trained by, here named by its net. Medians with their range; accuracies with the 95 % interval of the mean "
        f"over seeds. {where}, {str(machine['time'])[:10]}. "
        "How fast data is read: [data.md](data.md).\n\n"
        f"{table(results)}\n"
    )
    (HERE / "spine.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
