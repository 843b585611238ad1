"""The training images that a net finds most like an image: what it may have been reminded of."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.data.batches import gather
from fovea.data.draws import random_order
from fovea.data.imageset import ImageSet
from fovea.data.preprocess import Preprocessor
from fovea.evaluation.predictions import Device

NEAREST = 3
MAX_SEARCHED = 5_000  # training images, always the same ones


def nearest_training_images(
    net: nn.Module,
    preprocessor: Preprocessor,
    device: Device,
    train: ImageSet,
    images: ImageSet,
    split_seed: int,
    batch_size: int = 1000,
) -> NDArray[np.int64]:
    """Rows of the three training images nearest to each image, the nearest first: int64 [n, 3].

    Near is a large cosine between the inputs of the net's last dense layer; of nets without one, between the pixels,
    each image's mean taken off. Of many training images 5,000 are searched, drawn by `split_seed`. Columns are fewer
    where there are fewer training images.
    """
    rows = np.sort(random_order(len(train), split_seed, "neighbours")[:MAX_SEARCHED])
    sides = [_features(net, preprocessor, device, each, batch_size) for each in (train.take(rows), images)]
    searched, wanted = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in sides)
    order = np.argsort(-(wanted @ searched.T), axis=1, kind="stable")[:, :NEAREST]
    return np.asarray(rows[order], np.int64).reshape(len(images), -1)


def _features(
    net: nn.Module, preprocessor: Preprocessor, device: Device, images: ImageSet, batch_size: int
) -> NDArray[np.float32]:
    """What describes each image: float32 [N, F]; its pixels where no dense layer tells them apart one by one."""
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[:] = [inputs[0].detach()]  # of the dense layers that run, the last one's stays

    hooks = [module.register_forward_pre_hook(keep) for module in net.modules() if isinstance(module, nn.Linear)]
    parts: list[NDArray[np.float32]] = []
    was_training, by_pixels = net.training, not hooks
    net.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                pixels = gather(images.images, np.arange(start, min(start + batch_size, len(images))))
                if not by_pixels:
                    with device.autocast():
                        net(device.place(preprocessor.to_input(pixels)))
                    by_pixels = not seen or len(seen[0]) != len(pixels)  # a net of the user's own may do anything
                if not by_pixels:
                    parts.append(seen[0].float().cpu().flatten(1).numpy())
                else:
                    flat = pixels.flatten(1)
                    parts.append((flat - flat.mean(dim=1, keepdim=True)).numpy())
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)
