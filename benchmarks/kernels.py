"""Measure the ways of a convolution's weight gradient over the shapes of small nets: what kernels.yaml rests on.

    python benchmarks/kernels.py

The ways are timed in turns, medians of 9; the table goes to stdout, the figures to benchmarks/results/kernels.json
under the CPU's feature, precision and threads. The rules
in src/fovea/training/kernels.yaml are written by hand from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fovea.evaluation.predictions import cpu_has_bf16
from fovea.runfolder import now_utc, processor_name
from fovea.settings import TrainingSettings
from fovea.training.hardware import applied, choose_hardware
from fovea.training.kernels import TORCH, ConvolutionShape, time_kernels

RESULTS = Path(__file__).resolve().parent / "results" / "kernels.json"
BATCH = 500
CHANNELS = ((32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256))
SIDES = (2, 3, 4, 5, 6, 7, 8, 14, 15, 16)


def shapes() -> list[ConvolutionShape]:
    return [
        ConvolutionShape(BATCH, inner, outer, side, side, (3, 3), (1, 1), (1, 1))
        for side in SIDES
        for inner, outer in CHANNELS
    ]


def main() -> None:
    hardware = choose_hardware(TrainingSettings(device="cpu"))
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
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[key] = {
        "cpu": processor_name(),
        "torch": torch.__version__,
        "date": now_utc(),
        "batch": BATCH,
        "milliseconds": rows,
    }
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
