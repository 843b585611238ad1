"""Keras files at the faces: imported, exported, trained; what a user can get wrong has one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.conftest import bars, shell

import fovea
from fovea.data.preprocess import Preprocessor
from fovea.delivery.keras_export import preprocessing_layers
from fovea.models.build import build_net
from fovea.models.keras.files import read_keras
from fovea.models.layers import build_layers
from fovea.settings import ModelSettings

FIXTURES = Path(__file__).parents[1] / "models" / "fixtures"
CHAIN = str(FIXTURES / "chain.keras")  # 11x9 grey images, 4 classes, with a Rescaling layer
PLAIN = ["conv 4 3x3 relu", "batchnorm", "flatten", "dense classes"]


def probabilities(file: Path, images: Any) -> Any:
    """What the net of a Keras file answers for raw images."""
    found = read_keras([file])
    net = build_net(ModelSettings(layers=found.layers), found.image_shape, found.num_classes, seed=0).eval()
    assert found.weights is not None
    net.load_state_dict(found.weights)
    with torch.no_grad():
        batch = torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2)
        return torch.softmax(net(batch), dim=1).numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs")
    return fovea.train(bars(90), model=PLAIN, epochs=1, threads=1, report=False, verbose=False, out=out)


def test_an_imported_model_predicts_what_keras_did_and_says_that_its_guard_is_off(tmp_path: Path) -> None:
    done = shell("import", CHAIN, "--scale", 1, "--classes", "a,b,c,d", "--out", "chain.safetensors")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "chain.safetensors\n"
    assert "the input guard is off" in done.stderr
    assert "softmax is left to the loss" in done.stderr
    kept = np.load(FIXTURES / "keras2-answers.npz")
    images = np.round(kept["chain_images"]).astype(np.uint8)
    model = fovea.load_model("chain.safetensors")
    found = model.predict(images)
    assert np.abs(found.probabilities - probabilities(Path(CHAIN), images)).max() < 1e-5
    assert model.classes == ("a", "b", "c", "d")
    assert model.card.data == {"imported": ["chain.keras"]}
    np.save("images.npy", images)
    told = shell("predict", "chain.safetensors", "images.npy")
    assert told.exit_code == 0
    assert "note       no training images are known: the input guard is off" in told.stderr
    refused = shell("predict", "chain.safetensors", "images.npy", "--adapt")
    assert refused.exit_code == 2
    assert "no training images are known" in refused.stderr


def test_the_preprocessing_of_an_imported_model_is_what_the_user_names() -> None:
    numbers = ["--scale", "1/127.5", "--offset", "-1", "--mean", ".1,.2,.3", "--std", ".5"]
    Path("names.txt").write_text("one\ntwo\n three\nfour\n")
    files = [FIXTURES / "branches.json", FIXTURES / "branches-legacy.h5"]
    done = shell("import", *files, *numbers, "--classes", "names.txt", "--out", "b.safetensors")
    assert done.exit_code == 0, done.stderr
    model = fovea.load_model("b.safetensors")
    assert model.classes == ("one", "two", "three", "four")
    batch = torch.rand(2, 3, 10, 10) * 255
    expected = (batch / 127.5 - 1 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / 0.5
    assert torch.allclose(model.preprocessor.to_input(batch), expected, atol=1e-5)


IMPORT_MISTAKES: list[tuple[list[Any], str]] = [
    ([CHAIN], "--scale is missing: no Keras file says what its net was given"),
    ([CHAIN], "The net scales its input itself (scale 0.00392156862745098): then it is mostly --scale 1"),
    ([CHAIN, "--scale", "1/x"], "--scale 1/x: expected a number such as .5 or 1/255"),
    ([CHAIN, "--scale", "0"], "--scale and --std are above 0"),
    ([CHAIN, "--scale", "1", "--mean", "1,2"], "--mean 1,2: expected one number"),
    ([CHAIN, "--scale", "1", "--classes", "a,b"], "--classes names 2 classes, the net tells 4 apart"),
    ([FIXTURES / "chain.json", "--scale", "1"], "holds no weights: give their file too"),
    ([FIXTURES / "chain-legacy.h5", "--scale", "1"], "holds weights only: give the .json"),
    ([FIXTURES / "chain.json", FIXTURES / "branches-legacy.h5", "--scale", "1"], "belong to different models"),
    (["missing.keras", "--scale", "1"], "missing.keras cannot be read"),
]


@pytest.mark.parametrize(("arguments", "words"), IMPORT_MISTAKES, ids=[words[:40] for _, words in IMPORT_MISTAKES])
def test_a_mistake_at_the_import_has_one_message(arguments: list[Any], words: str) -> None:
    done = shell("import", *arguments, "--out", "m.safetensors")
    assert done.exit_code == 2
    assert words in done.stderr
    assert not Path("m.safetensors").exists()
    assert "m.safetensors" in shell("import", CHAIN, "--scale", 1, "--out", "m.keras").stderr


def test_an_exported_run_takes_raw_images_and_answers_as_the_run_does(run: Any) -> None:
    images, _ = bars(40, seed=1)
    done = shell("export", run.path, "net.keras")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "net.keras\n"
    assert "it takes images of 8x8x1 with values of 0 to 255" in done.stderr
    expected = fovea.load_model(run.path)
    plain = torch.softmax(
        expected.model.net(expected.preprocessor.to_input(torch.from_numpy(images[:, None]).float())), 1
    )
    assert np.abs(probabilities(Path("net.keras"), images[..., None]) - plain.detach().numpy()).max() < 1e-5
    assert shell("export", run.path, "again.keras").exit_code == 0
    assert Path("again.keras").read_bytes() == Path("net.keras").read_bytes()


def test_an_export_as_json_has_its_weights_beside_it_and_comes_back_the_same(run: Any) -> None:
    done = shell("export", run.path / "best.safetensors", "net.json", "--without-preprocessing")
    assert done.stdout.split() == ["net.json", "net.weights.h5"]
    back = read_keras(["net.json", "net.weights.h5"])
    assert back.layers == ["conv 4 3x3 relu", "batchnorm", "flatten", "dense 3"]
    assert back.weights is not None
    state = fovea.load_model(run.path).model.net.state_dict()
    assert all(torch.equal(value, back.weights[key]) for key, value in state.items() if value.dim())


def test_a_mistake_at_the_export_has_one_message_and_writes_nothing(run: Any) -> None:
    for arguments, words in (
        ((run.path, "net.h5"), "expected a name that ends in .keras"),
        (("nowhere", "net.keras"), "There is no model nowhere"),
        ((run.path, "no/folder/net.keras"), "does not exist"),
    ):
        done = shell("export", *arguments)
        assert words in done.stderr
        assert done.exit_code == 2
    assert not list(Path().glob("net*"))


def test_preprocessing_that_keras_has_no_layer_for_is_refused_by_name() -> None:
    plain = {"image_shape": (2, 2, 1), "input_range": None, "rescale": 0.5, "mean": None, "std": None}
    ways = {"samplewise_center": False, "samplewise_std": False, "zca": None}
    for step, value, name in (
        ("samplewise_center", True, "samplewise_center"),
        ("samplewise_std", True, "samplewise_std_normalization"),
        ("zca", np.eye(4, dtype=np.float32), "zca_whitening"),
    ):
        with pytest.raises(fovea.ModelError, match=f"Keras has no layer for {name}"):
            preprocessing_layers(Preprocessor(**plain, **{**ways, step: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [None, (0.2, 0.3, 0.4)])
def test_preprocessing_as_layers_computes_the_same(std: tuple[float, ...] | None) -> None:
    steps = Preprocessor((4, 5, 3), None, 1 / 255, False, False, (0.1, 0.2, 0.3), std, None)
    batch = torch.rand(2, 3, 4, 5) * 255
    net = build_layers([*preprocessing_layers(steps), "flatten"], (4, 5, 3), 60, "zeros")
    expected = steps.to_input(batch).permute(0, 2, 3, 1).flatten(1)
    assert torch.allclose(net(batch), expected, atol=1e-5)


def small_json(path: Path, side: int = 8, units: int = 3) -> Path:
    """A Keras net without a Rescaling layer, as JSON."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, side, side, 1]}},
        {"class_name": "Conv2D", "config": {"name": "c", "filters": 4, "kernel_size": 3, "activation": "relu"}},
        {"class_name": "Flatten", "config": {"name": "f"}},
        {"class_name": "Dense", "config": {"name": "d", "units": units, "activation": "softmax"}},
    ]
    path.write_text(json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
    return path


def train(*arguments: object) -> Any:
    images, labels = bars(60)
    np.savez("toy.npz", x=images, y=labels)
    fast = ["--epochs", 1, "--set", "threads=1", "--set", "report=false", "--out", "runs"]
    return shell("train", "toy.npz", *fast, *arguments)


def test_the_net_of_a_keras_file_is_trained_and_its_run_needs_the_file_no_more() -> None:
    done = train("--model", small_json(Path("digit net.json")))
    assert done.exit_code == 0, done.stderr
    assert "its final softmax is left to the loss" in " ".join(done.stderr.split())
    (folder,) = Path("runs").glob("toy-*")
    model = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    assert model["layers"] == ["conv 4 3x3 relu", "flatten", "dense 3"]
    assert model["name"] == "digit net"
    Path("digit net.json").unlink()
    images, _ = bars(5, seed=1)
    assert len(fovea.load_run(folder).predict(images)) == 5


def test_the_summary_takes_a_keras_file() -> None:
    table = fovea.summary(CHAIN)
    assert table.input_shape == (11, 9, 1)
    assert table.rows[-1].output_shape == (4,)


def test_a_net_that_scales_images_itself_is_given_them_as_they_are_unless_told_otherwise(tmp_path: Path) -> None:
    net = json.loads(small_json(Path("net.json")).read_text())
    net["config"]["layers"].insert(1, {"class_name": "Rescaling", "config": {"name": "r", "scale": 0.004}})
    Path("net.json").write_text(json.dumps(net))
    assert "it scales the images itself (scale 0.004)" in " ".join(
        train("--model", "net.json", "--name", "a").stderr.split()
    )
    assert train("--model", "net.json", "--name", "b", "--set", "rescale=.5").exit_code == 0
    kept = [yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text())["preprocessing"] for name in "ab"]
    assert [(steps["rescale"], steps["featurewise_center"]) for steps in kept] == [(1.0, False), (0.5, False)]


def test_a_keras_net_that_does_not_fit_the_data_is_refused_before_anything_is_written() -> None:
    done = train("--model", small_json(Path("net.json"), side=12))
    assert done.exit_code == 2
    assert "takes images of 12x12x1, the data has 8x8x1: set image_size=[12,12]" in done.stderr
    colour = train("--model", FIXTURES / "branches.keras")
    assert "they differ in their channels (3 and 1)" in colour.stderr
    more = train("--model", small_json(Path("net.json"), units=7))
    assert "The net ends in 7 numbers, expected 3" in more.stderr
    assert train("--model", small_json(Path("net.json"), side=12), "--set", "image_size=12").exit_code == 0
    assert len(list(Path("runs").iterdir())) == 1 + Path("runs/test_ledger.jsonl").exists()


class Layer:
    """What a live Keras model says of a layer."""

    def __init__(self, name: str, *weights: Any) -> None:
        self.name, self.weights = name, list(weights)

    def get_weights(self) -> list[Any]:
        return self.weights


class KerasLike:
    """A stand-in for a live Keras model: it says what it is in the same way."""

    name = "live"

    def __init__(self, text: str, *layers: Layer) -> None:
        self.text, self.layers = text, layers

    def to_json(self) -> str:
        return self.text


KerasLike.__module__ = "keras.src.models.sequential"


def live_model() -> KerasLike:
    rng = np.random.default_rng(0)
    kernel, units = rng.normal(0, 0.3, (3, 3, 1, 4)), rng.normal(0, 0.1, (144, 3))
    conv = Layer("c", kernel.astype(np.float32), np.zeros(4, np.float32))
    dense = Layer("d", units.astype(np.float32), np.zeros(3, np.float32))
    return KerasLike(small_json(Path("net.json")).read_text(), conv, Layer("f"), dense)


def test_a_live_keras_model_is_trained_on_from_its_weights() -> None:
    model = live_model()
    options: dict[str, Any] = {"epochs": 1, "threads": 1, "report": False, "verbose": False, "precision": "fp32"}
    run = fovea.train(bars(60), model=model, lr=1e-12, **options)
    net = run.model.net
    kernel = next(net.parameters()).detach().permute(2, 3, 1, 0).numpy()
    assert np.allclose(kernel, model.layers[0].weights[0], atol=1e-6)
    assert run.recipe.model.name == "live"


def test_a_live_keras_model_is_refused_where_its_weights_could_not_be_the_start() -> None:
    with pytest.raises(fovea.SettingsError, match="a module or a Keras model has one start"):
        fovea.train(bars(60), model=live_model(), seeds=2, verbose=False)
    unbuilt = live_model()
    unbuilt.layers[0].weights = []
    with pytest.raises(fovea.ModelError, match=r"'c' \(Conv2D\): its weights have the shapes none.*is the model built"):
        fovea.train(bars(60), model=unbuilt, verbose=False)


def write_chain_data() -> None:
    rng = np.random.default_rng(0)
    np.savez("chain.npz", x=rng.integers(0, 256, (60, 11, 9, 1)).astype(np.uint8), y=np.arange(60) % 4)


def first_kernel(folder: str) -> Any:
    return next(fovea.load_run(f"runs/{folder}").model.net.parameters()).detach().numpy()


def test_a_keras_file_gives_net_and_weights_and_the_settings_alone_give_the_same_bytes_again() -> None:
    write_chain_data()
    still = ["--epochs", 1, "--lr", 1e-12, "--precision", "fp32", "--set", "report=false", "--set", "threads=1"]
    ways = {"from": ["--from", CHAIN], "both": ["--model", CHAIN, "--weights", CHAIN], "fresh": ["--model", CHAIN]}
    for name, way in ways.items():
        done = shell("train", "chain.npz", *way, *still, "--name", name)
        assert done.exit_code == 0, done.stderr
    kept = read_keras([CHAIN]).weights
    assert kept is not None
    expected = next(value for name, value in kept.items() if name.endswith("weight")).numpy()
    assert np.allclose(first_kernel("from"), expected, atol=1e-6)
    assert np.allclose(first_kernel("both"), expected, atol=1e-6)
    assert np.abs(first_kernel("fresh") - expected).max() > 0.01
    assert shell("train", "runs/from/config.yaml", "--name", "again").exit_code == 0
    files = [Path(f"runs/{name}/best.safetensors").read_bytes() for name in ("from", "again")]
    assert files[0] == files[1]


def test_weights_of_keras_without_their_net_are_refused() -> None:
    write_chain_data()
    for options, message in (
        (["--weights", CHAIN], "give its net too"),
        (["--from", small_json(Path("net.json"))], "holds no weights"),
        (["--from", CHAIN, "--set", "optimizer.start=continued"], "these weights have no optimizer"),
    ):
        done = shell("train", "chain.npz", *options)
        assert done.exit_code == 2
        assert message in done.stderr
    assert not Path("runs").exists()
