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


LAYOUTS = {
    "mnist": 60_000,
    "fashion-mnist": 60_000,
    "cifar-10-batches-bin": 50_000,
    "cifar-10-batches-py": 50_000,
    "digit-recognizer": 42_000,
    "digit-recognizer/train.csv": 42_000,
    "npz/mnist.npz": 60_000,
    "npz/fashion-mnist.npz": 60_000,
    "npz/cifar10.npz": 50_000,
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_of_the_real_sets_trains_with_one_command(real_data: Path, layout: str) -> None:
    if not (real_data / layout).exists():
        pytest.skip(f"{real_data} has no {layout}")
    facts = json.loads(CliRunner().invoke(app, ["data", str(real_data / layout), "--json"]).stdout)
    assert facts["parts"]["train"]["count"] == LAYOUTS[layout]
    assert facts["findings"] == []
    command = ["train", str(real_data / layout), "--model", "p4-dense", "--epochs", "1", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["test_accuracy"]["low"] > 0.3


def test_cifar_10_is_the_same_in_all_its_formats(real_data: Path) -> None:
    places = [real_data / name for name in ("cifar-10-batches-bin", "cifar-10-batches-py", "npz/cifar10.npz")]
    if not all(place.exists() for place in places):
        pytest.skip(f"{real_data} has CIFAR-10 not in all formats")
    first, *others = (read_raw(place) for place in places)
    for other in others:
        for part, found in first.parts.items():
            assert np.array_equal(found.images, other.parts[part].images)
            assert np.array_equal(found.labels, np.ravel(other.parts[part].labels))
