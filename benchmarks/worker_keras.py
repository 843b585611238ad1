"""Keras as a contender: `model.fit` on float arrays as its users call it, timed by a callback.

    python benchmarks/worker_keras.py SPEC    (see workloads.Job.spec; started by the driver in the peers' environment)

The callback reads the loss after each step, as Keras' own progress bar does. Initializers are left at their defaults:
they have no part in the speed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

from chunks import Chunks, own_stdout

SPEC = json.loads(sys.argv[1])
os.environ["KERAS_BACKEND"] = SPEC["settings"]["backend"]  # read when keras is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ANSWERS = own_stdout()

import keras  # noqa: E402


class Timing(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands each step on to the chunks."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self.chunks = chunks

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.chunks.step_done(lambda: float((logs or {})["loss"]))


def build(spec: dict[str, Any]) -> Any:
    """A Sequential of the workload's layers and a softmax over ten classes."""
    made = [keras.layers.Input(tuple(spec["image_shape"]))]
    for kind, *values in spec["layers"]:
        if kind == "conv":
            made.append(keras.layers.Conv2D(values[0], values[1], padding=values[2], activation="relu"))
        elif kind == "dense":
            made.append(keras.layers.Dense(values[0], activation="relu"))
        else:
            simple = {
                "pool": keras.layers.MaxPooling2D,
                "dropout": keras.layers.Dropout,
                "flatten": keras.layers.Flatten,
            }
            made.append(simple[kind](*values))
    return keras.Sequential([*made, keras.layers.Dense(10, activation="softmax")])


def main() -> None:
    keras.config.set_dtype_policy(SPEC["settings"]["policy"])
    model = build(SPEC)
    optimizers = {"rmsprop": keras.optimizers.RMSprop, "adam": keras.optimizers.Adam}
    kind = "sparse_categorical_crossentropy" if SPEC["sparse"] else "categorical_crossentropy"
    model.compile(
        optimizer=optimizers[SPEC["optimizer"]](learning_rate=SPEC["lr"]),
        loss=kind,
        metrics=["accuracy"],
        jit_compile=SPEC["settings"]["jit_compile"],
    )
    count = SPEC["num_images"]
    images = np.random.default_rng(0).integers(0, 256, (count, *SPEC["image_shape"]), np.uint8).astype("float32") / 255
    labels = np.arange(count) % 10
    labels = labels if SPEC["sparse"] else keras.utils.to_categorical(labels, 10)
    timing = Timing(Chunks(model.count_params, ANSWERS))
    if SPEC["augmentation"]:
        from keras.src.legacy.preprocessing.image import ImageDataGenerator

        flow = ImageDataGenerator(**SPEC["augmentation"]).flow(images, labels, batch_size=SPEC["batch_size"])
        model.fit(flow, epochs=1, verbose=0, callbacks=[timing])
    else:
        model.fit(images, labels, batch_size=SPEC["batch_size"], epochs=1, verbose=0, callbacks=[timing])
    raise SystemExit("the images were used up before the last question")


if __name__ == "__main__":
    main()
