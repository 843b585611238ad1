"""fovea.KerasDoctor against the real Keras (torch backend), and its plain parts without Keras."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fovea
from fovea.diagnosis.observe import class_indices, image_facts, judge, longest_run, spelled, with_labels
from fovea.diagnosis.record import Record

# Keras' own: its variables do not yet take NumPy's copy=.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
Pair = tuple[NDArray[np.float32], NDArray[np.int64]]


def make_images(count: int = 240, seed: int = 0) -> Pair:
    """One bright row a class, float32 [N, 8, 8, 1]."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    images = rng.uniform(0, 0.2, (count, 8, 8, 1)).astype(np.float32)
    images[np.arange(count), 1 + labels * 2] += 0.8
    return images, labels


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    found = pytest.importorskip("keras")
    found.utils.set_random_seed(0)
    return found


def fitted(keras: Any, layers: list[Any], pair: Pair | None = None, **options: Any) -> tuple[Record, Any]:
    compiled = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"} | options.pop("compiled", {})
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), *layers])
    model.compile(**compiled, metrics=["accuracy"])
    doctor = fovea.KerasDoctor(verbose=False)
    options = {"epochs": 2, "verbose": 0, "validation_split": 0.2} | options
    images, labels = make_images() if pair is None else pair
    model.fit(images, labels, callbacks=[doctor, *options.pop("callbacks", [])], **options)
    assert doctor.record is not None
    assert doctor.record.unseen == ()
    return doctor.record, doctor


def small(keras: Any) -> list[Any]:
    layers = keras.layers
    return [
        layers.Conv2D(4, 3, activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(3, activation="softmax"),
    ]


@pytest.mark.keras
def test_a_fit_fills_the_record(keras: Any) -> None:
    record, _ = fitted(keras, small(keras), epochs=3)
    train, val, training = record.splits["train"], record.splits["val"], record.training
    assert (train.count, val.count, train.shape) == (192, 48, (8, 8, 1))
    assert (train.is_shuffled, train.num_classes, train.label_kind) == (True, 3, "integer")
    assert [layer.kind for layer in record.net.layers] == ["conv2d", "flatten", "dropout", "dense"]
    assert [record.net.layers[0].activation, record.net.last_activation, record.net.output_units] == [
        "relu",
        "softmax",
        3,
    ]
    assert (training.optimizer, training.loss, training.from_logits) == ("adam", "sparsecategoricalcrossentropy", False)
    assert (training.batch_size, training.epochs, training.steps_per_epoch) == (32, 3, 6)
    assert (training.validation_source, training.num_fits, training.metrics) == ("split", 1, ("accuracy",))
    assert training.learning_rate == pytest.approx(0.001)
    assert record.curves.steps == 18
    assert len(record.curves.val_accuracy) == len(record.curves.train_loss) == 3
    assert record.batch.initial_loss == pytest.approx(math.log(3), abs=0.4)
    assert record.batch.row_sum == pytest.approx(1, abs=1e-4)
    assert {signals.name for signals in record.batch.last} == {record.net.layers[0].name, record.net.layers[3].name}
    assert all(signals.gradient_norm and signals.update_ratio for signals in record.batch.first)


@pytest.mark.keras
def test_the_figures_are_those_of_keras(keras: Any) -> None:
    images, labels = make_images()
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), *small(keras)])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    doctor = fovea.KerasDoctor(verbose=False)
    model.fit(images, labels, callbacks=[doctor], epochs=1, verbose=0)
    assert doctor.record.batch.initial_loss == pytest.approx(loss, rel=1e-4)
    assert doctor.record.batch.initial_accuracy == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.keras
def test_watching_changes_no_weight(keras: Any) -> None:
    ends = []
    for is_watched in (True, False):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((8, 8, 1)), *small(keras)])
        model.compile("adam", "sparse_categorical_crossentropy")
        images, labels = make_images()
        doctors = [fovea.KerasDoctor(verbose=False)] if is_watched else []
        model.fit(images, labels, epochs=2, callbacks=doctors, verbose=0, shuffle=False)
        ends.append(model.get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*ends, strict=True))


@pytest.mark.keras
def test_a_second_fit_callbacks_and_logits_are_seen(keras: Any) -> None:
    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    doctor, stop = (
        fovea.KerasDoctor(verbose=False),
        keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True),
    )
    images, labels = make_images()
    for _ in range(2):
        model.fit(images, labels, callbacks=[doctor, stop], validation_data=make_images(60, 1), verbose=0)
    training = doctor.record.training
    assert (training.num_fits, training.from_logits, training.momentum) == (2, True, 0.9)
    assert (training.callbacks_passed, training.monitors, training.chosen_by) == (
        ("EarlyStopping",),
        ("val_loss",),
        "val_loss",
    )
    assert (training.validation_source, doctor.record.net.last_activation) == ("own", "linear")


@pytest.mark.keras
def test_raw_inputs_are_found(keras: Any, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = make_images()
    model = keras.Sequential([keras.layers.Input((8, 8, 1)), *small(keras)])
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    doctor = fovea.KerasDoctor()
    model.fit(np.round(images * 255), labels, epochs=3, validation_split=0.2, callbacks=[doctor], verbose=0)
    assert doctor.findings[0].id == "inputs-not-scaled"
    assert "inputs-not-scaled" in capsys.readouterr().err


@pytest.mark.keras
def test_what_fit_is_given_in_another_form_is_judged_as_far_as_it_is_seen(keras: Any) -> None:
    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Pair:
            return make_images(32, index)

    model = keras.Sequential([keras.layers.Input((8, 8, 1)), *small(keras)])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    doctor = fovea.KerasDoctor(verbose=False)
    model.fit(Batches(), callbacks=[doctor], epochs=1, verbose=0)
    record = doctor.record
    assert record is not None
    assert record.splits["train"].shape == (8, 8, 1)
    assert any("first batch" in note for note in record.unseen)
    assert record.curves.steps == 6


def test_names_are_spelled_alike() -> None:
    found = {spelled(name) for name in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")}
    assert found == {"sparsecategoricalcrossentropy"}
    assert spelled("mse") == "meansquarederror"


@pytest.mark.parametrize(
    ("labels", "kind", "counts"),
    [
        (np.array([0, 2, 2]), "integer", (1, 0, 2)),
        (np.array([[0], [1], [1]]), "column", (1, 2)),
        (np.eye(3)[[0, 2, 2]], "one_hot", (1, 0, 2)),
        (np.array([0.5, 1.0]), "float", None),
    ],
)
def test_labels_of_every_form(labels: NDArray[Any], kind: str, counts: tuple[int, ...] | None) -> None:
    facts = with_labels(image_facts(np.zeros((len(labels), 4, 4))), labels)
    assert (facts.label_kind, facts.class_counts) == (kind, counts)


def test_the_longest_run_counts() -> None:
    assert longest_run(np.array([0, 0, 1, 1, 1, 0])) == 3
    assert longest_run(np.array([], np.int64)) == 0
    assert class_indices(np.array(["a"])) is None


def test_a_loss_is_computed_as_torch_computes_it() -> None:
    import torch

    logits = np.random.default_rng(0).normal(size=(20, 4))
    labels = np.arange(20) % 4
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert judge(logits, labels, "sparsecategoricalcrossentropy", True).loss == pytest.approx(expected)
    shares = torch.softmax(torch.from_numpy(logits), 1).numpy()
    answers = judge(shares, np.eye(4)[labels], "categoricalcrossentropy", False)
    assert answers.loss == pytest.approx(expected)
    assert answers.row_sum == pytest.approx(1)
    assert judge(shares, labels + 1, "categoricalcrossentropy", False).loss is None


def test_calls_that_fail_never_reach_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = fovea.KerasDoctor()
    doctor.set_model(object())  # no model at all: every call below fails inside
    doctor.on_train_begin()
    doctor.on_epoch_begin(0)
    doctor.on_train_batch_begin(0)
    doctor.on_train_batch_end(0)
    doctor.on_epoch_end(0, {"loss": 1.0})
    doctor.on_train_end()
    assert any("AttributeError" in what for what in doctor.unseen), doctor.unseen
    monkeypatch.setattr(doctor, "_curves", lambda: {}[0])
    doctor.on_train_end()
    assert "could not judge this training (KeyError: 0)" in capsys.readouterr().err
