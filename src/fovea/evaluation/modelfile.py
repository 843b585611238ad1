"""best.safetensors: the weights, and in its header all that is needed to use and to judge them. No pickle."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from fovea.data.guard import InputProfile, profile_from_json
from fovea.data.preprocess import ImageFunction, Preprocessor, preprocessor_from_json
from fovea.errors import DataError, ModelError
from fovea.evaluation.views import PLAIN, Views, views_from_json
from fovea.models.build import build_net, check_net
from fovea.settings import ModelSettings

FORMAT_VERSION = 2
_DIGEST = "sha256"  # of everything else in the file


@dataclass(frozen=True, eq=False)
class ModelCard:
    """What a model file says besides its weights.

    Attributes:
        model: the net's settings; complete, so that they need no zoo.
        preprocessor: raw image -> the net's input.
        classes: the class names in the order of the logits.
        profile: what the training images look like; None: they are not known, and the input guard is off.
        precision, memory_format: in which the net was evaluated.
        data: "name", "images" (split -> how many) and "fingerprints" (split -> sha256 of its images and labels); of an
            imported model "imported" (the names of its files).
        metrics: "epoch", "chosen_by", and for "val" and, where it was opened, "test" the accuracy with its interval and
            the loss; None in a file that was written before its run had ended.
        views: the test-time augmentation that its answers are made with and its metrics measured with; none in a file
            that was written before its run had ended, or by a Fovea that had none.
        temperature: what its logits are divided by before they become probabilities, fitted on validation; 1 in a file
            that was written before its run had ended, by a Fovea that fitted none, or from another framework.
    """

    model: ModelSettings
    preprocessor: Preprocessor
    classes: tuple[str, ...]
    profile: InputProfile | None
    precision: str
    memory_format: str
    data: Mapping[str, Any]
    metrics: Mapping[str, Any] | None = None
    views: Views = PLAIN
    temperature: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """The card as plain values."""
        return {
            "format_version": FORMAT_VERSION,
            "model": self.model.model_dump(mode="json"),
            "preprocessor": self.preprocessor.as_json(),
            "classes": list(self.classes),
            "profile": None if self.profile is None else self.profile.as_json(),
            "precision": self.precision,
            "memory_format": self.memory_format,
            "data": dict(self.data),
            "metrics": None if self.metrics is None else dict(self.metrics),
            "tta": self.views.as_json(),
            "temperature": self.temperature,
        }


def card_from_json(value: Mapping[str, Any]) -> ModelCard:
    """The inverse of `ModelCard.as_json`.

    Raises:
        DataError: when a value is missing or of the wrong kind.
    """
    try:
        return ModelCard(
            model=ModelSettings.model_validate(value["model"]),
            preprocessor=preprocessor_from_json(value["preprocessor"]),
            classes=tuple(map(str, value["classes"])),
            profile=None if value["profile"] is None else profile_from_json(value["profile"]),
            precision=str(value["precision"]),
            memory_format=str(value["memory_format"]),
            data=dict(value["data"]),
            metrics=value["metrics"],
            views=views_from_json(value.get("tta")),
            temperature=temperature_from_json(value.get("temperature", 1.0)),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the header is incomplete: {error}") from None


def temperature_from_json(value: Any) -> float:
    """A temperature as it is stored.

    Raises:
        ValueError, TypeError: for what is no number above 0.
    """
    temperature = float(value)
    if not 0 < temperature < math.inf:
        raise ValueError(f"the temperature {value} is no number above 0")
    return temperature


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A net in evaluation mode and its card."""

    net: nn.Module
    card: ModelCard

    @property
    def preprocessor(self) -> Preprocessor:
        """Raw image -> the net's input."""
        return self.card.preprocessor

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the logits."""
        return self.card.classes


def model_as_bytes(weights: Mapping[str, torch.Tensor], card: ModelCard) -> bytes:
    """The content of best.safetensors: a function of its arguments alone, so equal weights give equal bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    header = card.as_json()
    header[_DIGEST] = _digest(header, tensors)
    # One metadata key only: the order of several is not fixed.
    return save(tensors, {"fovea": json.dumps(header)})


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) of every tensor with its name, type and shape."""
    return _digest({}, tensors)


def _digest(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) of the header's other values and of every tensor with its name, type and shape."""
    digest = hashlib.sha256(json.dumps({**header, _DIGEST: None}, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_model(path: Path, net: nn.Module | None = None, function: ImageFunction | None = None) -> LoadedModel:
    """Load best.safetensors.

    Args:
        net: a module of the user's own, where the run was trained with one.
        function: the user's preprocessing_function, where the run was trained with one.

    Raises:
        DataError: when the file is missing, damaged or of another version of the format.
        ModelError: when the weights do not fit the net, or the function is not that of the training.
    """
    card, weights = read_contents(path)
    card = replace(card, preprocessor=card.preprocessor.with_function(function, str(path)))
    if net is None:
        net = build_net(card.model, card.preprocessor.image_shape, len(card.classes), seed=0)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"The weights of {path} do not fit the model: {' '.join(str(error).split())}.") from None
    check_net(net, card.preprocessor.image_shape, len(card.classes))
    return LoadedModel(net.eval(), card)


def with_results(path: Path, metrics: Mapping[str, Any], views: Views, temperature: float) -> bytes:
    """The content of a model file with the metrics, views and temperature of an ended run in its card.

    The weights stay.

    Raises:
        DataError: as `read_model`.
    """
    card, weights = read_contents(path)
    return model_as_bytes(weights, replace(card, metrics=metrics, views=views, temperature=temperature))


def read_contents(path: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """The card and the weights of a model file, held against its digest.

    Raises:
        DataError: as `read_model`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata(), path)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"The model {path} cannot be read: {error}.") from None
    if header.get(_DIGEST) != _digest(header, weights):
        raise DataError(f"The model {path} is damaged: its content is not what was written. Copy it anew.")
    try:
        card = card_from_json(header)
    except DataError as error:
        raise DataError(f"The model {path} cannot be used: {error}") from None
    return card, weights


def _header(metadata: dict[str, str] | None, path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((metadata or {})["fovea"])
        version = int(header["format_version"])
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        raise DataError(f"{path} was not written by Fovea, or is damaged: its header lacks the net.") from None
    if version != FORMAT_VERSION:
        remedy = "install a newer Fovea" if version > FORMAT_VERSION else "train it again"
        raise DataError(f"{path} has the format {version}, this Fovea reads {FORMAT_VERSION}: {remedy}.")
    return header
