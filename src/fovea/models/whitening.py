"""Patch whitening: a first convolution that is computed from the training images and never trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fovea.errors import ModelError

NUM_IMAGES = 5000  # that a whitening is fitted on
EPSILON = 5e-4  # added to the eigenvalues: what hardly varies is not blown up


class PatchWhitening(nn.Conv2d):
    """Patches of kH x kW pixels -> their principal coordinates, scaled to unit variance, with both signs.

    Input float32 [B, C, H, W], output [B, 2 * kH * kW * C, H', W'], for a stride of 1 of H - kH + 1 pixels. Nothing
    behind it needs a gradient of the image, so its layer costs no backward pass. Source: Jordan, arXiv 2404.00498,
    after Page's "How to train your ResNet".
    """

    def __init__(self, channels: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__(channels, 2 * kernel[0] * kernel[1] * channels, kernel, stride, bias=False)
        self.weight.requires_grad_(False)
        nn.init.zeros_(self.weight)

    @torch.no_grad()
    def fit(self, inputs: torch.Tensor) -> None:
        """Compute the filters from the net's inputs, float32 [N, C, H, W]."""
        kernel = (self.kernel_size[0], self.kernel_size[1])
        size = self.weight[0].numel()
        moments, count = torch.zeros(size, size, dtype=torch.float64), 0
        for start in range(0, len(inputs), 100):  # image by image, without a copy of the patches in another order
            patches = F.unfold(inputs[start : start + 100], kernel)
            moments += (patches @ patches.mT).double().sum(0)
            count += patches.shape[0] * patches.shape[2]
        values, vectors = torch.linalg.eigh(moments / count)
        # Eigenvectors are known up to their sign: the largest entry is made positive, so that it is always the same.
        largest = vectors.abs().argmax(dim=0, keepdim=True)
        axes = (vectors * vectors.gather(0, largest).sign() / (values.clamp(min=0) + EPSILON).sqrt()).T.flip(0)
        filters = axes.float().view(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


def whitening_of(net: nn.Module) -> PatchWhitening | None:
    """The whitening that a net begins with; None where it has none.

    Raises:
        ModelError: where one stands further behind: its input is known only while the net is trained.
    """
    first = next((module for module in net.modules() if not list(module.children())), None)
    if any(isinstance(module, PatchWhitening) and module is not first for module in net.modules()):
        raise ModelError("The layer whiten can only be the first: it is fitted on the images as they come in.")
    return first if isinstance(first, PatchWhitening) else None
