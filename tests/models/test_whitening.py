"""Patch whitening: its filters decorrelate patches, and nothing trains them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import bars

import fovea
from fovea.errors import ModelError
from fovea.models.layers import build_layers
from fovea.models.whitening import EPSILON, PatchWhitening, whitening_of

TAIL = ["relu", "globalavgpool", "dense classes"]


def net_with(*layers: str, channels: int = 3) -> torch.nn.Sequential:
    return build_layers([*layers, *TAIL], (8, 8, channels), 3, "glorot_uniform")


def correlated_images() -> torch.Tensor:
    torch.manual_seed(0)
    noise = torch.randn(400, 3, 9, 9)
    return noise[..., 1:, 1:] + 0.9 * noise[..., :-1, :-1] + 0.5 * noise.mean(dim=1, keepdim=True)[..., 1:, :-1]


def test_whitened_patches_are_uncorrelated_and_of_unit_variance() -> None:
    images = correlated_images()
    layer = PatchWhitening(3, (2, 2))
    layer.fit(images)
    out = layer(images)
    assert out.shape == (400, 24, 7, 7)
    assert torch.equal(out[:, 12:], -out[:, :12])
    flat = out[:, :12].permute(0, 2, 3, 1).reshape(-1, 12)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(12), atol=2e-2, rtol=0)


def test_the_filters_are_the_eigenvectors_of_the_patches_moments() -> None:
    images = correlated_images()
    layer = PatchWhitening(3, (2, 2))
    layer.fit(images)
    patches = F.unfold(images, (2, 2)).transpose(1, 2).reshape(-1, 12).double().numpy()
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    expected = (vectors / np.sqrt(values + EPSILON)).T[::-1]
    found = layer.weight[:12].reshape(12, 12).double().numpy()
    np.testing.assert_allclose(np.abs(found @ expected.T) * (values + EPSILON)[::-1], np.eye(12), atol=1e-3)


def test_with_a_stride_a_whitening_answers_as_without_at_every_so_many_pixels() -> None:
    images = correlated_images()
    whole, strided = PatchWhitening(3, (4, 4)), PatchWhitening(3, (4, 4), (2, 2))
    whole.fit(images)
    strided.fit(images)
    torch.testing.assert_close(strided(images), whole(images)[:, :, ::2, ::2])
    assert build_layers(["whiten 4x4 stride 2 relu", *TAIL], (9, 9, 3), 3, "zeros")[0].stride == (2, 2)


def test_images_without_any_variation_give_finite_filters() -> None:
    layer = PatchWhitening(1, (2, 2))
    layer.fit(torch.zeros(10, 1, 8, 8))
    assert torch.isfinite(layer.weight).all()


def test_a_whitening_is_never_trained_and_stands_in_the_state() -> None:
    net = net_with("whiten 2x2")
    whitening = whitening_of(net)
    assert whitening is net[0]
    whitening.fit(correlated_images())
    before = net[0].weight.clone()
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    assert net[0].weight.grad is None
    assert torch.equal(net[0].weight, before)
    assert "0.weight" in net.state_dict()


def test_a_whitening_that_is_not_the_first_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="whiten can only be the first"):
        whitening_of(net_with("conv 4 3x3", "whiten 2x2"))
    assert whitening_of(net_with("conv 4 3x3")) is None


def test_a_run_with_a_whitening_keeps_the_filters_it_was_fitted_with() -> None:
    layers = ["whiten 3x3 gelu", "conv 8 3x3 relu", "globalmaxpool", "dense classes"]
    runs = [fovea.train(bars(90), model=layers, epochs=2, name=name, verbose=False) for name in "ab"]
    weights = [run.model.net.state_dict()["0.weight"] for run in runs]
    assert weights[0].abs().sum() > 0
    assert torch.equal(*weights)
    assert (runs[0].path / "best.safetensors").read_bytes() == (runs[1].path / "best.safetensors").read_bytes()
