"""Saliency: which pixels an answer hangs on, by SmoothGrad."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.data.batches import gather
from fovea.data.draws import derived_seed
from fovea.data.preprocess import Preprocessor

NUM_DRAWS = 25
NOISE_FRACTION = 0.15  # of the range of the input's values


def saliency_maps(
    net: nn.Module,
    preprocessor: Preprocessor,
    images: NDArray[np.uint8],
    answered: NDArray[np.int64],
    true: NDArray[np.int64],
    num_draws: int = NUM_DRAWS,
) -> NDArray[np.float32]:
    """How much each pixel moves the logit of the answer away from that of the true class: float32 [n, H, W], 0 or more.

    The gradient of the difference with respect to the net's input, averaged over noisy copies of the input; then the
    largest absolute value of the channels. It needs no convolution, so that it works for any net that has gradients.
    Sources: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", ICLR workshop 2014; Smilkov et al.,
    "SmoothGrad: removing noise by adding noise", 2017, with 25 copies and noise of 15 % of the range.

    Args:
        images: uint8 [n, H, W, C], of the net's size.
        answered, true: int64 [n], class indices; where they are the same, the logit alone counts.
        num_draws: noisy copies of each image.
    """
    generator = torch.Generator().manual_seed(derived_seed(0, "saliency"))
    inputs = preprocessor.to_input(gather(images, np.arange(len(images))))
    ends = inputs.amin(dim=(1, 2, 3), keepdim=True), inputs.amax(dim=(1, 2, 3), keepdim=True)
    noise = NOISE_FRACTION * (ends[1] - ends[0])
    total = torch.zeros_like(inputs)
    rows, was_training = torch.arange(len(images)), net.training
    net.eval()
    try:
        for _ in range(num_draws):
            draws = torch.randn(inputs.shape, generator=generator)
            noisy = (inputs + noise * draws if num_draws > 1 else inputs).detach().requires_grad_()
            logits = net(noisy).float()
            target = logits[rows, torch.from_numpy(answered)]
            against = logits[rows, torch.from_numpy(true)]
            is_wrong = torch.from_numpy(answered != true)
            (gradient,) = torch.autograd.grad((target - torch.where(is_wrong, against, 0.0)).sum(), noisy)
            total += gradient
    finally:
        net.train(was_training)
    maps: NDArray[np.float32] = (total / num_draws).abs().amax(dim=1).numpy()
    return maps
