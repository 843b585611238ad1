"""Against the real Keras: what it saves answers the same here, what is written here answers the same there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import bars

import fovea
from fovea.delivery.keras_export import export_keras
from fovea.errors import ModelError
from fovea.models.build import build_net, complete_model
from fovea.models.keras.files import KerasModel, read_keras
from fovea.models.keras.objects import is_keras_object, keras_model_of
from fovea.models.keras.slots import slots_of
from fovea.models.keras.write import keras_files
from fovea.settings import ModelSettings

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore")]

SHAPES = [(9, 8, 3), (12, 12, 1), (7, 7, 2)]
CLASSES = 5


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


# What stands between the input and a final dense layer; each is built from keras.layers.
LAYERS: dict[str, Callable[[Any], list[Any]]] = {
    "conv same": lambda k: [k.Conv2D(4, 3, padding="same", activation="relu")],
    "conv even kernel": lambda k: [k.Conv2D(4, (2, 4), padding="same", use_bias=False)],
    "conv strides": lambda k: [k.Conv2D(4, 3, strides=2, padding="same"), k.Conv2D(3, 2, strides=(2, 1))],
    "conv dilated": lambda k: [k.Conv2D(4, 2, dilation_rate=2, padding="same"), k.Conv2D(2, 2, dilation_rate=(1, 2))],
    "conv groups": lambda k: [k.Conv2D(4, 1), k.Conv2D(6, 3, groups=2)],
    "depthwise": lambda k: [k.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")],
    "depthwise strides": lambda k: [k.DepthwiseConv2D(2, strides=2, padding="same", use_bias=False)],
    "separable": lambda k: [k.SeparableConv2D(4, 3, depth_multiplier=2, padding="same", activation="relu")],
    "max pool": lambda k: [k.MaxPooling2D(2), k.MaxPooling2D(3, strides=2, padding="same")],
    "average pool": lambda k: [k.AveragePooling2D(2), k.AveragePooling2D((2, 3), strides=1)],
    # Where the padding is uneven Keras' torch backend counts some of it; the files of Keras 2 are TensorFlow's.
    "average pool same": lambda k: [k.AveragePooling2D(3, 1, padding="same"), k.AveragePooling2D(5, 1, padding="same")],
    "global average": lambda k: [k.Conv2D(4, 3), k.GlobalAveragePooling2D()],
    "global average kept": lambda k: [k.Conv2D(4, 3), k.GlobalAveragePooling2D(keepdims=True), k.Conv2D(3, 1)],
    "global maximum": lambda k: [k.Conv2D(4, 3), k.GlobalMaxPooling2D()],
    "batch norm": lambda k: [k.BatchNormalization(), k.Conv2D(4, 3), k.BatchNormalization(scale=False, epsilon=1e-2)],
    "batch norm uncentred": lambda k: [k.Conv2D(4, 3), k.BatchNormalization(center=False, momentum=0.9)],
    "batch norm flat": lambda k: [k.Flatten(), k.Dense(6), k.BatchNormalization(), k.Activation("relu")],
    "dropout": lambda k: [k.Dropout(0.3), k.Flatten(), k.Dropout(0.5)],
    "padding": lambda k: [k.ZeroPadding2D(((1, 2), (0, 3))), k.Conv2D(2, 3), k.Cropping2D(((1, 0), (0, 1)))],
    "rescaling": lambda k: [k.Rescaling(1 / 255, offset=-0.5), k.Conv2D(2, 3)],
    "normalization": lambda k: [k.Normalization(axis=None, mean=100.0, variance=900.0), k.Conv2D(2, 3)],
    "prelu": lambda k: [k.Conv2D(4, 3), k.PReLU(shared_axes=[1, 2]), k.Flatten(), k.Dense(4), k.PReLU()],
    "leaky relu": lambda k: [k.Conv2D(4, 3), k.LeakyReLU(), k.Conv2D(3, 2), k.LeakyReLU(negative_slope=0.1)],
    "activation layers": lambda k: [k.Conv2D(4, 3), k.ReLU(), k.Conv2D(4, 2), k.ELU(0.5), k.ReLU(max_value=0.5)],
    "activation as a layer inside": lambda k: [k.Conv2D(4, 3, activation=k.LeakyReLU(negative_slope=0.2))],
    "reshape": lambda k: [k.Flatten(), k.Dense(8), k.Reshape((8,))],
}
ACTIVATIONS = ["relu", "relu6", "elu", "selu", "gelu", "silu", "swish", "sigmoid", "hard_sigmoid", "tanh", "softplus"]
ACTIVATIONS += ["softsign", "exponential", "linear", "mish", "leaky_relu"]
LAYERS |= {
    f"activation {name}": lambda k, name=name: [k.Conv2D(4, 3, activation=name), k.Conv2D(2, 2), k.Activation(name)]
    for name in ACTIVATIONS
}


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Kernels that keep the signal's size, and small positive numbers for biases and norms."""
    if len(shape) == 1:
        return rng.uniform(0.1, 0.6, shape)
    fan_in = np.prod(shape[:-1]) / (shape[2] if len(shape) == 4 and shape[3] < 3 else 1)
    return rng.normal(0, (3 / max(fan_in, 1)) ** 0.5, shape)


def with_drawn_weights(model: Any) -> Any:
    """Norms and biases too get weights that would show where they were lost."""
    rng = np.random.default_rng(1)
    model.set_weights([drawn(rng, weight.shape) for weight in model.get_weights()])
    return model


def sequential(keras: Any, name: str, shape: tuple[int, int, int]) -> Any:
    layers = LAYERS[name](keras.layers)
    scale = [] if name in ("rescaling", "normalization") else [keras.layers.Rescaling(1 / 255)]
    head = [keras.layers.Flatten(), keras.layers.Dense(CLASSES, activation="softmax")]
    return with_drawn_weights(keras.Sequential([keras.Input(shape), *scale, *layers, *head]))


def images_of(shape: tuple[int, int, int]) -> Any:
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0, 255, (6, 1, 1, shape[2]))
    return (brightness * rng.uniform(0.5, 1, (6, *shape))).astype(np.float32)


def net_of(found: KerasModel) -> torch.nn.Module:
    net = build_net(ModelSettings(layers=found.layers), found.image_shape, found.num_classes, seed=0)
    assert found.weights is not None
    net.load_state_dict(found.weights)
    return net.eval()


def answers(net: torch.nn.Module, images: Any) -> Any:
    with torch.no_grad():
        return torch.softmax(net(torch.from_numpy(images).permute(0, 3, 1, 2)), dim=1).numpy()


def close(ours: Any, theirs: Any) -> None:
    assert np.abs(ours - theirs).max() < 1e-4
    assert theirs.std(axis=0).max() > 0.003, "the answers hardly hang on the images: they would show no mistake"


def both_ways(keras: Any, model: Any, folder: Path, images: Any) -> None:
    """Keras -> ours -> Keras: outputs within 1e-4 each way, weights the same bytes."""
    expected = model.predict(images, verbose=0)
    model.save(folder / "a.keras")
    model.save(folder / "a.h5")
    (folder / "a.json").write_text(model.to_json())
    model.save_weights(folder / "a.weights.h5")
    forms = [["a.keras"], ["a.h5"], ["a.json", "a.weights.h5"], ["a.h5", "a.json"]]
    for form in forms:
        found = read_keras([folder / name for name in form])
        close(answers(net_of(found), images), expected)
    files = keras_files(found.layers, found.image_shape, found.num_classes, net_of(found), "again")
    (folder / "b.keras").write_bytes(files.as_keras())
    (folder / "b.weights.h5").write_bytes(files.weights)
    again = keras.models.load_model(folder / "b.keras")
    close(again.predict(images, verbose=0), expected)
    from_json = keras.models.model_from_json(files.config)
    from_json.load_weights(folder / "b.weights.h5")
    for loaded in (again, from_json):
        pairs = zip(loaded.get_weights(), model.get_weights(), strict=True)
        assert all(ours.tobytes() == theirs.tobytes() for ours, theirs in pairs)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_answers_the_same_both_ways(keras: Any, name: str, tmp_path: Path) -> None:
    for shape in SHAPES if not name.startswith("activation ") else SHAPES[:1]:
        both_ways(keras, sequential(keras, name, shape), tmp_path, images_of(shape))


def test_statistics_that_were_adapted_are_read_from_the_weights(keras: Any, tmp_path: Path) -> None:
    norm = keras.layers.Normalization()
    norm.adapt(images_of((8, 8, 3)))
    head = [keras.layers.Conv2D(3, 3), keras.layers.Flatten(), keras.layers.Dense(CLASSES, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 3)), norm, *head])
    images = images_of((8, 8, 3))
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    for name in ("a.keras", "a.h5"):
        found = read_keras([tmp_path / name])
        close(answers(net_of(found), images), model.predict(images, verbose=0))
        assert found.scales_input


def branched(keras: Any, kind: str) -> Any:
    k = keras.layers
    start = keras.Input((9, 9, 2))
    x = k.Conv2D(4, 3, padding="same")(k.Rescaling(1 / 255)(start))
    if kind == "residual":
        y = k.Conv2D(4, 3, padding="same")(k.BatchNormalization()(x))
        x = k.Add()([x, k.Activation("relu")(y)])
        x = k.Add()([k.Conv2D(6, 1, strides=2)(x), k.Conv2D(6, 3, strides=2, padding="same")(x)])
    elif kind == "three added":
        x = k.Add()([k.Conv2D(4, 1)(x), x, k.DepthwiseConv2D(3, padding="same")(x)])
    elif kind == "operators":
        x = x + k.Conv2D(4, 1)(x)
    elif kind == "long beside short":  # Keras sorts the layers of branches by their distance from the end
        y = k.Conv2D(4, 3, padding="same", activation="tanh")(k.Conv2D(4, 3, padding="same", activation="tanh")(x))
        x = k.Add()([k.Conv2D(4, 3, padding="same", activation="tanh")(x), y])
        x = k.Concatenate()([k.Conv2D(4, 1)(x), k.Conv2D(4, 1)(k.Conv2D(4, 1, activation="tanh")(x))])
    elif kind == "dense blocks":
        for _ in range(3):
            x = k.Concatenate()([x, k.Conv2D(2, 3, padding="same", activation="relu")(x)])
    else:
        inner = k.Conv2D(3, 1)(x)
        inner = k.Concatenate()(
            [k.Conv2D(2, (1, 3), padding="same")(inner), k.Conv2D(2, (3, 1), padding="same")(inner)]
        )
        x = k.Concatenate()([inner, k.Conv2D(3, 1)(x), k.MaxPooling2D(3, 1, padding="same")(x)])
    x = k.Dense(CLASSES)(k.GlobalAveragePooling2D()(x))
    return with_drawn_weights(keras.Model(start, k.Softmax()(x)))


@pytest.mark.parametrize(
    "kind", ["residual", "three added", "operators", "long beside short", "dense blocks", "inception"]
)
def test_branches_that_join_again_answer_the_same_both_ways(keras: Any, kind: str, tmp_path: Path) -> None:
    images = images_of((9, 9, 2))
    model = branched(keras, kind)
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    for name in ("a.keras", "a.h5"):
        found = read_keras([tmp_path / name])
        close(answers(net_of(found), images), expected)
    files = keras_files(found.layers, found.image_shape, found.num_classes, net_of(found), "again")
    (tmp_path / "b.keras").write_bytes(files.as_keras())
    again = keras.models.load_model(tmp_path / "b.keras")
    close(again.predict(images, verbose=0), expected)
    # Branches may stand in another order: the weights are compared by their bytes, whatever layer they are of.
    ours, theirs = (sorted(w.tobytes() for w in found.get_weights()) for found in (again, model))
    assert ours == theirs


def test_maps_with_their_channels_first_answer_the_same(keras: Any, tmp_path: Path) -> None:
    k, first = keras.layers, {"data_format": "channels_first"}
    layers = [k.Conv2D(4, 3, padding="same", **first), k.BatchNormalization(axis=1), k.MaxPooling2D(2, **first)]
    layers += [k.Flatten(**first), k.Dense(CLASSES, activation="softmax")]
    model = with_drawn_weights(keras.Sequential([keras.Input((2, 9, 7)), *layers]))
    images = (images_of((9, 7, 2)) / 255).transpose(0, 3, 1, 2).copy()
    model.save(tmp_path / "a.keras")
    found = read_keras([tmp_path / "a.keras"])
    assert found.image_shape == (9, 7, 2)
    close(answers(net_of(found), images.transpose(0, 2, 3, 1).copy()), model.predict(images, verbose=0))


def test_a_live_model_is_what_its_file_is(keras: Any, tmp_path: Path) -> None:
    for model in (branched(keras, "residual"), sequential(keras, "separable", (9, 8, 3))):
        model.save(tmp_path / "a.keras")
        live, file = keras_model_of(model), read_keras([tmp_path / "a.keras"])
        assert is_keras_object(model)
        assert live.layers == file.layers
        assert live.weights is not None
        assert file.weights is not None
        assert all(torch.equal(live.weights[key], file.weights[key]) for key in file.weights)


def test_a_live_model_is_trained_on_and_its_run_answers_in_keras_again(keras: Any, tmp_path: Path) -> None:
    k = keras.layers
    body = [k.Conv2D(4, 3, activation="relu"), k.BatchNormalization(), k.Flatten(), k.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *body])
    images, _ = bars(20, seed=1)
    run = fovea.train(bars(90), model=model, epochs=1, threads=1, report=False, verbose=False, precision="fp32")
    export_keras(run.path, "net.keras")
    back = keras.models.load_model("net.keras").predict(images[..., None].astype(np.float32), verbose=0)
    close(run.predict(images).probabilities, back)


def test_kernels_start_in_keras_as_they_do_here(keras: Any) -> None:
    layers = ["conv 4 3x3 init he_normal", "depthwise 3x3 init zeros", "sepconv 3 2x2 init lecun_uniform", "flatten"]
    layers.append("dense 3 init glorot_normal")
    net = build_net(ModelSettings(layers=layers), (8, 8, 1), 3, seed=0)
    conv, depthwise, separable, _, dense = keras.models.model_from_json(
        keras_files(layers, (8, 8, 1), 3, net, "net").config
    ).layers
    starts = [conv.kernel_initializer, depthwise.depthwise_initializer, separable.depthwise_initializer]
    starts += [separable.pointwise_initializer, dense.kernel_initializer]
    names = [type(start).__name__ for start in starts]
    assert names == ["HeNormal", "Zeros", "LecunUniform", "LecunUniform", "GlorotNormal"]


def test_an_activation_of_someones_own_is_refused_and_keras_own_is_read(keras: Any, tmp_path: Path) -> None:
    k = keras.layers
    own = keras.saving.register_keras_serializable("my_pkg", "ReLU")(type("ReLU", (k.Layer,), {}))

    def written(activation: Any) -> Path:
        body = [k.Conv2D(4, 3, activation=activation), k.Flatten(), k.Dense(3, activation="softmax")]
        path = tmp_path / "net.json"
        path.write_text(keras.Sequential([keras.Input((8, 8, 1)), *body]).to_json())
        return path

    for activation in ("relu", keras.activations.relu, k.ReLU()):
        assert read_keras([written(activation)]).layers[0] == "conv 4 3x3 relu"
    with pytest.raises(ModelError, match="is someone's own \\(my_pkg>ReLU\\)"):
        read_keras([written(own())])


ZOO = ["lenet5", "resnet20", "p1", "p2-answer", "p4-conv", "p4-dense", "small", "airbench-tiny", "strided-tiny"]


@pytest.mark.parametrize("name", ZOO)
def test_our_nets_answer_the_same_in_keras_and_come_back(keras: Any, name: str, tmp_path: Path) -> None:
    shape = (28, 28, 1)
    settings = complete_model(ModelSettings(name=name), shape)
    net = build_net(settings, shape, CLASSES, seed=3).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for module in net.modules():
            for slot in slots_of(module, ""):  # of a norm without a gain that is trained, all but the gain
                place = module.get_parameter(slot.key) if "running" not in slot.key else module.get_buffer(slot.key)
                place.copy_(slot.to_torch(drawn(rng, slot.shape).astype(np.float32)))
    assert settings.layers is not None
    files = keras_files(settings.layers, shape, CLASSES, net, name)
    assert files == keras_files(settings.layers, shape, CLASSES, net, name)
    (tmp_path / "a.keras").write_bytes(files.as_keras())
    images = images_of(shape) / 255
    model = keras.models.load_model(tmp_path / "a.keras")
    close(answers(net, images), model.predict(images, verbose=0))
    back = read_keras([tmp_path / "a.keras"])
    ours = list(net.state_dict().values())
    assert back.weights is not None
    assert all(torch.equal(a, b) for a, b in zip(ours, back.weights.values(), strict=True) if a.dim())


def program(keras: Any, name: str) -> Any:
    """The five programs' nets as their own code writes them, narrower where they are wide."""
    k = keras.layers
    if name == "P0":
        pair = lambda: [k.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]  # noqa: E731
        body = [*pair(), k.MaxPooling2D(), k.Dropout(0.2), *pair(), k.MaxPooling2D((2, 2)), k.Dropout(0.2)]
        body += [k.Conv2D(16, 3, padding="Same", activation="relu"), k.Flatten(), k.Dense(64, activation="relu")]
        return keras.Sequential([keras.Input((28, 28, 1)), *body, k.Dense(10, activation="softmax")])
    if name == "P1":
        body = [k.Conv2D(32, (5, 5), padding="Same", activation="relu") for _ in range(2)]
        body += [k.MaxPool2D(pool_size=(2, 2)), k.Dropout(0.25)]
        body += [k.Conv2D(64, (3, 3), padding="Same", activation="relu") for _ in range(2)]
        body += [k.MaxPool2D(pool_size=(2, 2), strides=(2, 2)), k.Dropout(0.25), k.Flatten()]
        body += [k.Dense(256, activation="relu"), k.Dropout(0.25)]
        return keras.Sequential([keras.Input((28, 28, 1)), *body, k.Dense(10, activation="softmax")])
    if name == "P2":
        body = [k.Conv2D(64, (3, 3), kernel_initializer="he_normal"), k.Activation("relu"), k.MaxPooling2D((2, 2))]
        body += [k.Conv2D(32, (2, 2)), k.Activation("relu"), k.MaxPooling2D((2, 2)), k.Flatten(), k.Dense(64)]
        body += [k.Activation("relu"), k.Dropout(0.4), k.Dense(10), k.Activation("softmax")]
        return keras.Sequential([keras.Input((32, 32, 3)), *body])
    if name == "P3":
        body = [k.Conv2D(8, (5, 5), activation="relu", padding="same") for _ in range(3)]
        body += [k.Flatten(), k.Dense(32, activation="relu"), k.Dense(19, activation="relu"), k.Dropout(0.5)]
        return keras.Sequential([keras.Input((28, 28, 1)), *body, k.Dense(10, activation="softmax")])
    body = [k.Conv2D(64, (3, 3), activation="relu"), k.MaxPooling2D(2, 2), k.Conv2D(64, (3, 3), activation="relu")]
    body += [k.MaxPooling2D(2, 2), k.Flatten(), k.Dense(128, activation="relu")]
    return keras.Sequential([keras.Input((28, 28, 1)), *body, k.Dense(10, activation="softmax")])


@pytest.mark.parametrize("name", ["P0", "P1", "P2", "P3", "P4"])
def test_the_nets_of_the_five_programs_answer_the_same_both_ways(keras: Any, name: str, tmp_path: Path) -> None:
    model = with_drawn_weights(program(keras, name))
    both_ways(keras, model, tmp_path, images_of(model.input_shape[1:]) / 255)
