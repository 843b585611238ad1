"""Files of weights: groups as each Keras names them, and data that no Keras writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.models.test_keras_files import BIAS, INPUT, SMALL, layer, refusal_of, replaced, write_net, write_weights

from fovea.errors import ModelError
from fovea.models.keras.files import read_keras

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


def time_dataset(file: h5py.File, place: str) -> None:
    """A dataset of HDF5's time type, which numpy does not have."""
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, place.encode(), h5py.h5t.UNIX_D32LE, space)


def time_attribute(file: h5py.File, name: str) -> None:
    h5py.h5a.create(file.id, name.encode(), h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((2,)))


def of_times(file: h5py.File) -> None:
    del file[BIAS]
    time_dataset(file, BIAS)


def named_in_bytes(dtype: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs.create("layer_names", np.array([b"\xff\xfe"], object), dtype=dtype)

    return change


HOSTILE_FILES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "layers is a number": (replaced("layers", 1.0), "in its HDF5 data 'layers' is an array where a group should be"),
    "vars is a number": (
        replaced("layers/conv2d/vars", 1.0),
        "the layer 'conv' (Conv2D): in its HDF5 data 'conv2d/vars' is an array where a group should be",
    ),
    "short names are no text": (named_in_bytes("S2"), "is missing"),
    "names are no text": (named_in_bytes(h5py.string_dtype()), "HDF5 data is damaged"),
    "an array of times": (of_times, "the layer 'conv' (Conv2D): its HDF5 data is damaged or cut short (No NumPy"),
    "names of times": (lambda file: time_attribute(file, "layer_names"), "HDF5 data is damaged"),
    "a config of times": (lambda file: time_attribute(file, "model_config"), "HDF5 data is damaged"),
    "never written": (
        replaced(BIAS, shape=(2,), dtype="f4", chunks=(2,), compression="gzip"),
        "the layer 'conv' (Conv2D): its array '1' was never written",
    ),
    "too large for float32": (replaced(BIAS, np.array([1, 1e300])), "the layer 'conv' (Conv2D): its weights are not"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_data_that_no_keras_writes_gets_one_message_with_the_name_of_the_file(kind: str, tmp_path: Path) -> None:
    change, words = HOSTILE_FILES[kind]
    weights = write_weights(tmp_path / "net.weights.h5", change)
    told = refusal_of(weights)
    assert told.startswith(f"{weights}: ")
    assert words in told


def test_an_array_that_costs_a_hundred_times_its_bytes_is_refused(tmp_path: Path) -> None:
    wide = [INPUT, layer("Flatten", "flat"), layer("Dense", "wide", units=8192), layer("Dense", "end", units=2)]
    config = write_net(tmp_path / "net.json", *wide, head=False)
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        kernel = file.create_dataset("layers/dense/vars/0", (64, 8192), "f8", chunks=(64, 64), compression="gzip")
        kernel[:, :64] = 1.0  # of 128 chunks one is there
        file["layers/dense/vars/1"] = np.zeros(8192, np.float32)
        file.create_group("layers/dense_1/vars")
    with pytest.raises(ModelError, match=r"'wide' \(Dense\): its array '0' has 4,194,304 bytes, packed into"):
        read_keras([config, tmp_path / "net.weights.h5"])


def test_each_file_is_blamed_for_what_stands_in_it(tmp_path: Path) -> None:
    square = layer("Lambda", "square", function=["4wEAAAA=", None, None])
    config = write_net(tmp_path / "net.json", *SMALL, square)
    with pytest.raises(ModelError, match=r"'square' \(Lambda\)") as caught:
        read_keras([config, write_weights(tmp_path / "net.weights.h5")])
    assert str(caught.value).startswith(f"{config}: ")
