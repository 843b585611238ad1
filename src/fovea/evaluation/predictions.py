"""Predictions: computed once per split; every metric, figure and comparison reads them."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.data.batches import gather
from fovea.data.imageset import ImageSet
from fovea.data.preprocess import Preprocessor
from fovea.errors import DataError
from fovea.evaluation.views import PLAIN, Views


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a net says about a set of images.

    Attributes:
        logits: float32 [N, K].
        labels: int64 [N], the true classes; -1 where they are not known.
        ids: file names or row numbers, [N].
        classes: the K class names.
        temperature: what the logits are divided by before they become probabilities; above 0. It changes no answer.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[Any]
    classes: tuple[str, ...]
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits over the temperature: float64 [N, K]."""
        from scipy.special import softmax

        probabilities: NDArray[np.float64] = softmax(self.logits.astype(np.float64) / self.temperature, axis=1)
        return probabilities

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each answer, in [1 / K, 1]: float64 [N]."""
        confidence: NDArray[np.float64] = self.probabilities.max(axis=1)
        return confidence

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most likely class of each image: int64 [N]."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @property
    def names(self) -> list[str]:
        """The name of the most likely class of each image."""
        return [self.classes[index] for index in self.predicted]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image was answered rightly: bool [N]."""
        return np.asarray(self.predicted == self.labels)


@dataclass(frozen=True)
class Device:
    """Where and how precisely a net runs: "cpu", "cuda:0" ..., and "fp32" or "bf16"."""

    name: str = "cpu"
    precision: str = "fp32"
    memory_format: str = "channels_last"

    def autocast(self) -> torch.autocast:
        """The context in which forward passes run."""
        return torch.autocast(torch.device(self.name).type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, batch: torch.Tensor) -> torch.Tensor:
        """A batch of inputs [B, C, H, W], on the device and in its memory format."""
        layout = torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format
        return batch.to(self.name).contiguous(memory_format=layout)


def cpu_capabilities() -> Mapping[str, Any]:
    """What torch knows of the CPU; nothing where this torch cannot tell."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def cpu_has_bf16() -> str | None:
    """The CPU feature that makes bf16 fast ("amx_bf16", "avx512_bf16"), or None."""
    capabilities = cpu_capabilities()
    return next((name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)), None)


def predict(
    net: nn.Module,
    images: ImageSet,
    preprocessor: Preprocessor,
    device: Device,
    batch_size: int = 1000,
    views: Views = PLAIN,
) -> Predictions:
    """Run a net over a set in evaluation mode: no dropout, batch norm's running statistics.

    The last bits of a logit can depend on `batch_size`: the same one gives the same bits.

    Args:
        views: test-time augmentation.
    """
    pixels = images.images
    logits = np.empty((len(pixels), len(images.classes)), np.float32)
    with _judging(net):
        for start in range(0, len(pixels), batch_size):
            rows = np.arange(start, min(start + batch_size, len(pixels)))
            logits[rows] = _forward(net, gather(pixels, rows), preprocessor, device)
    plain = Predictions(logits, images.labels, images.ids, images.classes)
    return look_again(net, images, preprocessor, device, batch_size, views, plain)


def look_again(
    net: nn.Module,
    images: ImageSet,
    preprocessor: Preprocessor,
    device: Device,
    batch_size: int,
    views: Views,
    plain: Predictions,
) -> Predictions:
    """The second half of `predict`: what plain predictions become where all views are averaged.

    Views are of the image, before preprocessing, as augmentation is: so ZCA whitening meets what it met in training.

    Args:
        plain: of the same images without views.
    """
    unsure = views.unsure(plain.logits)
    logits = plain.logits.copy() if len(unsure) else plain.logits
    with _judging(net):
        for start in range(0, len(unsure), batch_size):
            rows = unsure[start : start + batch_size]
            pixels = gather(images.images, rows)
            average = views.plain_weight * plain.logits[rows]
            for view in views.others:
                average += view.weight * _forward(net, view.of(pixels), preprocessor, device)
            logits[rows] = average
    return replace(plain, logits=logits)


@contextlib.contextmanager
def _judging(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode is set back."""
    was_training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        net.train(was_training)


def _forward(net: nn.Module, pixels: torch.Tensor, preprocessor: Preprocessor, device: Device) -> NDArray[np.float32]:
    """Logits float32 [B, K] of pixels float32 [B, C, H, W] in 0..255."""
    inputs = device.place(preprocessor.to_input(pixels))
    with device.autocast():
        out: torch.Tensor = net(inputs)
    logits: NDArray[np.float32] = out.float().cpu().numpy()
    return logits


def predictions_as_npz(predictions: Predictions) -> bytes:
    """ids, labels, logits and classes as a NumPy archive: the same predictions give the same bytes."""
    arrays = {
        "ids": predictions.ids,
        "labels": predictions.labels,
        "logits": predictions.logits,
        "classes": np.array(predictions.classes),
    }
    return arrays_as_npz(arrays)


# What reading a damaged archive of arrays raises.
NPZ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def arrays_as_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A NumPy archive of named arrays: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date: np.savez would write the present one into the file.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_predictions(path: Path) -> Predictions:
    """Read a predictions-*.npz of a run.

    Raises:
        DataError: when it is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return Predictions(archive["logits"], archive["labels"], archive["ids"], tuple(archive["classes"].tolist()))
    except NPZ_ERRORS:
        raise DataError(f"The predictions {path} cannot be read: the file is damaged.") from None


def predictions_table(predictions: Predictions) -> list[list[object]]:
    """Rows of predictions-test.csv: id, true class, predicted class, its probability."""
    probability = predictions.confidence
    return [
        [str(image), predictions.classes[label] if label >= 0 else "", name, f"{share:.6f}"]
        for image, label, name, share in zip(
            predictions.ids, predictions.labels, predictions.names, probability, strict=True
        )
    ]
