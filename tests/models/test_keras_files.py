"""Keras files of every era are read, or refused by the layer's name where they hold what is not supported."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from fovea.errors import DataError, ModelError, UserError
from fovea.models.build import build_net
from fovea.models.keras.files import KerasModel, read_keras
from fovea.models.keras.write import keras_files
from fovea.settings import ModelSettings

FIXTURES = Path(__file__).parent / "fixtures"
CHAIN = ["chain.keras"], ["chain-whole.h5"], ["chain.json", "chain-legacy.h5"]
BRANCHES = ["branches.keras"], ["branches.weights.h5", "branches.json"], ["branches.json", "branches-legacy.h5"]


def net_of(found: KerasModel) -> torch.nn.Module:
    net = build_net(ModelSettings(layers=found.layers), found.image_shape, found.num_classes, seed=0)
    if found.weights is not None:
        net.load_state_dict(found.weights)
    return net.eval()


def answers(net: torch.nn.Module, images: Any) -> Any:
    with torch.no_grad():
        return torch.softmax(net(torch.from_numpy(images).permute(0, 3, 1, 2)), dim=1).numpy()


@pytest.mark.parametrize("names", [*CHAIN, *BRANCHES], ids="+".join)
def test_files_of_keras_2_answer_as_tensorflow_did(names: list[str]) -> None:
    found = read_keras([FIXTURES / name for name in names])
    kept = np.load(FIXTURES / "keras2-answers.npz")
    kind = names[0].split(".")[0].removesuffix("-whole")
    assert np.abs(answers(net_of(found), kept[f"{kind}_images"]) - kept[f"{kind}_answers"]).max() < 1e-5


def test_a_net_becomes_a_list_of_our_lines_with_notes_about_what_is_not_as_in_keras() -> None:
    chain = read_keras([FIXTURES / "chain.json"])
    assert chain.weights is None
    assert (chain.image_shape, chain.num_classes, chain.name, chain.scales_input) == ((11, 9, 1), 4, "chain", True)
    assert chain.layers[:5] == [
        "scale 0.00392156862745098",
        "conv 4 3x3 same relu",
        "batchnorm momentum 0.9",
        "avgpool 2x2 same",
        "hard_sigmoid 0.2",
    ]
    assert chain.layers[-2:] == ["dense 6 init he_normal tanh", "dense 4"]
    assert any("softmax is left to the loss" in note for note in chain.notes)
    assert any("regularizers" in note and "conv2d" in note for note in chain.notes)
    branches = read_keras([FIXTURES / "branches.keras"])
    assert [next(iter(layer)) for layer in branches.layers if isinstance(layer, dict)] == ["residual", "concat"]


@pytest.mark.parametrize("names", [CHAIN[0], BRANCHES[0]], ids="+".join)
def test_what_is_written_is_read_again_with_the_same_bytes(names: list[str], tmp_path: Path) -> None:
    found = read_keras([FIXTURES / name for name in names])
    files = keras_files(found.layers, found.image_shape, found.num_classes, net_of(found), "again")
    assert (
        files.as_keras()
        == keras_files(found.layers, (found.image_shape), found.num_classes, net_of(found), "again").as_keras()
    )
    (tmp_path / "again.keras").write_bytes(files.as_keras())
    (tmp_path / "again.json").write_text(files.config)
    (tmp_path / "again.weights.h5").write_bytes(files.weights)
    for form in (["again.keras"], ["again.json", "again.weights.h5"]):
        again = read_keras([tmp_path / name for name in form])
        assert again.image_shape == found.image_shape
        ours, theirs = (
            [value.numpy().tobytes() for key, value in model.weights.items() if "num_batches" not in key]
            for model in (again, found)
            if model.weights is not None
        )
        assert ours == theirs
        images = np.random.default_rng(2).uniform(0, 255, (3, *found.image_shape)).astype(np.float32)
        assert np.array_equal(answers(net_of(again), images), answers(net_of(found), images))


def layer(class_name: str, name: str | None = None, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name or class_name.lower(), **config}}


HEAD = [layer("Flatten"), layer("Dense", units=3, activation="softmax")]
INPUT = layer("InputLayer", batch_shape=[None, 8, 8, 1])


def write_net(path: Path, *layers: dict[str, Any], head: bool = True, **more: Any) -> Path:
    """A Sequential of Keras 2's form as JSON."""
    config = {"name": "net", "layers": [*layers, *(HEAD if head else [])]}
    path.write_text(json.dumps({"class_name": "Sequential", "config": config, "keras_version": "2.4.0", **more}))
    return path


KERAS_1 = [
    layer("Convolution2D", "convolution2d_1", nb_filter=2, nb_row=3, nb_col=2, border_mode="same", subsample=[1, 1],
          dim_ordering="tf", bias=True, activation="relu", init="he_normal", batch_input_shape=[None, 6, 6, 1]),
    layer("BatchNormalization", "batchnormalization_1", mode=0, axis=-1, momentum=0.99, epsilon=0.001),
    layer("MaxPooling2D", "maxpooling2d_1", pool_size=[2, 2], strides=[2, 2], border_mode="valid", dim_ordering="tf"),
    layer("Dropout", "dropout_1", p=0.25),
    layer("Flatten", "flatten_1"),
    layer("Dense", "dense_1", output_dim=3, activation="linear", bias=True, init="glorot_uniform"),
    layer("Activation", "activation_1", activation="softmax"),
]  # fmt: skip


def test_a_net_of_keras_1_is_read_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"class_name": "Sequential", "config": KERAS_1}))
    rng = np.random.default_rng(0)
    arrays = {
        "convolution2d_1": {"W": (3, 2, 1, 2), "b": (2,)},
        "batchnormalization_1": {"gamma": (2,), "beta": (2,), "running_mean": (2,), "running_std": (2,)},
        "dense_1": {"W": (18, 3), "b": (3,)},
    }
    kept = {}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        names = [entry["config"]["name"] for entry in KERAS_1]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            paths = [f"{name}_{part}" for part in arrays.get(name, {})]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for path, shape in zip(paths, arrays.get(name, {}).values(), strict=True):
                kept[path] = group[path] = rng.uniform(0.1, 1, shape).astype(np.float32)
    found = read_keras([tmp_path / "old.json", tmp_path / "old.h5"])
    assert found.layers == [
        "conv 2 3x2 same init he_normal relu", "batchnorm", "maxpool 2x2", "dropout 0.25", "flatten", "dense 3",
    ]  # fmt: skip
    assert found.weights is not None
    assert np.array_equal(found.weights["1.weight"].permute(2, 3, 1, 0).numpy(), kept["convolution2d_1_W"][()])
    # By hand: one pixel of the map, through the net up to the norm.
    image = rng.random((1, 6, 6, 1)).astype(np.float32)
    window = np.pad(image[0, :, :, 0], ((1, 1), (0, 1)))[2:5, 3:5]
    kernel, bias = kept["convolution2d_1_W"][()], kept["convolution2d_1_b"][()]
    out = np.maximum((window[:, :, None] * kernel[:, :, 0]).sum(axis=(0, 1)) + bias, 0)
    gamma, beta, mean, variance = (kept[f"batchnormalization_1_{p}"][()] for p in arrays["batchnormalization_1"])
    expected = (out - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    with torch.no_grad():
        ours = net_of(found)[:4](torch.from_numpy(image).permute(0, 3, 1, 2))[0, :, 2, 3]  # type: ignore[index]
    assert np.allclose(ours.numpy(), expected, atol=1e-5)


CUSTOM = {"module": "my_package.layers", "registered_name": "my_package>Conv2D"}
REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "lambda": ([INPUT, layer("Lambda", "square", function=["4wEAAAA=", None, None])], "'square' (Lambda): its code"),
    "unknown": ([INPUT, layer("CapsuleLayer", "caps")], "'caps' (CapsuleLayer): not supported; what is: Activation"),
    "custom": ([INPUT, {**layer("Conv2D", "mine", filters=2, kernel_size=3), **CUSTOM}], "'mine' (Conv2D) is a class"),
    "registered": ([INPUT, layer("Custom>Conv2D", "mine")], "'mine' (Custom>Conv2D) is a class of someone's own"),
    "many units": ([INPUT, layer("Flatten", "f"), layer("Dense", "wide", units=2**31 - 1)], "'wide' (Dense): with it"),
    "many units still": ([INPUT, layer("Flatten", "f"), layer("Dense", "wide", units=10**18)], "'wide' (Dense): its"),
    "wide padding": ([INPUT, layer("ZeroPadding2D", "pad", padding=[90000, 90000])], "'pad' (ZeroPadding2D): with it"),
    "large image": ([layer("InputLayer", "in", batch_shape=[None, 99999, 99999, 3])], "'in' (InputLayer): images of"),
    "open image": ([layer("InputLayer", "in", batch_shape=[None, None, None, 3])], "'in' (InputLayer): it takes [N"),
    "no image": ([layer("InputLayer", "in", batch_shape=[None, 784])], "'in' (InputLayer): it takes [784], expe"),
    "not built": ([layer("Conv2D", "c", filters=2, kernel_size=3)], "does not say the size of the images"),
    "too small": ([INPUT, layer("Conv2D", "c", filters=2, kernel_size=9)], "'c' (Conv2D): its input is 8x8x1: its win"),
    "text": ([INPUT, layer("Conv2D", "c", filters="two", kernel_size=3)], "'c' (Conv2D): its filters is 'two'"),
    "not a number": ([INPUT, layer("Dropout", "d", rate=float("nan"))], "'d' (Dropout): its rate is nan"),
    "theano": ([INPUT, layer("Conv2D", "c", filters=2, kernel_size=3, data_format="chw")], "its data_format is 'chw'"),
    "mixed": ([INPUT, layer("MaxPooling2D", "a", data_format="channels_last"),
               layer("MaxPooling2D", "b", data_format="channels_first")], "'b' (MaxPooling2D): its data_format"),
    "softmax inside": ([INPUT, layer("Softmax", "s"), layer("Conv2D", "c", filters=2, kernel_size=3)], "'s' (Softmax)"),
    "activation": ([INPUT, layer("Activation", "a", activation="my_gelu")], "'a' (Activation): its activation is"),
    "norm axis": ([INPUT, layer("BatchNormalization", "n", axis=1)], "'n' (BatchNormalization): it normalises along"),
    "adapted": ([INPUT, layer("Normalization", "n")], "'n' (Normalization): its mean and variance were adapted"),
    "relu": ([INPUT, layer("ReLU", "r", max_value=1, negative_slope=0.1)], "'r' (ReLU): a maximum and a negative"),
    "prelu": ([INPUT, layer("PReLU", "p")], "'p' (PReLU): a slope for each pixel"),
    "reshape": ([INPUT, layer("Conv2D", "c", filters=2, kernel_size=1), layer("Reshape", "r", target_shape=[16, 8])],
                "'r' (Reshape): only a Reshape"),
    "twice": ([INPUT, layer("Dropout", "d", rate=0.1), layer("Dropout", "d", rate=0.1)], "'d' (Dropout): another lay"),
    "recurrent": ([INPUT, layer("LSTM", "l", units=3)], "'l' (LSTM): not supported"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_supported_is_refused_with_the_layers_name(kind: str, tmp_path: Path) -> None:
    layers, words = REFUSED[kind]
    with pytest.raises(ModelError) as caught:
        read_keras([write_net(tmp_path / "net.json", *layers)])
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'net.json'}: ")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (layer("Dense", "d", units=1, activation="sigmoid"), "'d' (Dense): the net ends in sigmoid"),
        (layer("Dense", "d", units=3, activation="relu"), "'d' (Dense): the net ends in relu"),
        (layer("Conv2D", "c", filters=3, kernel_size=1), "the net ends in a map of 8x8x3"),
    ],
)
def test_another_end_than_softmax_or_plain_numbers_is_refused(end: dict[str, Any], words: str, tmp_path: Path) -> None:
    flat = [] if end["class_name"] == "Conv2D" else [layer("Flatten")]
    with pytest.raises(ModelError) as caught:
        read_keras([write_net(tmp_path / "net.json", INPUT, *flat, end, head=False)])
    assert words in str(caught.value)


def test_an_end_in_plain_numbers_is_taken_for_logits_and_other_habits_are_told(tmp_path: Path) -> None:
    odd = layer("Conv2D", "odd", filters=2, kernel_size=3, trainable=False, dtype="mixed_float16",
                kernel_initializer={"class_name": "Orthogonal", "config": {}}, bias_initializer="ones")  # fmt: skip
    ends = [layer("Flatten"), layer("Dense", units=3)]
    found = read_keras([write_net(tmp_path / "net.json", INPUT, odd, *ends, head=False)])
    told = "; ".join(found.notes)
    for words in ("taken for logits", "frozen in Keras", "mixed_float16", "Orthogonal", "do not start at zero"):
        assert words in told


def functional(path: Path, nodes: dict[str, tuple[dict[str, Any], list[str]]], end: str) -> Path:
    layers = [
        {**entry, "name": name, "inbound_nodes": [[[source, 0, 0, {}] for source in sources]] if sources else []}
        for name, (entry, sources) in nodes.items()
    ]
    config = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [[end, 0, 0]]}
    path.write_text(json.dumps({"class_name": "Functional", "config": config, "keras_version": "2.9.0"}))
    return path


def conv(filters: int = 2) -> dict[str, Any]:
    return {"class_name": "Conv2D", "config": {"filters": filters, "kernel_size": 3, "padding": "same"}}


def test_branches_that_do_not_part_and_join_in_pairs_are_refused(tmp_path: Path) -> None:
    plain = {"class_name": "Add", "config": {}}
    end = {"class_name": "GlobalAveragePooling2D", "config": {}}
    nodes = {"in": (INPUT, []), "a": (conv(), ["in"]), "b": (conv(), ["a"]), "c": (conv(), ["a"])}
    crossed = {**nodes, "d": (plain, ["b", "c"]), "e": (plain, ["d", "b"]), "end": (end, ["e"])}
    with pytest.raises(ModelError, match=r"'b' \(Conv2D\): its output is used by branches that join elsewhere"):
        read_keras([functional(tmp_path / "net.json", crossed, "end")])
    ring = {**nodes, "d": (plain, ["b", "e"]), "e": (conv(), ["d"]), "end": (end, ["e"])}
    with pytest.raises(ModelError, match="among its own inputs"):
        read_keras([functional(tmp_path / "net.json", ring, "end")])
    unequal = {**nodes, "c": (conv(5), ["a"]), "d": (plain, ["b", "c"]), "end": (end, ["d"])}
    with pytest.raises(ModelError, match=r"'d' \(Add\): it adds 8x8x2, 8x8x5, which must be equal"):
        read_keras([functional(tmp_path / "net.json", unequal, "end")])
    missing = {**nodes, "d": (plain, ["b", "z"])}
    with pytest.raises(ModelError, match="names a layer 'z' that it does not hold"):
        read_keras([functional(tmp_path / "net.json", missing, "d")])
    shared = functional(tmp_path / "net.json", {**nodes, "end": (end, ["c"])}, "end")
    text = json.loads(shared.read_text())
    text["config"]["layers"][1]["inbound_nodes"] *= 2
    shared.write_text(json.dumps(text))
    with pytest.raises(ModelError, match=r"'a' \(Conv2D\): it is used several times"):
        read_keras([shared])


SMALL = [INPUT, layer("Conv2D", "conv", filters=2, kernel_size=3)]
SHAPES = {"conv": ((3, 3, 1, 2), (2,)), "dense": ((72, 3), (3,))}


def write_weights(path: Path, change: Callable[[Any], None] | None = None) -> Path:
    """The weights of SMALL in the form of .weights.h5, changed."""
    with h5py.File(path, "w") as file:
        for name, shapes in (("layers/conv2d/vars", SHAPES["conv"]), ("layers/dense/vars", SHAPES["dense"])):
            for number, shape in enumerate(shapes):
                file.create_dataset(f"{name}/{number}", data=np.ones(shape, np.float32))
        if change is not None:
            change(file)
    return path


def replaced(place: str, value: Any = None, **options: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[place]
        if options:
            file.create_dataset(place, **options)
        elif value is not None:
            file[place] = value

    return change


def virtual(file: Any) -> None:
    del file["layers/conv2d/vars/1"]
    layout = h5py.VirtualLayout((2,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2,))
    file.create_virtual_dataset("layers/conv2d/vars/1", layout)


KERNEL, BIAS = "layers/conv2d/vars/0", "layers/conv2d/vars/1"
HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "external link": (replaced(KERNEL, h5py.ExternalLink("/etc/passwd", "/x")), "ExternalLink, which is not followed"),
    "soft link": (replaced(KERNEL, h5py.SoftLink("/layers/dense/vars/0")), "SoftLink, which is not followed"),
    "linked group": (replaced("layers/conv2d", h5py.SoftLink("/layers/dense")), "SoftLink, which is not followed"),
    "virtual": (virtual, "is kept in another file"),
    "external data": (replaced(BIAS, shape=(2,), dtype="f4", external=[("/etc/passwd", 0, 8)]), "kept in another file"),
    "bomb": (replaced(BIAS, shape=(2**34,), dtype="f4", chunks=(2**20,), compression="gzip"), "has the shape (1717986"),
    "chunk bomb": (replaced(BIAS, shape=(2,), maxshape=(None,), dtype="f4", chunks=(2**28,), compression="gzip"),
                   "packed in a way that Keras does not use"),
    "wrong shape": (replaced(KERNEL, np.ones((3, 3, 2, 1), np.float32)), "has the shape (3, 3, 2, 1), expected (3, 3,"),
    "missing": (replaced("layers/conv2d"), "the weights hold no group 'conv2d'"),
    "one array less": (replaced(BIAS), "the file holds 1 arrays for it, expected 2"),
    "text": (replaced(BIAS, np.array([b"a", b"b"])), "expected floating-point numbers"),
    "not finite": (replaced(BIAS, np.array([1, np.nan], np.float32)), "its weights are not finite"),
    "a group": (replaced(BIAS, shape=None, dtype="f4"), "has the shape None"),
}  # fmt: skip


def refusal_of(weights: Path) -> str:
    """What is said of weights that do not fit the small net."""
    with pytest.raises(ModelError) as caught:
        read_keras([write_net(weights.with_name("net.json"), *SMALL), weights])
    return str(caught.value)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_weights_are_refused_with_the_layers_name(kind: str, tmp_path: Path) -> None:
    change, words = HOSTILE[kind]
    told = refusal_of(write_weights(tmp_path / "net.weights.h5", change))
    assert "the layer 'conv' (Conv2D): " in told
    assert words in told


def test_plain_weights_compressed_or_of_another_precision_are_read(tmp_path: Path) -> None:
    config = write_net(tmp_path / "net.json", *SMALL)
    assert read_keras([config, write_weights(tmp_path / "plain.h5")]).weights is not None
    packed = replaced(BIAS, data=np.array([1.5, 2.5], np.float64), chunks=(2,), compression="gzip", shuffle=True)
    found = read_keras([config, write_weights(tmp_path / "packed.h5", packed)])
    assert found.weights is not None
    assert found.weights["0.bias"].tolist() == [1.5, 2.5]

    def brain(file: Any) -> None:
        del file[BIAS]
        file[BIAS] = np.array([0x3FC0, 0x4020], np.uint16)
        file[BIAS].attrs["dtype"] = "bfloat16"

    found = read_keras([config, write_weights(tmp_path / "brain.h5", brain)])
    assert found.weights is not None
    assert found.weights["0.bias"].tolist() == [1.5, 2.5]


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    config = write_net(tmp_path / "net.json", *SMALL)
    with pytest.raises(ModelError, match="its weights are of 6 layers, the net has 2 with weights"):
        read_keras([config, FIXTURES / "chain-legacy.h5"])


NO_KERAS_FILES = {
    "random.keras": random.Random(0).randbytes(5000),
    "picture.h5": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "empty.json": b"",
    "list.json": b"[1, 2]",
    "other.json": b'{"a": 1}',
    "half.json": b'{"class_name": "Sequential", "config": {"layers": [',
    "deep.json": b'{"class_name": "Sequential", "config": ' + b"[" * 100_000,
    "subclassed.json": b'{"class_name": "MyModel", "config": {}}',
    "cut.keras": (FIXTURES / "chain.keras").read_bytes()[:20_000],
    "cut.h5": (FIXTURES / "chain-whole.h5").read_bytes()[:9_000],
    "weights.h5": (FIXTURES / "chain-legacy.h5").read_bytes(),
}


@pytest.mark.parametrize("name", NO_KERAS_FILES)
def test_what_is_no_keras_file_gets_one_message(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(NO_KERAS_FILES[name])
    with pytest.raises(ModelError, match=str(tmp_path / name)) as caught:
        read_keras([tmp_path / name])
    assert len(str(caught.value)) < 400
    with pytest.raises(DataError, match="cannot be read"):
        read_keras([tmp_path / "missing.keras"])


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_that_is_no_keras_file_or_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    config = write_net(tmp_path / "net.json", *SMALL).read_bytes()
    for content, words in (
        (zipped(**{"a.txt": b"x"}), "a zip without config.json"),
        (zipped(**{"config.json": bytes(2**24 + 1)}), "claims 16,777,217 bytes"),
        (zipped(**{"config.json": config, "model.weights.h5": bytes(2**28 + 1)}), "claims 268,435,457 bytes"),
        (zipped(**{"config.json": config, "model.weights.h5": b"nothing"}), "HDF5 data is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=words):
            read_keras([path])


def test_any_damage_gives_a_message_or_the_same_net_and_never_a_traceback(tmp_path: Path) -> None:
    rng = random.Random(1)
    for name in ("chain.keras", "chain-whole.h5"):
        whole = (FIXTURES / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            (tmp_path / name).write_bytes(damaged)
            try:
                read_keras([tmp_path / name])
            except UserError:
                continue


def test_several_files_must_be_a_config_and_its_weights() -> None:
    with pytest.raises(ModelError, match="both say what the net is"):
        read_keras([FIXTURES / "chain.keras", FIXTURES / "chain-whole.h5"])
    with pytest.raises(ModelError, match="3 files were given"):
        read_keras([FIXTURES / "chain.json"] * 3)
    whole = read_keras([FIXTURES / "chain.json", FIXTURES / "chain-whole.h5"])
    assert whole.weights is not None


def test_a_missing_h5py_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'fovea-vision\[keras\]'"):
        read_keras([FIXTURES / "chain.keras"])


@pytest.mark.parametrize(
    "change",
    [
        {"kernel_initializer": [1]},
        {"kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": None}}},
        {"filters": 10**400},
        {"strides": {"a": 1}},
        {"activation": {"class_name": "ReLU", "config": {"max_value": 0}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_keras_does_not_write_gets_one_message(change: dict[str, Any], tmp_path: Path) -> None:
    config = json.loads((FIXTURES / "chain.json").read_text())
    conv = next(entry for entry in config["config"]["layers"] if entry["class_name"] == "Conv2D")
    conv["config"] |= change
    (tmp_path / "odd.json").write_text(json.dumps(config))
    with contextlib.suppress(UserError):  # or it is read without what says nothing
        read_keras([tmp_path / "odd.json"])


def test_a_sum_of_very_many_outputs_gets_one_message(tmp_path: Path) -> None:
    config = json.loads((FIXTURES / "branches.json").read_text())
    add = next(entry for entry in config["config"]["layers"] if entry["class_name"] == "Add")
    add["inbound_nodes"] = [add["inbound_nodes"][0] * 600]
    (tmp_path / "odd.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"odd\.json: "):
        read_keras([tmp_path / "odd.json"])
