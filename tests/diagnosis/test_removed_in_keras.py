"""What the script reader says of today's Keras, held against the Keras that is installed."""

from __future__ import annotations

import importlib
import warnings

import pytest

from fovea.diagnosis.script import removed
from fovea.diagnosis.script.names import DATASETS, KERAS_LAYERS

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def keras():  # type: ignore[no-untyped-def]
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


@pytest.mark.parametrize("name", removed.OPTIMIZER_ARGUMENTS)
def test_optimizer_arguments_are_refused(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        keras.optimizers.SGD(**{name: 0.1})


@pytest.mark.parametrize("name", removed.IGNORED_OPTIMIZER_ARGUMENTS)
def test_optimizer_arguments_are_ignored(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    with pytest.warns(UserWarning, match="ignored"):
        keras.optimizers.SGD(**{name: 0.1})


@pytest.mark.parametrize("name", removed.LAYER_ARGUMENTS)
def test_layer_arguments_are_refused(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    kinds = {
        "p": (keras.layers.Dropout, {"rate": 0.5}),
        "mode": (keras.layers.BatchNormalization, {}),
        "inner_activation": (keras.layers.LSTM, {"units": 2}),
        "output_dim": (keras.layers.Dense, {"units": 2}),
    }
    made, arguments = kinds.get(name, (keras.layers.Conv2D, {"filters": 2, "kernel_size": 3}))
    with pytest.raises((ValueError, TypeError)):
        made(**arguments, **{name: 1})


@pytest.mark.parametrize("name", removed.CALLBACK_ARGUMENTS)
def test_callback_arguments_are_refused(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    made = {"period": (keras.callbacks.ModelCheckpoint, {"filepath": "a.keras"})}
    kind, arguments = made.get(name, (keras.callbacks.EarlyStopping, {}))
    with pytest.raises((ValueError, TypeError)):
        kind(**arguments, **{name: 1})
    keras.callbacks.ReduceLROnPlateau(**{name: 1})  # ignored


@pytest.mark.parametrize("name", removed.FIT_ARGUMENTS)
def test_fit_arguments_are_refused(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(TypeError):
        model.fit([[1.0]], [[1.0]], **{name: 1})


@pytest.mark.parametrize("name", removed.METHODS)
def test_methods_are_gone(name: str, keras) -> None:  # type: ignore[no-untyped-def]
    assert not hasattr(keras.Sequential(), name) or name == "to_yaml"


@pytest.mark.parametrize("path", [path for path in removed.IMPORTS if path.startswith("keras.")])
def test_imports_are_gone(path: str, keras) -> None:  # type: ignore[no-untyped-def]
    if not removed.IMPORTS[path] or path == "keras.preprocessing.image":
        return  # still there, in part
    with pytest.raises((ImportError, AttributeError)):
        _use(path)


def _use(path: str) -> None:
    """Import a module or a name; the old optimizers are there and cannot be made."""
    module, _, name = path.rpartition(".")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        importlib.import_module(path)
    elif path == "keras.optimizers.legacy":
        found.legacy.SGD()


def test_a_checkpoint_needs_the_new_endings(keras) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        keras.callbacks.ModelCheckpoint("best.hdf5")
    with pytest.raises(ValueError):
        keras.callbacks.ModelCheckpoint("best.h5", save_weights_only=True)
    keras.callbacks.ModelCheckpoint("best.h5")


def test_the_third_number_of_a_convolution_is_its_stride(keras) -> None:  # type: ignore[no-untyped-def]
    assert keras.layers.Conv2D(8, 3, 3).strides == (3, 3)


def test_layers_that_are_read_exist_or_are_old(keras) -> None:  # type: ignore[no-untyped-def]
    old = {"LocallyConnected2D", "ThresholdedReLU", "MaxoutDense", "Merge", "SeparableConvolution2D", "AlphaDropout"}
    old |= {"RandomHeight", "RandomWidth"}  # of tf.keras
    missing = {name for name in KERAS_LAYERS if not hasattr(keras.layers, name)}
    assert missing <= old
    assert {"mnist", "cifar10"} <= DATASETS.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert keras.layers.LeakyReLU(alpha=0.2).negative_slope == 0.2
