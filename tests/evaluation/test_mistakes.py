"""Nearest training images and saliency, on nets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fovea.data.imageset import ImageSet
from fovea.data.preprocess import Preprocessor, fit_preprocessor
from fovea.evaluation.neighbours import nearest_training_images
from fovea.evaluation.predictions import Device
from fovea.evaluation.saliency import saliency_maps
from fovea.models.build import build_net, complete_model
from fovea.models.whitening import whitening_of
from fovea.models.zoo import MODELS
from fovea.settings import ModelSettings, PreprocessingSettings

CPU = Device()


def image_set(images: np.ndarray) -> ImageSet:
    return ImageSet(images, np.zeros(len(images), np.int64), ("a", "b"), np.arange(len(images)))


def plain(side: int, channels: int = 1) -> Preprocessor:
    """Values 0 to 255 become 0 to 1."""
    settings = PreprocessingSettings(featurewise_center=False, featurewise_std_normalization=False)
    return fit_preprocessor(np.zeros((1, side, side, channels), np.uint8), settings, None)


def noise(count: int, side: int = 6, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_an_image_that_was_trained_on_is_its_own_neighbour() -> None:
    train = image_set(noise(40))
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2))
    wanted = train.take(np.array([7, 31, 2]))
    found = nearest_training_images(net, plain(6, 1), CPU, train, wanted, 0, 16)
    assert found.shape == (3, 3)
    assert found[:, 0].tolist() == [7, 31, 2]
    assert net.training  # the mode is set back
    assert not net[3]._forward_pre_hooks


def test_near_is_what_the_last_dense_layer_takes_for_near() -> None:
    """The net looks at the first pixel alone: whether it is bright."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False), nn.Linear(2, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, 0], net[1].weight[1, 1] = 1.0, 1.0
    images = noise(30)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(30) * 8, 120  # the angle grows with the first pixel
    train = image_set(images)
    found = nearest_training_images(net, plain(6, 1), CPU, train, train.take(np.array([9])), 0)
    assert found[0, 0] == 9
    assert set(found[0].tolist()) <= {7, 8, 9, 10, 11}


def test_of_a_net_without_dense_layers_the_pixels_tell() -> None:
    images = noise(20)
    images[5] = np.clip(images[3].astype(np.int64) + 9, 0, 255)  # the same, brighter
    net = nn.Sequential(nn.Conv2d(1, 2, 6), nn.Flatten())
    train = image_set(images)
    found = nearest_training_images(net, plain(6, 1), CPU, train, train.take(np.array([3])), 0)
    assert found[0].tolist()[:2] == [3, 5]


def test_fewer_training_images_than_neighbours_are_all_shown() -> None:
    train = image_set(noise(2))
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    found = nearest_training_images(net, plain(6, 1), CPU, train, train, 0)
    assert found.shape == (2, 2)


def test_of_a_linear_net_the_saliency_is_the_difference_of_its_weights() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    answered, true = np.array([1, 2]), np.array([0, 2])
    found = saliency_maps(net, plain(6, 1), noise(2), answered, true)
    weights = net[1].weight.detach().numpy().reshape(3, 6, 6)
    assert np.allclose(found[0], np.abs(weights[1] - weights[0]), atol=1e-6)
    assert np.allclose(found[1], np.abs(weights[2]), atol=1e-6)  # a right answer: its logit alone


def test_a_net_that_looks_at_one_patch_has_its_saliency_there() -> None:
    class Patch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside = x[:, :, 1:3, 1:3].amax(dim=(1, 2, 3))
            return torch.stack([inside, inside**2 + 1], dim=1)

    found = saliency_maps(Patch(), plain(6, 3), noise(4, channels=3), *np.ones((2, 4), int))
    outside = np.ones((6, 6), np.bool_)
    outside[1:3, 1:3] = False
    assert (found[:, outside] == 0).all()
    assert (found[:, ~outside].sum(axis=1) > 0).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_nets_of_the_zoo_have_saliency(name: str) -> None:
    settings = complete_model(ModelSettings(name=name), (20, 20, 1))
    net = build_net(settings, (20, 20, 1), 4, seed=0)
    whitening = whitening_of(net)
    if whitening is not None:
        whitening.fit(torch.rand(50, 1, 20, 20))
    found = saliency_maps(net, plain(20, 1), noise(1, 20), np.array([1]), np.array([0]), 1)
    assert found.shape == (1, 20, 20)
    assert np.isfinite(found).all()
    assert found.max() > 0


def test_a_dense_layer_that_does_not_run_or_runs_on_something_else_leaves_the_pixels() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.head = nn.Linear(9, 9), nn.Conv2d(1, 2, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.head(x).flatten(1)
            return found

    class Pixelwise(Odd):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.unused(x.reshape(-1, 9))
            return super().forward(x)

    train = image_set(noise(20))
    for net in (Odd(), Pixelwise()):
        found = nearest_training_images(net, plain(6), CPU, train, train.take(np.array([3])), 0)
        assert found[0, 0] == 3
