"""The real MNIST and Fashion-MNIST, as a new user would call them. Slow: `make test-slow`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fovea
from fovea.cli import app
from fovea.data.load import read_raw

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "least"), [("mnist", 0.985), ("fashion-mnist", 0.85)])
def test_one_epoch_of_a_named_set_is_far_above_chance(real_data: Path, name: str, least: float) -> None:
    result = CliRunner().invoke(app, ["train", name, "--epochs", "1", "--json"])
    assert result.exit_code == 0, result.stderr
    score = json.loads(result.stdout)["test_accuracy"]
    assert score["count"] == 10_000
    assert score["low"] > least


def test_a_named_set_and_the_path_to_it_are_the_same_images(real_data: Path) -> None:
    by_name, by_path = read_raw("fashion-mnist"), read_raw(str(real_data / "fashion-mnist"))
    for part in ("train", "test"):
        assert np.array_equal(by_name.parts[part].images, by_path.parts[part].images)


def test_the_same_images_as_a_folder_of_png_files_train_to_the_same_accuracy(real_data: Path) -> None:
    raw = read_raw("mnist").parts["train"]
    images, labels = raw.images[:4000], raw.labels[:4000]
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = Path("digits-folder") / str(label) / f"{row:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    start = time.monotonic()
    folder = fovea.train("digits-folder", epochs=8, verbose=False)
    arrays = fovea.train((images, labels), epochs=8, verbose=False)
    print(f"{time.monotonic() - start:.0f} s")
    assert folder.test_accuracy is not None
    assert arrays.test_accuracy is not None
    assert folder.classes == arrays.classes
    assert folder.test_accuracy.high is not None
    assert folder.test_accuracy.high > arrays.test_accuracy.value > 0.97
