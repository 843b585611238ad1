"""KerasDoctor: a callback that watches model.fit and says at its end what is wrong; any Keras, any backend."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import spread_rows
from fovea.diagnosis import keras_facts
from fovea.diagnosis.observe import (
    SAMPLE,
    Answers,
    as_array,
    class_indices,
    class_recalls,
    image_facts,
    joined_signals,
    judge,
    median_signals,
    output_signals,
    with_kernel,
    with_labels,
)
from fovea.diagnosis.record import (
    BatchFacts,
    CurveFacts,
    EvaluationFacts,
    LayerSignals,
    Record,
    SplitFacts,
)
from fovea.diagnosis.tell import Patient, safely

_STEPS_LOOKED_AT = 3  # of each epoch: their updates are measured
_ACCURACIES = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy", "binary_accuracy")
_AT_ONCE = 128  # images
_SIGNAL_VALUES = 20_000_000  # no more outputs of layers than this are looked at at once


class KerasDoctor(Patient):
    """A Keras callback: `model.fit(..., callbacks=[fovea.KerasDoctor()])`.

    It looks at what fit was given, at the compiled model, at three steps of each epoch and at up to 512 images before
    and after, changes nothing, and prints what it found at the end.

    Args:
        verbose: whether findings are printed when fit ends.

    Attributes:
        record: what was seen; None before fit has begun.
        findings: what is suspected, the most important first; empty before fit has ended.
    """

    # Not derived from Keras' Callback: every Keras, of whatever package and backend, calls these methods by name.
    async_safe = False
    _supports_tf_logs = False

    def __init__(self, *, verbose: bool = True) -> None:
        super().__init__(verbose)
        self.params: dict[str, Any] = {}
        self._model: Any = None
        self._fits = 0

    @property
    def model(self) -> Any:
        """The model that is trained, its variables up to date (JAX keeps them elsewhere during an epoch)."""
        sync = getattr(self._model, "jax_state_sync", None)
        if sync is not None and getattr(self._model, "_jax_state", None):
            sync()
        return self._model

    def set_model(self, model: Any) -> None:
        """Called by Keras."""
        self._fits = self._fits if model is self._model else 0
        self._model = model

    def set_params(self, params: Mapping[str, Any] | None) -> None:
        """Called by Keras."""
        self.params = dict(params or {})

    @safely
    def on_train_begin(self, logs: Any = None) -> None:
        """The data, the net and its answers before the first step."""
        arguments = keras_facts.fit_arguments(sys._getframe(1), self._model)
        self._fits += 1
        self.unseen = []
        self._splits, self._samples = self._read_data(arguments)
        model = self.model
        training = keras_facts.training_facts(model, arguments, self.params)
        self._training = replace(training, num_fits=max(training.num_fits or 1, self._fits))
        self._net = keras_facts.net_facts(model)
        self._logs: list[dict[str, float]] = []
        self._rates: list[float] = []
        self._measured: list[Answers] = []
        self._steps = 0
        self._kernels: dict[str, NDArray[Any]] = {}
        self._updates: list[tuple[LayerSignals, ...]] = []
        self._initial = self._judge("train")
        self._first_outputs = self._layer_outputs()
        self._first_updates: tuple[LayerSignals, ...] = ()

    @safely
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Each epoch's first steps are looked at anew."""
        self._updates = []

    @safely
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The kernels before one of the steps that are looked at."""
        if len(self._updates) < _STEPS_LOOKED_AT:
            kernels = keras_facts.kernels_of(self.model)
            self._kernels = {name: keras_facts.value_of(kernel) for name, kernel in kernels.items()}

    @safely
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """What that step has done to them."""
        self._steps += 1
        if not self._kernels:
            return
        found = []
        for name, kernel in keras_facts.kernels_of(self.model).items():
            before, gradient = self._kernels[name], keras_facts.gradient_of(kernel)
            found.append(with_kernel(LayerSignals(name), before, keras_facts.value_of(kernel), gradient))
        self._kernels = {}
        self._updates.append(tuple(found))

    @safely
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """What Keras reports, and the training sample measured like validation."""
        self._logs.append({name: _plain(value) for name, value in (logs or {}).items()})
        rate = keras_facts.learning_rate(self.model.optimizer)
        self._rates += [] if rate is None else [rate]
        judged = self._judge("train")
        self._measured += [] if judged is None else [judged]
        self._first_updates = self._first_updates or median_signals(self._updates, 0)

    def on_train_end(self, logs: Any = None) -> None:
        """The record is complete: it is examined and told."""
        self.conclude(self._record)

    def _record(self) -> Record:
        training = replace(self._training, steps_per_epoch=self._training.steps_per_epoch or None)
        names = self._logs[-1] if self._logs else {}
        metrics = tuple(name for name in names if name != "loss" and not name.startswith("val_"))
        return Record(
            origin="keras",
            name=str(getattr(self._model, "name", "model")),
            splits=self._splits,
            net=self._net,
            training=replace(training, metrics=metrics),
            batch=self._batch_facts(),
            curves=self._curves(),
            evaluation=self._evaluation(),
            unseen=tuple(self.unseen),
        )

    def _read_data(
        self, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, SplitFacts], dict[str, tuple[NDArray[Any], NDArray[Any] | None]]]:
        """Facts of train and val, and the sample of each; what cannot be seen is noted."""
        x, y, given = arguments.get("x"), arguments.get("y"), arguments.get("validation_data")
        parts = {"train": (x, y)}
        if given is not None:
            parts["val"] = (given[0], given[1]) if isinstance(given, tuple | list) and len(given) > 1 else (given, None)
        shuffle = arguments.get("shuffle")
        facts, samples = {}, {}
        for name, (images, labels) in parts.items():
            array, answers = as_array(images), as_array(labels)
            batch = None if array is not None else _first_batch(images)
            if array is None and batch is None:
                self.unseen.append(f"the {name} images: fit was given a {type(images).__name__}")
                continue
            source = array if array is not None else batch[0]  # type: ignore[index]
            known = answers if array is not None else batch[1]  # type: ignore[index]
            rows = spread_rows(len(source), SAMPLE)
            some = np.asarray(source[rows])
            found = image_facts(some, len(source) if array is not None else getattr(images, "num_samples", None))
            found = replace(found, dtype=str(source.dtype))
            if array is None:
                self.unseen.append(f"{name} images beyond the first batch of a {type(images).__name__}")
                found = replace(found, is_augmented=_augments(images), is_shuffled=getattr(images, "shuffle", None))
            else:
                found = replace(found, is_shuffled=bool(shuffle) if name == "train" else None)
            facts[name] = found if known is None or array is None else with_labels(found, known)
            samples[name] = (some, None if known is None else known[rows])
        return facts, samples

    def _forward(self, images: NDArray[Any]) -> NDArray[Any] | None:
        """The model's answers in evaluation mode; None where it does not answer."""
        try:
            return _run(self.model, images)[0]
        except Exception as error:  # whatever a model or a backend raises: the rest is judged
            note = f"the answers of the model: {type(error).__name__}"
            self.unseen += [] if note in self.unseen else [note]
            return None

    def _judge(self, split: str) -> Answers | None:
        if split not in self._samples:
            return None
        images, labels = self._samples[split]
        outputs = self._forward(images)
        if outputs is None or outputs.ndim != 2:
            return None
        return judge(outputs, labels, self._training.loss, self._training.from_logits)

    def _layer_outputs(self) -> tuple[LayerSignals, ...]:
        """Signals of the outputs of each layer with a kernel or an activation."""
        if "train" not in self._samples:
            return ()
        layers = [layer for layer in keras_facts.flat_layers(self._model) if hasattr(layer, "activation")]
        images = self._samples["train"][0]
        try:
            size = sum(int(np.prod([each or 1 for each in layer.output.shape[1:]])) for layer in layers)
            images = images[: max(16, _SIGNAL_VALUES // max(size, 1))]
            graph = self._functional()
            inputs = graph.inputs[0] if len(graph.inputs) == 1 else graph.inputs
            arrays = _run(type(graph)(inputs, [layer.output for layer in layers]), images)
        except Exception:  # a subclassed model has no graph of its layers
            self.unseen.append("the outputs of single layers: the model has no graph")
            return ()
        return tuple(output_signals(str(layer.name), array) for layer, array in zip(layers, arrays, strict=True))

    def _functional(self) -> Any:
        """The graph of the model: itself, or the one inside a Sequential."""
        inner = getattr(self._model, "_functional", None)
        return self._model if inner is None else inner

    def _batch_facts(self) -> BatchFacts:
        first = joined_signals(self._first_outputs, self._first_updates)
        last = joined_signals(self._layer_outputs(), median_signals(self._updates))
        real = self._judge("train")
        zeroed = None
        if "train" in self._samples:
            images, labels = self._samples["train"]
            outputs = self._forward(np.zeros_like(images))
            if outputs is not None and outputs.ndim == 2:
                zeroed = judge(outputs, labels, self._training.loss, self._training.from_logits)
        start = self._initial
        return BatchFacts(
            initial_loss=None if start is None else start.loss,
            initial_accuracy=None if start is None else start.accuracy,
            output_minimum=None if start is None else start.minimum,
            output_maximum=None if start is None else start.maximum,
            row_sum=None if start is None else start.row_sum,
            first=first,
            last=last,
            zeroed_loss=None if zeroed is None else zeroed.loss,
            real_loss=None if real is None else real.loss,
        )

    def _curves(self) -> CurveFacts:
        losses = [judged.loss for judged in self._measured]
        accuracies = [judged.accuracy for judged in self._measured]
        return CurveFacts(
            train_loss=tuple(loss for loss in losses if loss is not None),
            train_accuracy=tuple(value for value in accuracies if value is not None),
            running_loss=_column(self._logs, ("loss",)),
            running_accuracy=_column(self._logs, _ACCURACIES),
            val_loss=_column(self._logs, ("val_loss",)),
            val_accuracy=_column(self._logs, tuple(f"val_{name}" for name in _ACCURACIES)),
            learning_rate=tuple(self._rates),
            steps=self._steps,
        )

    def _evaluation(self) -> EvaluationFacts:
        """What validation says at the end: Keras' figures of all of it, the sample's predictions."""
        curves, val = self._curves(), self._splits.get("val")
        if not curves.val_accuracy or val is None:
            return EvaluationFacts()
        judged, width = self._judge("val"), self._net.output_units or 2
        true = class_indices(self._samples["val"][1])
        counts = None if judged is None else np.bincount(judged.predicted, minlength=width)
        recalls = None if judged is None or true is None else class_recalls(judged.predicted, true, width)
        shares = val.class_counts
        return EvaluationFacts(
            split="val",
            count=val.count,
            accuracy=curves.val_accuracy[-1],
            loss=curves.val_loss[-1] if curves.val_loss else None,
            class_accuracies=recalls,
            predicted_counts=None if counts is None else tuple(int(count) for count in counts),
            majority_share=max(shares) / sum(shares) if shares else None,
        )

    def __getattr__(self, name: str) -> Any:
        """Whatever else a Keras of some version calls (on_test_begin, _implements_train_batch_hooks ...)."""
        if name.startswith("on_"):
            return _nothing
        if name.startswith("_implements_"):
            return lambda: name == "_implements_train_batch_hooks"
        raise AttributeError(name)


def _nothing(*arguments: Any, **named: Any) -> None:
    """What is called and does not matter here."""


def _run(model: Any, images: NDArray[Any]) -> list[NDArray[Any]]:
    """A model's outputs in evaluation mode, some images at a time, without gradients on the torch backend."""
    torch = sys.modules.get("torch")
    parts = []
    with contextlib.nullcontext() if torch is None else torch.no_grad():
        for start in range(0, len(images), _AT_ONCE):
            outputs = model(images[start : start + _AT_ONCE], training=False)
            found = [as_array(each) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])]
            parts.append([array for array in found if array is not None])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _plain(value: Any) -> float:
    array = as_array(value)
    return float(value if array is None else array)


def _column(logs: list[dict[str, float]], names: tuple[str, ...]) -> tuple[float, ...]:
    """The first of some names that every epoch reports."""
    name = next((name for name in names if logs and all(name in row for row in logs)), None)
    return () if name is None else tuple(row[name] for row in logs)


def _first_batch(source: Any) -> tuple[NDArray[Any], NDArray[Any] | None] | None:
    """Images and labels of the first batch of what can be read more than once (PyDataset, Sequence, DataLoader)."""
    if source is None or not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        return None
    with contextlib.suppress(Exception):  # a generator of the user's own may refuse
        pair = source[0]
        images = as_array(pair[0])
        return None if images is None else (images, as_array(pair[1]))
    return None


def _augments(source: Any) -> bool | None:
    """Whether a Keras iterator changes its images at random; None: not known."""
    generator = getattr(source, "image_data_generator", None)
    if generator is None:
        return None
    names = ("rotation_range", "width_shift_range", "height_shift_range", "shear_range", "zoom_range")
    values = [getattr(generator, name, 0) for name in names]
    changes = any(np.any(value) for value in values[:-1]) or np.any(np.asarray(values[-1]) != 1)
    return bool(changes or getattr(generator, "horizontal_flip", False) or getattr(generator, "vertical_flip", False))
