"""What a config says of activations, starts, sides and names means what it does in Keras, or is refused in bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models.test_keras_files import INPUT, KERAS_1, layer, write_net

from fovea.errors import ModelError
from fovea.models.build import build_net
from fovea.models.keras.files import read_keras
from fovea.models.keras.write import keras_files
from fovea.settings import ModelSettings


def refusal(path: Path, *layers: dict[str, Any], head: bool = True) -> str:
    with pytest.raises(ModelError) as caught:
        read_keras([write_net(path / "net.json", *layers, head=head)])
    return str(caught.value)


@pytest.mark.parametrize("end", [[], [layer("Softmax", "s")]], ids=["logits", "softmax"])
def test_a_net_that_ends_in_one_number_is_refused_with_what_to_do(end: list[dict[str, Any]], tmp_path: Path) -> None:
    told = refusal(tmp_path, INPUT, layer("Flatten"), layer("Dense", "one", units=1), *end, head=False)
    assert "the layer 'one' (Dense): the net ends in one number" in told
    assert "end it in Dense(2" in told


@pytest.mark.parametrize("behind", [[layer("Flatten", "f")], [layer("Flatten", "f"), layer("Dropout", "d", rate=0.1)]])
def test_a_sigmoid_at_the_end_is_refused_behind_layers_that_change_no_values(behind: Any, tmp_path: Path) -> None:
    conv = layer("Conv2D", "c", filters=3, kernel_size=8, padding="same", strides=8, activation="sigmoid")
    told = refusal(tmp_path, INPUT, conv, *behind, head=False)
    assert "the layer 'c' (Conv2D): the net ends in sigmoid" in told


def test_a_reshape_of_the_input_leaves_a_side_to_keras(tmp_path: Path) -> None:
    first = layer("InputLayer", "in", batch_shape=[None, 64])
    for target in ([8, 8, -1], [-1, 8, 1]):
        found = read_keras([write_net(tmp_path / "net.json", first, layer("Reshape", "r", target_shape=target))])
        assert found.image_shape == (8, 8, 1)
    told = refusal(tmp_path, first, layer("Reshape", "r", target_shape=[7, 7, -1]))
    assert "expected images" in told


def function(name: str, module: str = "builtins", registered: str | None = "function") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered}


FOREIGN: dict[str, dict[str, Any]] = {
    "a class": {"module": "my_pkg.acts", "class_name": "ReLU", "config": {}, "registered_name": "my_pkg>ReLU"},
    "a class's module": {"module": "my_pkg.acts", "class_name": "ReLU", "config": {}},
    "a class's name": {"class_name": "my_pkg>ReLU", "config": {}},
    "a function": function("relu", registered="my_pkg>relu"),
    "a function's module": function("relu", module="my_pkg.acts"),
    "a function's name": function("my_pkg>relu"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_activation_of_someones_own_is_refused_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    told = refusal(tmp_path, INPUT, layer("Conv2D", "c", filters=2, kernel_size=3, activation=FOREIGN[kind]))
    assert "the layer 'c' (Conv2D): its activation" in told
    assert "is someone's own (my_pkg" in told


@pytest.mark.parametrize(
    "value",
    [
        function("relu"),
        function("relu", module="keras.activations", registered="relu"),
        {"module": "keras.layers", "class_name": "ReLU", "config": {}, "registered_name": None},
        {"class_name": "ReLU", "config": {}},
    ],
)
def test_an_activation_of_keras_own_is_read_in_every_form(value: dict[str, Any], tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.json", INPUT, layer("Conv2D", "c", filters=2, kernel_size=3, activation=value))
    assert read_keras([path]).layers[0] == "conv 2 3x3 relu"


def test_refusals_and_notes_are_bounded_and_printable(tmp_path: Path) -> None:
    escape = "\x1b[31m\n"
    long = "n" * 100_000
    for odd in (
        layer("LSTM", long),
        layer(f"LSTM{escape}{long}", "l"),
        {**layer(f"LSTM{escape}{long}", "l"), "module": "mine"},
        layer("Conv2D", "c", filters=2, kernel_size=3, activation=function(escape + long, registered=escape + long)),
        layer("Conv2D", "c", filters=2, kernel_size=3, padding=long),
    ):
        told = refusal(tmp_path, INPUT, odd).removeprefix(str(tmp_path))
        assert len(told) < 1100
        assert told.isprintable()
    start = {"class_name": escape + long, "config": {}}
    odd = layer("Conv2D", long, filters=2, kernel_size=3, kernel_initializer=start, trainable=False)
    notes = read_keras([write_net(tmp_path / "net.json", INPUT, odd)]).notes
    assert any("frozen" in note for note in notes)
    assert all(len(note) <= 500 and note.isprintable() for note in notes)


def test_layers_that_act_in_training_alone_are_left_out_and_named(tmp_path: Path) -> None:
    conv = layer("Conv2D", "c", filters=2, kernel_size=3)
    flip, noise = layer("RandomFlip", "flip", mode="horizontal"), layer("GaussianNoise", "noise", stddev=0.1)
    found = read_keras([write_net(tmp_path / "net.json", INPUT, flip, conv, noise)])
    plain = read_keras([write_net(tmp_path / "plain.json", INPUT, conv)])
    assert found.layers == plain.layers
    assert any("augmentation is a setting here): flip, noise" in note for note in found.notes)


def test_a_subclassed_model_is_named_in_bounded_words(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(json.dumps({"class_name": "\x1bMine" + "n" * 100_000, "config": {}}))
    with pytest.raises(ModelError, match="it is a ") as caught:
        read_keras([tmp_path / "net.json"])
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_four_sides_of_keras_1_are_top_bottom_left_right(tmp_path: Path) -> None:
    pad = layer("ZeroPadding2D", "zeropadding2d_1", padding=[1, 2, 3, 4], dim_ordering="tf",
                batch_input_shape=[None, 6, 6, 1])  # fmt: skip
    (tmp_path / "old.json").write_text(json.dumps({"class_name": "Sequential", "config": [pad, *KERAS_1]}))
    assert read_keras([tmp_path / "old.json"]).layers[0] == "zeropad 1,2,3,4"


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_float32_are_refused_without_a_warning(tmp_path: Path) -> None:
    for odd in (layer("Rescaling", "r", scale=[1e300]), layer("Normalization", "r", mean=[1e300], variance=[1.0])):
        assert "float32" in refusal(tmp_path, INPUT, odd)


def test_starts_are_written_and_read_again(tmp_path: Path) -> None:
    layers = [
        "conv 2 3x3 same init he_normal relu",
        "depthwise 3x3 init lecun_uniform",
        "sepconv 3 3x3 init glorot_normal",
        "flatten",
        "dense 4 init he_uniform tanh",
        "dense 3 init zeros",
    ]
    net = build_net(ModelSettings(layers=layers), (8, 8, 1), 3, seed=0)
    (tmp_path / "net.json").write_text(keras_files(layers, (8, 8, 1), 3, net, "net").config)
    assert read_keras([tmp_path / "net.json"]).layers == layers
    plain = ["conv 2 3x3 relu", "flatten", "dense 3 init he_normal"]
    net = build_net(ModelSettings(layers=plain), (8, 8, 1), 3, seed=0)
    (tmp_path / "net.json").write_text(keras_files(plain, (8, 8, 1), 3, net, "net", "lecun_normal").config)
    assert read_keras([tmp_path / "net.json"]).layers[0] == "conv 2 3x3 init lecun_normal relu"
