"""From settings (a name, a layer list or a module of the user's own) to a net that is known to fit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fovea.errors import ModelError
from fovea.models.layers import build_layers
from fovea.models.zoo import MODELS
from fovea.settings import ModelSettings


def complete_model(settings: ModelSettings, image_shape: tuple[int, int, int]) -> ModelSettings:
    """Settings with the layer list and the initialiser written out, so that they need no zoo to be read again."""
    if settings.layers is not None:
        return settings.model_copy(update={"initializer": settings.initializer or "glorot_uniform"})
    entry = MODELS[settings.name]
    found = {"layers": entry.layers(image_shape), "initializer": settings.initializer or entry.initializer}
    return settings.model_copy(update=found)


def build_net(settings: ModelSettings, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Build the net of complete settings; the same seed gives the same weights.

    Args:
        image_shape: height, width, channels.
        seed: of the initial weights; torch's global generator is left as it was.

    Raises:
        ModelError: when the layer list does not fit the images.
    """
    if settings.layers is None:
        raise ModelError("This run was trained with a module of your own: pass it again as model=.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_layers(settings.layers, image_shape, num_classes, settings.initializer or "glorot_uniform")


def check_net(net: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Refuse a module that does not turn a batch of images into one row of logits an image.

    Raises:
        ModelError: says what went in and what came out.
    """
    height, width, channels = image_shape
    was_training = net.training
    batch = torch.zeros(2, channels, height, width)
    try:
        with torch.no_grad():
            out: Any = net.eval()(batch)
    except Exception as error:  # whatever a user's own forward raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"The model fails on images of {height}x{width}x{channels}: {reason}.") from error
    finally:
        net.train(was_training)
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != (2, num_classes):
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ModelError(
            f"The model turns 2 images of {height}x{width}x{channels} into {found}, expected (2, {num_classes}): "
            "one row of logits an image."
        )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ModelError("The model has no parameter that can be trained.")
