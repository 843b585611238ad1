"""Fovea as a contender: `fovea.train` on arrays, timed by a callback; what is timed is what a user runs.

    python benchmarks/worker_fovea.py SPEC    (see workloads.Job.spec; started by the driver)

Saving a state once a minute falls outside the timed steps.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fovea
from chunks import Chunks, own_stdout

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Timing(fovea.Callback):
    """Hands each step on to the chunks."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self.parameters = 0

    def on_step(self, state: Any) -> None:
        if not self.parameters:
            self.parameters = sum(parameter.numel() for parameter in state.net.parameters())
        self.chunks.step_done()


def random_set(count: int, image_shape: list[int], seed: int) -> Arrays:
    """Images uint8 [count, H, W, C] and labels int64 [count] of ten classes."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 256, (count, *image_shape), np.uint8)
    return images, np.arange(count) % 10


def main() -> None:
    spec = json.loads(sys.argv[1])
    answers = own_stdout()
    timing: Timing
    timing = Timing(Chunks(lambda: timing.parameters, answers))
    plain = {"featurewise_center": False, "featurewise_std_normalization": False} if spec["layers"] else {}
    optional = {} if spec["lr"] is None else {"lr": spec["lr"]}
    with tempfile.TemporaryDirectory() as folder:
        fovea.train(
            random_set(spec["num_images"], spec["image_shape"], 0),
            val_data=random_set(500, spec["image_shape"], 1),
            test_data=random_set(500, spec["image_shape"], 2),
            model=spec["model"],
            batch_size=spec["batch_size"],
            optimizer=spec["optimizer"],
            epochs=20,  # planned as long as real trainings are: short ones do without compiled kernels
            augmentation="none",
            test=False,
            report=False,
            verbose=False,
            callbacks=[timing],
            out=folder,
            **(plain | optional | spec["augmentation"] | spec["settings"]),
        )
    raise SystemExit("the images were used up before the last question")


if __name__ == "__main__":
    main()
