"""Files of weights: groups as each Keras names them, and data that no Keras writes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fovea.errors import ModelError
from fovea.models.keras.files import read_keras
from tests.models.test_keras_files import INPUT, layer, write_net

TWO_OF_EACH = [
    INPUT,
    layer("Conv2D", "first", filters=2, kernel_size=3),
    layer("Conv2D", "second", filters=2, kernel_size=3),
    layer("Flatten", "flat"),
    layer("Dense", "third", units=32),
    layer("Dense", "fourth", units=3, activation="softmax"),
]
SHAPES = [((3, 3, 1, 2), (2,)), ((3, 3, 2, 2), (2,)), ((32, 32), (32,)), ((32, 3), (3,))]
PLAIN = ["conv2d", "conv2d_1", "dense", "dense_1"]
TWICE = ["conv2d", "conv2d_2", "dense", "dense_2"]  # Keras 2.12
ROOT_2_12 = "_layer_checkpoint_dependencies"


def write_groups(path: Path, root: str, names: list[str], link: bool = False) -> Path:
    """The weights of TWO_OF_EACH, drawn from a fixed seed, below root + name."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, shapes in zip(names, SHAPES, strict=True):
            for number, shape in enumerate(shapes):
                file[f"{root}{name}/vars/{number}"] = rng.normal(size=shape).astype(np.float32)
        if link:
            file.move(f"{root}{names[0]}", "elsewhere")
            file[f"{root}{names[0]}"] = h5py.SoftLink("/elsewhere")
    return path


@pytest.mark.parametrize(
    ("root", "names"),
    [
        (f"{ROOT_2_12}/", TWICE),
        (f"{ROOT_2_12}\\", TWICE),
        ("layers\\", PLAIN),
    ],
)
def test_groups_are_found_as_keras_2_12_and_windows_name_them(root: str, names: list[str], tmp_path: Path) -> None:
    config = write_net(tmp_path / "net.json", *TWO_OF_EACH, head=False)
    expected = read_keras([config, write_groups(tmp_path / "plain.weights.h5", "layers/", PLAIN)]).weights
    found = read_keras([config, write_groups(tmp_path / "odd.weights.h5", root, names)]).weights
    assert expected is not None
    assert found is not None
    assert all(found[key].equal(expected[key]) for key in expected)


def test_windows_groups_are_reached_over_hard_links_only(tmp_path: Path) -> None:
    config = write_net(tmp_path / "net.json", *TWO_OF_EACH, head=False)
    weights = write_groups(tmp_path / "net.weights.h5", "layers\\", PLAIN, link=True)
    with pytest.raises(ModelError, match="SoftLink, which is not followed"):
        read_keras([config, weights])
