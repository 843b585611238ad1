"""best.safetensors: the weights, and in its header the net, the preprocessing and the classes. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from fovea.data.preprocess import Preprocessor, preprocessor_from_json
from fovea.errors import DataError, ModelError
from fovea.models.build import build_net, check_net
from fovea.settings import ModelSettings

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LoadedModel:
    """A net in evaluation mode with what it needs to read images and name its answers."""

    net: nn.Module
    preprocessor: Preprocessor
    classes: tuple[str, ...]


def model_as_bytes(
    weights: dict[str, torch.Tensor],
    model: ModelSettings,
    preprocessor: Preprocessor,
    classes: tuple[str, ...],
) -> bytes:
    """The content of best.safetensors: a function of its arguments alone, so equal weights give equal bytes."""
    header = {
        "format_version": FORMAT_VERSION,
        "model": model.model_dump(mode="json"),
        "preprocessor": preprocessor.as_json(),
        "classes": list(classes),
    }
    # One metadata key only: the order of several is not fixed.
    return save({name: tensor.contiguous() for name, tensor in weights.items()}, {"fovea": json.dumps(header)})


def read_model(path: Path, net: nn.Module | None = None) -> LoadedModel:
    """Load best.safetensors.

    Args:
        net: a module of the user's own, where the run was trained with one.

    Raises:
        DataError: when the file is missing, damaged or of a later version.
        ModelError: when the weights do not fit the net.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file.metadata(), path)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"The model {path} cannot be read: {error}.") from None
    preprocessor = preprocessor_from_json(header["preprocessor"])
    classes = tuple(header["classes"])
    if net is None:
        net = build_net(ModelSettings.model_validate(header["model"]), preprocessor.image_shape, len(classes), seed=0)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"The weights of {path} do not fit the model: {' '.join(str(error).split())}.") from None
    check_net(net, preprocessor.image_shape, len(classes))
    return LoadedModel(net.eval(), preprocessor, classes)


def _header(metadata: dict[str, str] | None, path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((metadata or {})["fovea"])
        version = int(header["format_version"])
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{path} was not written by Fovea: its header lacks the net and the preprocessing.") from None
    if version > FORMAT_VERSION:
        raise DataError(f"{path} has format {version}, this Fovea reads up to {FORMAT_VERSION}: install a newer one.")
    return header
