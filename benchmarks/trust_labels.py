"""Of 1 % labels flipped at random, how many are in the list of `fovea data --labels`, and how long does that take.

600 of the 60,000 training labels of MNIST and of Fashion-MNIST are changed to another class, drawn evenly. DATA holds
mnist/ and fashion-mnist/. The test images are not read. `python benchmarks/trust.py labels` runs it.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.imageset import RawData
from fovea.data.load import read_raw
from fovea.evaluation.intervals import accuracy_score
from fovea.settings import Recipe
from fovea.studies.label_errors import find_label_errors

SHARE = 0.01  # of the labels, flipped
TARGETS = {"mnist": 0.9, "fashion-mnist": 0.7}
MOST_SECONDS = 300


def with_flipped_labels(raw: RawData, seed: int) -> tuple[RawData, np.ndarray]:
    """The data with some training labels changed to another class, drawn evenly, and which they are."""
    train = raw.parts["train"]
    labels = np.asarray(train.labels).astype(np.int64)
    num_classes = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    labels[rows] = (labels[rows] + rng.integers(1, num_classes, len(rows))) % num_classes
    return replace(raw, parts={**raw.parts, "train": replace(train, labels=labels)}), rows


def one(name: str, seed: int) -> dict[str, Any]:
    """Flip, judge, count: the figures of one data set and seed."""
    began, processor_began = time.monotonic(), time.process_time()
    raw, flipped = with_flipped_labels(read_raw(name), seed)
    found = find_label_errors(Recipe(), raw)
    seconds, processor_seconds = time.monotonic() - began, time.process_time() - processor_began
    hits = int(np.isin(flipped, found.indices).sum())
    return {
        "seed": seed,
        "flipped": len(flipped),
        "listed": len(found),
        "found": accuracy_score(hits, len(flipped)).as_json(),
        "estimated": found.suspects.estimated_errors,
        "agreement": found.agreement.value,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(processor_seconds, 1),  # of all cores: on a busy machine `seconds` tells more of others
    }


def figures_of(name: str, runs: list[dict[str, Any]], target: float) -> list[dict[str, Any]]:
    """What was asked beside what was measured; the worst of the runs decides."""
    least, longest = min(run["found"]["value"] for run in runs), max(run["seconds"] for run in runs)
    found = ", ".join(f"{run['found']['value']:.1%} in {run['listed']:,}" for run in runs)
    short = all(run["listed"] <= 2 * run["flipped"] for run in runs)
    flipped, seeds = f"{runs[0]['flipped']:,} flipped labels", f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    return [
        {
            "name": f"{name}: {flipped} found, in a list of (at most twice as many); {seeds}",
            "asked": f"{target:.0%}",
            "measured": found,
            "reached": bool(least >= target and short),
        },
        {
            "name": f"{name}: time",
            "asked": f"{MOST_SECONDS} s",
            "measured": f"{longest:.0f} s ({max(run['cpu_seconds'] for run in runs):.0f} s of both cores)",
            "reached": longest <= MOST_SECONDS,
        },
    ]


def main(data: Path, seeds: int = 1) -> dict[str, Any]:
    """Measure both sets.

    Args:
        data: the folder that holds mnist/ and fashion-mnist/.
        seeds: draws of the labels that are flipped.

    Returns:
        The runs of each set, and the "figures" for the table.
    """
    os.environ["FOVEA_DATA"] = str(data)
    found = {name: [one(name, seed) for seed in range(seeds)] for name in TARGETS}
    rows = [row for name, target in TARGETS.items() for row in figures_of(name, found[name], target)]
    return {**found, "figures": rows}
