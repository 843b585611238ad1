"""Measure the ways of a convolution's weight gradient over the shapes of small nets, and write the table that ships.

    python benchmarks/kernels.py [--threads N]     # measures, then writes the table
    python benchmarks/kernels.py --table           # writes it from what was measured before

The ways are timed in turns, medians of 9. The figures go to benchmarks/results/kernels.json under the CPU's feature,
precision and threads; src/fovea/training/kernels.yaml is made from all that stands there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fovea.evaluation.predictions import cpu_has_bf16
from fovea.files import write_text
from fovea.runfolder import now_utc, processor_name
from fovea.settings import TrainingSettings
from fovea.training.hardware import applied, choose_hardware
from fovea.training.kernels import TORCH, ConvolutionShape, time_kernels

HERE = Path(__file__).resolve().parent
RESULTS, TABLE = HERE / "results" / "kernels.json", HERE.parent / "src" / "fovea" / "training" / "kernels.yaml"
BATCH = 500
CHANNELS = ((32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256))
SIDES = (2, 3, 4, 5, 6, 7, 8, 14, 15, 16)
FASTER = 1.1  # times torch's own, on every shape that a rule speaks of: less is not told apart from noise
FEWEST_SHAPES = 2  # on each side that a rule speaks of
HEAD = f"""\
# How the weight gradient of a 3x3 convolution is computed where not by torch's own kernel: of the rows for the CPU and
# the nearest number of threads the first that fits, on maps of at most largest_map pixels a side, with at least
# fewest_channels channels on both sides of the layer. Made by `make bench-kernels`, batches of {BATCH}: on each shape
# measured that a row speaks of it is at least {FASTER} times as fast as torch's own.
weight_gradient:
"""

Milliseconds = Mapping[str, Mapping[str, float]]  # "64>64 3x3 on 7x7" -> way -> milliseconds


def shapes() -> list[ConvolutionShape]:
    return [
        ConvolutionShape(BATCH, inner, outer, side, side, (3, 3), (1, 1), (1, 1))
        for side in SIDES
        for inner, outer in CHANNELS
    ]


def rules(milliseconds: Milliseconds) -> list[dict[str, Any]]:
    """The rows of one CPU: for each least number of channels the way that pays up to the largest map."""
    found: list[dict[str, Any]] = []
    for fewest in sorted({min(pair) for pair in CHANNELS}):
        reach = {way: largest_map(milliseconds, way, fewest) for way in _ways(milliseconds)}
        way = max(reach, key=lambda name: (reach[name], _gain(milliseconds, name, fewest)), default=None)
        if way is not None and reach[way] > (found[-1]["largest_map"] if found else 0):
            found.append({"way": way, "largest_map": reach[way], "fewest_channels": fewest})
    return found


def largest_map(milliseconds: Milliseconds, way: str, fewest: int) -> int:
    """The largest side up to which a way pays on every measured shape of at least so many channels; 0 for none."""
    reach = 0
    for side in SIDES:
        ratios = _ratios(milliseconds, way, fewest, [side])
        if len(ratios) < FEWEST_SHAPES or min(ratios) < FASTER:
            break
        reach = side
    return reach


def _ways(milliseconds: Milliseconds) -> list[str]:
    return sorted({way for times in milliseconds.values() for way in times} - {TORCH})


def _gain(milliseconds: Milliseconds, way: str, fewest: int) -> float:
    ratios = _ratios(milliseconds, way, fewest, SIDES)
    return sum(ratios) / max(len(ratios), 1)


def _ratios(milliseconds: Milliseconds, way: str, fewest: int, sides: Any) -> list[float]:
    """How many times as fast as torch's own a way is, on the measured shapes."""
    times = [milliseconds.get(shape.words, {}) for shape in shapes() if _speaks_of(shape, fewest, sides)]
    return [each[TORCH] / each[way] for each in times if way in each]


def _speaks_of(shape: ConvolutionShape, fewest: int, sides: Any) -> bool:
    return shape.height in sides and min(shape.in_channels, shape.out_channels) >= fewest


def table(known: Mapping[str, Any]) -> str:
    """kernels.yaml, from the figures of all CPUs."""
    lines = []
    for key, measured in sorted(known.items()):
        feature, precision, threads, _ = key.split()
        for rule in rules(measured["milliseconds"]):
            facts = {"feature": feature, "precision": precision, "threads": threads, **rule}
            lines.append("  - {" + ", ".join(f"{name}: {value}" for name, value in facts.items()) + "}")
    return HEAD + "\n".join(lines) + "\n"


def measure(threads: int | None) -> None:
    """Time every shape, and keep the figures beside those of other CPUs and threads."""
    hardware = choose_hardware(TrainingSettings(device="cpu", threads=threads))
    precision = hardware.precision.value
    key = f"{cpu_has_bf16() or 'none'} {precision} {hardware.threads.value} threads"
    rows = {}
    with applied(hardware):
        torch.manual_seed(0)
        for shape in shapes():
            seconds = time_kernels(shape, precision, repeats=9)
            rows[shape.words] = {name: round(found * 1000, 3) for name, found in seconds.items()}
            ratios = ", ".join(f"{way} {seconds[TORCH] / found:.2f}" for way, found in seconds.items() if way != TORCH)
            print(f"{shape.words:24} {TORCH} {rows[shape.words][TORCH]:8.2f} ms; times as fast: {ratios}", flush=True)
    measured = {"cpu": processor_name(), "torch": torch.__version__, "date": now_utc(), "batch": BATCH}
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[key] = {**measured, "milliseconds": rows}
    write_text(RESULTS, json.dumps(known, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="as many as a training takes where left out")
    parser.add_argument("--table", action="store_true", help="measure nothing: write the table again")
    given = parser.parse_args()
    if not given.table:
        measure(given.threads)
    write_text(TABLE, table(json.loads(RESULTS.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
