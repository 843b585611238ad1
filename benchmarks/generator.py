"""Augmented batches a second, side by side with Keras' real ImageDataGenerator, with P1's settings on MNIST.

    python benchmarks/generator.py [--data DATA] [--rounds N]

Each makes batches of 100 as training takes them, from uint8 images in memory to float32 inputs in 0..1 and labels:
Fovea one epoch in a turn, Keras (on its torch backend) a sixth of one. They take turns in one process, in reverse order
every other round; nothing is trained. Results go to benchmarks/results/generator.json, the table to
benchmarks/generator.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chunks import Clock
from fovea.data.augment import complete_augmentation
from fovea.data.batches import TrainBatches
from fovea.data.imageset import ImageSet
from fovea.data.load import read_raw
from fovea.data.pixels import check_images
from fovea.data.preprocess import fit_preprocessor
from fovea.settings import AugmentationSettings, PreprocessingSettings, TrainingSettings
from fovea.training.hardware import applied, choose_hardware
from machine import describe_machine
from measure import spread

HERE = Path(__file__).resolve().parent
P1 = {"rotation_range": 10, "zoom_range": 0.1, "width_shift_range": 0.1, "height_shift_range": 0.1}
BATCH_SIZE = 100
KERAS_BATCHES = 100  # of a turn
PLAIN = {"featurewise_center": False, "featurewise_std_normalization": False}


def fovea_turns(images: ImageSet) -> Iterator[int]:
    """An epoch of batches each time it is asked; how many images they held."""
    batches = TrainBatches(
        images,
        fit_preprocessor(images.images, PreprocessingSettings.model_validate(PLAIN), None),
        complete_augmentation(AugmentationSettings.model_validate(P1), "none"),
        BATCH_SIZE,
        seed=0,
        steps_per_epoch=len(images) // BATCH_SIZE,
    )
    epoch = 0
    while True:
        epoch += 1
        yield sum(len(batch.inputs) for batch in batches.epoch(epoch))


def keras_turns(images: ImageSet) -> Iterator[int]:
    """The same from Keras' generator, which goes on where it stopped."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    flow = ImageDataGenerator(**P1, rescale=1 / 255).flow(
        np.asarray(images.images), images.labels, batch_size=BATCH_SIZE, seed=0
    )
    while True:
        yield sum(len(next(flow)[0]) for _ in range(KERAS_BATCHES))


def measure(turns: dict[str, Iterator[int]], rounds: int) -> dict[str, Any]:
    """Images a second of each, their ratio within each round, and the share of the cores that others took."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    others: list[float] = []
    for number in range(-1, rounds):  # the first round is not counted
        for name in turns if number % 2 == 0 else reversed(turns):
            begun = Clock()
            count = next(turns[name])
            took = begun.until(Clock())
            if number >= 0:
                rates[name].append(count / took["seconds"])
                others.append(took["others_fraction"] or 0.0)
    ratios = [ours / theirs for ours, theirs in zip(rates["fovea"], rates["keras"], strict=True)]
    return {
        "images_per_second": {name: spread(found) for name, found in rates.items()},
        "ratio": spread(ratios),
        "others_fraction": round(statistics.median(others), 3),
    }


def page(results: dict[str, Any]) -> str:
    """benchmarks/generator.md."""
    machine, rates = results["machine"], results["images_per_second"]
    ours, theirs = ({key: f"{found[key]:,.0f}" for key in ("median", "low", "high")} for found in rates.values())
    ratio = results["ratio"]
    lines = [
        "# Augmented batches",
        "",
        "`make bench-generator` writes this page: MNIST in batches of 100 with P1's settings (rotation 10 degrees, "
        "zoom and shifts .1), from uint8 in memory to float32 inputs and labels, in turns in one process. Medians of "
        f"{ratio['count']} rounds with the lowest and the highest; the ratio is taken within each round. "
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, Keras {machine['keras']} on "
        f"torch, {machine['time'][:10]}. Other processes took {results['others_fraction']:.0%} of the cores' time.",
        "",
        "| who | images a second |",
        "|---|---|",
        f"| Fovea | {ours['median']} ({ours['low']} to {ours['high']}) |",
        f"| Keras' ImageDataGenerator | {theirs['median']} ({theirs['low']} to {theirs['high']}) |",
        "",
        f"Fovea is {ratio['median']:.1f} times as fast ({ratio['low']:.1f} to {ratio['high']:.1f}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # Keras' call of scipy
    import keras

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder that holds MNIST; else it is looked for as in training")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if given.data is not None:
        os.environ["FOVEA_DATA"] = str(given.data.resolve())
    train = read_raw("mnist").parts["train"]
    pixels = np.asarray(check_images(train.images, "mnist"))
    labels = np.ravel(np.asarray(train.labels)).astype(np.int64)
    images = ImageSet(pixels, labels, tuple("0123456789"), np.arange(len(labels)))
    with applied(choose_hardware(TrainingSettings(device="cpu"))):
        found = measure({"fovea": fovea_turns(images), "keras": keras_turns(images)}, given.rounds)
    machine = {**describe_machine(), "keras": keras.__version__}
    results = {"machine": machine, "settings": {**P1, "batch_size": BATCH_SIZE}, **found}
    (HERE / "results" / "generator.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (HERE / "generator.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
