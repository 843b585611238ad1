"""Arrays, as an outside framework holds them, to the facts of a record: NumPy alone, nothing is changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.diagnosis.record import LayerSignals, SplitFacts

SAMPLE = 512  # images that statistics are taken of
# Losses whose value can be computed again from the net's answers.
_ONE_HOT, _INTEGER, _BINARY = "categoricalcrossentropy", "sparsecategoricalcrossentropy", "binarycrossentropy"
_SHORT = {"mse": "meansquarederror", "mae": "meanabsoluteerror", "kldivergence": "kldiv"}
_CLIP = 1e-7  # Keras' guard of the logarithm


def spelled(name: Any) -> str:
    """A name as records spell it: "SparseCategoricalCrossentropy" and "sparse_categorical_crossentropy" alike."""
    text = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
    plain = text.rsplit(">", 1)[-1].replace("_", "").replace("-", "").replace(" ", "").lower()
    return _SHORT.get(plain, plain)


def as_array(values: Any) -> NDArray[Any] | None:
    """A tensor or an array of any framework as NumPy; None for what is neither (a generator, a data set)."""
    if values is None or isinstance(values, str | bytes | dict) or not hasattr(values, "shape"):
        return None
    try:
        detached = values.detach().cpu() if hasattr(values, "detach") else values
        return np.asarray(detached.float() if str(getattr(values, "dtype", "")) == "torch.bfloat16" else detached)
    except Exception:  # whatever a framework raises for what it cannot show
        return None


def image_facts(images: NDArray[Any], count: int | None = None, *, channels_first: bool = False) -> SplitFacts:
    """What is known of images from a sample of them.

    Args:
        images: [N, H, W], [N, H, W, C] or, with `channels_first`, [N, C, H, W]; other shapes are taken as flat rows.
        count: how many there are in all; None: these.
    """
    dtype = str(images.dtype)
    values = images.astype(np.float64)
    shape, means = _shape_of(values, channels_first)
    flat = values.reshape(len(values), -1)
    finite = flat[np.isfinite(flat)]
    some = finite[:: max(1, len(finite) // 100_000)]
    return SplitFacts(
        count=len(images) if count is None else count,
        shape=shape,
        dtype=dtype,
        minimum=float(finite.min()) if len(finite) else None,
        maximum=float(finite.max()) if len(finite) else None,
        mean=float(finite.mean()) if len(finite) else None,
        std=float(finite.std()) if len(finite) else None,
        channel_means=means,
        num_values=len(np.unique(some)),
        constant_images=int((flat.max(axis=1) == flat.min(axis=1)).sum()) if flat.shape[1] > 1 else None,
    )


def _shape_of(images: NDArray[Any], channels_first: bool) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Height, width, channels, and the mean of each channel; None where these are no images."""
    if images.ndim == 3:
        return (*images.shape[1:], 1), (float(images.mean()),)
    if images.ndim != 4:
        return None, None
    last = np.moveaxis(images, 1, -1) if channels_first else images
    return tuple(last.shape[1:]), tuple(float(mean) for mean in last.mean(axis=(0, 1, 2)))


def with_labels(facts: SplitFacts, labels: NDArray[Any]) -> SplitFacts:
    """The facts with what the labels say, in the order in which they stand."""
    kind = _label_kind(labels)
    indices = class_indices(labels)
    known = {"label_kind": kind, "label_width": labels.shape[1] if labels.ndim == 2 else None}
    if labels.size and labels.dtype.kind in "biuf":
        known |= {"label_minimum": float(labels.min()), "label_maximum": float(labels.max())}
    if indices is not None and len(indices):
        width = labels.shape[1] if kind == "one_hot" else 0
        counts = np.bincount(indices, minlength=width) if indices.min() >= 0 else None
        known |= {
            "class_counts": None if counts is None else tuple(int(count) for count in counts),
            "num_classes": len(np.unique(indices)),
            "longest_run": longest_run(indices),
        }
    return replace(facts, **known)  # type: ignore[arg-type]


def _label_kind(labels: NDArray[Any]) -> str:
    if labels.ndim == 2 and labels.shape[1] > 1:
        return "one_hot"
    if labels.ndim == 2:
        return "column"
    is_whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()))
    return "integer" if is_whole else "float"


def class_indices(labels: NDArray[Any] | None) -> NDArray[np.int64] | None:
    """int64 [N] of labels in any form; None for what are no classes."""
    if labels is None or labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        return None
    if labels.ndim == 2 and labels.shape[1] > 1:
        return np.asarray(labels.argmax(axis=1), np.int64)
    flat = labels.reshape(len(labels))
    if not np.isfinite(flat).all() or (flat != np.round(flat)).any():
        return None
    return flat.astype(np.int64)


def class_recalls(predicted: NDArray[np.int64], true: NDArray[np.int64], num_classes: int) -> tuple[float, ...] | None:
    """The share of each class that was recognised; None where not every class, counted from 0, is there.

    Args:
        predicted, true: int64 [N].
    """
    if len(np.unique(true)) != num_classes or true.min() != 0:
        return None
    return tuple(float((predicted[true == label] == label).mean()) for label in range(num_classes))


def longest_run(indices: NDArray[np.int64]) -> int:
    """How often one and the same label follows itself at most, in this order."""
    borders = np.flatnonzero(np.diff(indices)) + 1
    return int(np.diff([0, *borders, len(indices)]).max()) if len(indices) else 0


@dataclass(frozen=True)
class Answers:
    """What a net answered on a sample, judged.

    Attributes:
        loss, accuracy: None where loss or labels are not of a kind that can be judged.
        minimum, maximum, row_sum: of the outputs; row_sum is the mean, None where rows differ by more than 1e-3.
        predicted: int64 [N].
    """

    loss: float | None
    accuracy: float | None
    minimum: float
    maximum: float
    row_sum: float | None
    predicted: NDArray[np.int64]


def judge(outputs: NDArray[Any], labels: NDArray[Any] | None, loss: str | None, from_logits: bool | None) -> Answers:
    """Judge the outputs [N, K] of a net as Keras would.

    Args:
        loss: as records spell it; from_logits: whether the loss applies the softmax itself.
    """
    values = outputs.reshape(len(outputs), -1).astype(np.float64)
    predicted = values.argmax(axis=1) if values.shape[1] > 1 else (values[:, 0] > 0.5).astype(np.int64)
    true = class_indices(labels)
    fits = true is not None and len(true) == len(values)
    sums = values.sum(axis=1)
    return Answers(
        _loss_of(values, true, loss, bool(from_logits)) if fits and true is not None else None,
        float((predicted == true).mean()) if fits else None,
        float(values.min()),
        float(values.max()),
        float(sums.mean()) if np.ptp(sums) <= 1e-3 else None,
        predicted,
    )


def _loss_of(values: NDArray[Any], true: NDArray[np.int64], loss: str | None, from_logits: bool) -> float | None:
    """The mean cross-entropy as Keras computes it; None for other losses, and labels outside the outputs."""
    if loss in (_ONE_HOT, _INTEGER, "crossentropy", "nll"):
        if true.min() < 0 or true.max() >= values.shape[1]:
            return None
        rows = np.arange(len(true))
        if from_logits or loss == "crossentropy":
            shifted = values - values.max(axis=1, keepdims=True)
            return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, true]).mean())
        if loss == "nll":
            return float(-values[rows, true].mean())
        shares = values / np.maximum(values.sum(axis=1, keepdims=True), _CLIP)
        return float(-np.log(np.clip(shares[rows, true], _CLIP, 1 - _CLIP)).mean())
    if loss == _BINARY and not from_logits:
        wanted = (
            np.eye(values.shape[1])[true] if values.shape[1] > 1 and true.max() < values.shape[1] else true[:, None]
        )
        if wanted.shape != values.shape:
            return None
        shares = np.clip(values, _CLIP, 1 - _CLIP)
        return float(-(wanted * np.log(shares) + (1 - wanted) * np.log(1 - shares)).mean())
    return None


def output_signals(name: str, outputs: NDArray[Any], channel_axis: int = -1) -> LayerSignals:
    """What a layer's outputs say.

    Args:
        outputs: [N, ...], of one sample of images.
        channel_axis: where its units lie.
    """
    units = np.moveaxis(outputs, channel_axis, -1).reshape(-1, outputs.shape[channel_axis])
    return LayerSignals(
        name,
        dead_fraction=float((units == 0).all(axis=0).mean()),
        zero_fraction=float((units == 0).mean()),
        is_finite=bool(np.isfinite(units).all()),
    )


def with_kernel(
    signals: LayerSignals, before: NDArray[Any], after: NDArray[Any], gradient: NDArray[Any] | None
) -> LayerSignals:
    """The signals with what a kernel says.

    Args:
        before: the kernel; after: behind one update; gradient: of that step; None: not known.
    """
    norm = float(np.linalg.norm(before))
    known: dict[str, Any] = {
        "weight_norm": norm,
        "weight_std": float(before.std()),
        "is_constant": bool(before.size > 1 and before.max() == before.min()),
        "update_ratio": float(np.linalg.norm(after - before)) / norm if norm else None,
    }
    if gradient is not None:
        known["gradient_norm"] = float(np.linalg.norm(gradient))
    if not np.isfinite(before).all() or (gradient is not None and not np.isfinite(gradient).all()):
        known["is_finite"] = False
    return replace(signals, **known)


def median_signals(history: Sequence[tuple[LayerSignals, ...]], rest: int = -1) -> tuple[LayerSignals, ...]:
    """Each layer's gradient norm and update ratio as the median over some steps; the rest as in one of them.

    Args:
        rest: which step, as an index: 0 the first, -1 the last.
    """
    if not history:
        return ()
    names = ("gradient_norm", "update_ratio")
    found = []
    for signals in history[rest]:
        same = [each for step in history for each in step if each.name == signals.name]
        values = {name: [v for each in same if (v := getattr(each, name)) is not None] for name in names}
        finite = all(each.is_finite is not False for each in same)
        medians = {name: float(np.median(value)) for name, value in values.items() if value}
        found.append(replace(signals, **medians, is_finite=signals.is_finite if finite else False))  # type: ignore[arg-type]
    return tuple(found)


def joined_signals(outputs: tuple[LayerSignals, ...], updates: tuple[LayerSignals, ...]) -> tuple[LayerSignals, ...]:
    """One entry a layer out of what its outputs and its kernel say."""
    kernels = {signals.name: signals for signals in updates}
    names = ("gradient_norm", "weight_norm", "update_ratio", "weight_std", "is_constant")
    found = []
    for signals in outputs or updates:
        kernel = kernels.get(signals.name)
        if kernel is None:
            found.append(signals)
            continue
        finite = False if kernel.is_finite is False else signals.is_finite
        found.append(replace(signals, is_finite=finite, **{name: getattr(kernel, name) for name in names}))
    return tuple(found)


def is_fresh_uniform(kernel: NDArray[Any], bound: float) -> bool | None:
    """Whether a kernel is spread as one drawn uniformly from -bound to bound.

    Its standard deviation is then bound / sqrt(3), and no value lies outside; trained weights hardly ever keep both.

    Returns:
        None for kernels of fewer than 50 values, which tell too little.
    """
    if kernel.size < 50:
        return None
    most, spread = float(np.abs(kernel).max()), float(kernel.std()) * math.sqrt(3)
    error = 4 * math.sqrt(0.2 / kernel.size)  # four standard errors of a uniform's standard deviation
    return 0.9 * bound < most <= 1.0001 * bound and abs(spread / bound - 1) < error
