"""A live Keras model, its compile and its fit as facts, through what all Keras versions and backends have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.diagnosis.observe import as_array, spelled
from fovea.diagnosis.record import LayerFacts, NetFacts, TrainingFacts

ACTIVATIONS = ("relu", "softmax", "leakyrelu", "elu", "prelu", "sigmoid", "tanh", "selu", "gelu", "thresholdedrelu")
# What may stand between a layer's sums and the activation that belongs to them.
TRANSPARENT = ("batchnormalization", "layernormalization", "groupnormalization", "dropout", "spatialdropout2d")


def fit_arguments(frame: Any, model: Any) -> dict[str, Any]:
    """What `fit` was called with: the local names of the call that runs now on this model; empty where there is none.

    Keras does not hand its data to callbacks; the frame of `fit` holds it, after validation_split has cut it.

    Args:
        frame: where to begin to look, as sys._getframe() gives it.
    """
    while frame is not None:
        names = frame.f_locals
        if frame.f_code.co_name == "fit" and "validation_data" in names and names.get("self") is model:
            return dict(names)
        frame = frame.f_back
    return {}


def flat_layers(model: Any) -> Iterator[Any]:
    """The layers in order; those of models inside the model in their place."""
    for layer in getattr(model, "layers", ()):
        if getattr(layer, "layers", None):
            yield from flat_layers(layer)
        elif spelled(type(layer)) != "inputlayer":
            yield layer


def net_facts(model: Any) -> NetFacts:
    """Layers, sizes and the end of a built model."""
    layers = tuple(_layer_facts(layer) for layer in flat_layers(model))
    layers = with_following_activations(layers)
    width = _shape(lambda: model.output_shape)
    frozen = sum(_count(weight) for weight in getattr(model, "non_trainable_weights", ()))
    trained = sum(_count(weight) for weight in getattr(model, "trainable_weights", ()))
    return NetFacts(
        layers=layers,
        is_complete=bool(layers),
        output_units=width[-1] if width else None,
        last_activation=end_of(layers),
        parameters=trained + frozen,
        trainable_parameters=trained,
    )


def end_of(layers: Sequence[LayerFacts]) -> str | None:
    """The activation at the end: of the last layer that has one or could have."""
    for layer in reversed(layers):
        if layer.activation is not None:
            return layer.activation
        if layer.kind in ("conv2d", "dense"):
            return None
    return None


def with_following_activations(layers: Sequence[LayerFacts]) -> tuple[LayerFacts, ...]:
    """Layers without an activation of their own get that of the activation layer behind them."""
    made = list(layers)
    for place, layer in enumerate(made):
        if layer.kind not in ("conv2d", "dense") or layer.activation not in (None, "linear"):
            continue
        following = next((other for other in made[place + 1 :] if other.kind not in TRANSPARENT), None)
        if following is not None and following.kind == "activation":
            made[place] = replace(layer, activation=following.activation)
    return tuple(made)


def _layer_facts(layer: Any) -> LayerFacts:
    kind, config = spelled(type(layer)), _config(layer)
    activation = getattr(layer, "activation", None)
    name = None if activation is None else spelled(activation)
    if kind in ACTIVATIONS:
        kind, name = "activation", kind
    units = getattr(layer, "units", None) or getattr(layer, "filters", None)
    kernel, rate = getattr(layer, "kernel_size", None), getattr(layer, "rate", None)
    return LayerFacts(
        name=str(layer.name),
        kind=kind,
        activation=name,
        units=units if isinstance(units, int) else None,
        kernel=tuple(kernel) if isinstance(kernel, list | tuple) else None,
        rate=float(rate) if isinstance(rate, int | float) else None,
        initializer=_initializer(config.get("kernel_initializer")),
        input_shape=_shape(lambda: layer.input.shape),
        output_shape=_shape(lambda: layer.output.shape),
        parameters=sum(_count(weight) for weight in getattr(layer, "weights", ())),
        is_trainable=bool(getattr(layer, "trainable", True)),
        is_connected=True,
    )


def _config(layer: Any) -> Mapping[str, Any]:
    with contextlib.suppress(Exception):  # a layer of the user's own may not say
        found = layer.get_config()
        return found if isinstance(found, Mapping) else {}
    return {}


def _initializer(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("class_name")
    return spelled(value) if isinstance(value, str) else None


def _shape(read: Any) -> tuple[int, ...] | None:
    """A shape without its batch; None where a layer does not know it."""
    with contextlib.suppress(Exception):
        return tuple(int(size) for size in tuple(read())[1:])
    return None


def _count(weight: Any) -> int:
    return int(np.prod(tuple(weight.shape)))


def training_facts(model: Any, arguments: Mapping[str, Any], params: Mapping[str, Any]) -> TrainingFacts:
    """How the model was compiled and what `fit` was asked to do.

    Args:
        arguments: the local names of fit; params: what Keras tells its callbacks.
    """
    optimizer, loss = getattr(model, "optimizer", None), getattr(model, "loss", None)
    callbacks = getattr(arguments.get("callbacks"), "callbacks", arguments.get("callbacks")) or ()
    own = [each for each in callbacks if type(each).__name__ not in ("History", "ProgbarLogger", "KerasDoctor")]
    monitors = tuple(str(each.monitor) for each in own if getattr(each, "monitor", None))
    is_array = as_array(arguments.get("x")) is not None
    batch_size = arguments.get("batch_size") or (32 if is_array else None)
    smoothing, logits = getattr(loss, "label_smoothing", None), from_logits(loss)
    known_loss = None if loss is None or isinstance(loss, list | dict) else spelled(_inner(loss))
    ran = as_array(getattr(optimizer, "iterations", None))
    return TrainingFacts(
        framework="keras",
        optimizer=None if optimizer is None else spelled(_inner(optimizer)),
        learning_rate=learning_rate(optimizer),
        momentum=_number(getattr(optimizer, "momentum", None)),
        weight_decay=_number(getattr(optimizer, "weight_decay", None)),
        batch_size=batch_size if isinstance(batch_size, int) else None,
        epochs=params.get("epochs"),
        steps_per_epoch=params.get("steps"),
        loss=known_loss,
        from_logits=logits,
        label_smoothing=_number(smoothing),
        class_weights=arguments.get("class_weight") is not None if arguments else None,
        validation_source=_validation_source(arguments),
        chosen_by=_chosen_by(own),
        monitors=monitors,
        callbacks_passed=tuple(type(each).__name__ for each in own),
        loss_reduction=_reduction(loss),
        num_fits=1 if ran is None else 1 + int(ran > 0),
        frozen_on_purpose=None,
    )


def _inner(wrapped: Any) -> Any:
    """The optimizer inside a LossScaleOptimizer; the function inside a LossFunctionWrapper of old Keras."""
    kind = spelled(type(wrapped))
    if kind == "lossscaleoptimizer":
        return getattr(wrapped, "inner_optimizer", wrapped)
    return getattr(wrapped, "fn", wrapped) if kind == "lossfunctionwrapper" else wrapped


def from_logits(loss: Any) -> bool | None:
    """Whether a loss applies the softmax itself; None: not said."""
    if isinstance(loss, str):
        return False
    flag = getattr(loss, "from_logits", None)
    if flag is None:
        flag = getattr(loss, "_fn_kwargs", {}).get("from_logits")
    if flag is None and hasattr(loss, "get_config"):
        with contextlib.suppress(Exception):
            flag = loss.get_config().get("from_logits")
    return None if flag is None else bool(flag)


def learning_rate(optimizer: Any) -> float | None:
    """The rate that the optimizer uses now; None where it does not tell."""
    for name in ("learning_rate", "lr"):
        with contextlib.suppress(Exception):
            array = as_array(getattr(optimizer, name))
            value = getattr(optimizer, name) if array is None else array
            return float(value)
    return None


def _reduction(loss: Any) -> str | None:
    """How a loss makes one number of many: "mean" or "sum"; None: not said."""
    if isinstance(loss, str):
        return "mean"
    known = {"sum_over_batch_size": "mean", "mean": "mean", "mean_with_sample_weight": "mean", "sum": "sum"}
    return known.get(str(getattr(loss, "reduction", None)))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _validation_source(arguments: Mapping[str, Any]) -> str | None:
    if not arguments:
        return None
    if arguments.get("validation_split"):
        return "split"
    return "none" if arguments.get("validation_data") is None else "own"


def _chosen_by(callbacks: Sequence[Any]) -> str:
    for each in callbacks:
        keeps = getattr(each, "restore_best_weights", False) or getattr(each, "save_best_only", False)
        if keeps and getattr(each, "monitor", None):
            return str(each.monitor)
    return "last"


def kernels_of(model: Any) -> dict[str, Any]:
    """Layer name -> its kernel, as Keras holds it."""
    found = {}
    for layer in flat_layers(model):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and hasattr(kernel, "shape"):
            found[str(layer.name)] = kernel
    return found


def gradient_of(kernel: Any) -> NDArray[Any] | None:
    """The gradient that the torch backend has left at a variable; None on other backends."""
    return as_array(getattr(getattr(kernel, "value", None), "grad", None))


def value_of(kernel: Any) -> NDArray[Any]:
    """A variable as NumPy, copied: the next step changes it in place."""
    array = as_array(getattr(kernel, "value", kernel))
    return np.array(kernel.numpy() if array is None and hasattr(kernel, "numpy") else array)
