"""The fast layers say what torch's own say: forward, gradient, and in distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from fovea.models.build import build_net
from fovea.settings import ModelSettings
from fovea.training.fast_ops import BulkDropout, dropout_mask, use_fast_ops
from fovea.training.kernels import IM2COL
from fovea.training.weight_gradients import (
    Im2colConv2d,
    StripsConv2d,
    im2col_weight_gradient,
    side_by_side,
    strips_weight_gradient,
)

CHANNELS_LAST = torch.channels_last


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape).to(dtype).contiguous(memory_format=CHANNELS_LAST)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.25, 0.5, 0.999])
def test_a_dropout_mask_has_its_rate_and_the_mean_one(rate: float) -> None:
    like = maps(100, 32, 14, 14)
    mask = dropout_mask(like, rate)
    dropped = int((mask == 0).sum())
    assert stats.binomtest(dropped, mask.numel(), rate).pvalue > 1e-4
    kept = mask[mask != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(1 / (1 - rate), rel=0.01)
    assert mask.is_contiguous(memory_format=CHANNELS_LAST)


def test_the_entries_of_a_dropout_mask_are_independent_of_their_neighbours_and_of_the_next_mask() -> None:
    like = maps(64, 16, 16, 16)
    first, second = ((dropout_mask(like, 0.5) > 0).float() for _ in range(2))
    pairs = [
        (first[:-1], first[1:]),
        (first[:, :-1], first[:, 1:]),
        (first[..., :-1, :], first[..., 1:, :]),
        (first[..., :-1], first[..., 1:]),
        (first, second),
    ]
    for one, other in pairs:
        correlation = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert abs(correlation) < 4.5 / one.numel() ** 0.5


def test_how_many_entries_of_an_image_are_dropped_spreads_as_a_binomial() -> None:
    counts = (dropout_mask(torch.empty(4000, 64), 0.25) == 0).sum(dim=1).numpy()
    expected = stats.binom(64, 0.25)
    edges = [0, 12, 14, 15, 16, 17, 18, 20, 65]
    observed = np.histogram(counts, edges)[0]
    shares = np.diff(expected.cdf(np.array(edges) - 1))
    assert stats.chisquare(observed, shares / shares.sum() * len(counts)).pvalue > 1e-4


def test_dropout_is_the_same_for_the_same_seed_and_nothing_in_evaluation() -> None:
    dropout, x = BulkDropout(0.25), maps(8, 4, 5, 5)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))
    assert not torch.equal(first, dropout(x))
    assert torch.equal(dropout.eval()(x), x)


def test_the_gradient_of_dropout_passes_through_what_was_kept() -> None:
    x = maps(8, 4, 5, 5).requires_grad_()
    out = BulkDropout(0.5)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(out == 0, 0.0, 2.0))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_at_the_ends_do_what_torch_does(rate: float) -> None:
    x = maps(4, 4, 3, 3)
    assert torch.equal(BulkDropout(rate)(x), nn.Dropout(rate)(x))


def test_dropout_works_on_rows_and_on_an_empty_batch() -> None:
    assert BulkDropout(0.3)(torch.ones(7, 5)).shape == (7, 5)
    assert BulkDropout(0.3)(torch.ones(0, 5)).shape == (0, 5)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (1, 1), (3, 2)])
def test_the_weight_gradient_by_im2col_is_that_of_torch(
    stride: tuple[int, int], padding: tuple[int, int], kernel: tuple[int, int]
) -> None:
    x, weight = maps(5, 3, 8, 7).double(), maps(6, 3, *kernel).double().requires_grad_()
    out = F.conv2d(x, weight, None, stride, padding)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    found = im2col_weight_gradient(gradient, x, weight.shape, stride, padding)
    torch.testing.assert_close(found, weight.grad)


@pytest.mark.parametrize("batch", [1, 5, 32, 33])
@pytest.mark.parametrize(
    ("kernel", "padding"), [((3, 3), (1, 1)), ((3, 3), (0, 0)), ((5, 5), (2, 2)), ((5, 5), (1, 1)), ((3, 2), (2, 0))]
)
def test_the_weight_gradient_by_strips_is_that_of_torch(
    batch: int, kernel: tuple[int, int], padding: tuple[int, int]
) -> None:
    x, weight = maps(batch, 3, 8, 7).double(), maps(6, 3, *kernel).double().requires_grad_()
    out = F.conv2d(x, weight, None, 1, padding)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    found = strips_weight_gradient(gradient, x, weight.shape, (1, 1), padding)
    torch.testing.assert_close(found, weight.grad)


def test_images_side_by_side_stand_in_their_order_with_zeros_around_them() -> None:
    x = torch.arange(1.0, 7).view(3, 1, 1, 2)
    assert side_by_side(x, images=2, pitch=3, tail=1).tolist() == [[[[1, 2, 0, 3, 4, 0, 0]]], [[[5, 6, 0, 0, 0, 0, 0]]]]


def test_a_convolution_with_a_stride_keeps_the_gradient_of_torch() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1))
    use_fast_ops(net, dict.fromkeys("012", "strips"))
    assert [type(module) for module in net] == [nn.Conv2d, nn.Conv2d, StripsConv2d]


@pytest.mark.parametrize("way", [Im2colConv2d, StripsConv2d])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_with_that_gradient_passes_the_finite_difference_check(way: type[nn.Conv2d], bias: bool) -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=bias).double()
    conv.__class__ = way
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    parameters = list(conv.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: conv(x), (x, *parameters))


@pytest.mark.parametrize("way", [Im2colConv2d, StripsConv2d])
def test_in_bf16_it_rounds_as_torch_rounds(way: type[nn.Conv2d]) -> None:
    plain = nn.Conv2d(32, 16, 3, padding=1)
    fast = nn.Conv2d(32, 16, 3, padding=1)
    fast.load_state_dict(plain.state_dict())
    fast.__class__ = way
    x = maps(64, 32, 3, 3)
    for conv in (plain, fast):
        with torch.autocast("cpu", torch.bfloat16):
            out = conv(x)
        out.float().square().sum().backward()
    assert plain.weight.grad is not None
    assert fast.weight.grad is not None
    scale = plain.weight.grad.abs().max()
    torch.testing.assert_close(fast.weight.grad / scale, plain.weight.grad / scale, atol=1e-2, rtol=0)
    torch.testing.assert_close(fast.bias.grad, plain.bias.grad, atol=0, rtol=2e-2)


P1_LIKE = [
    "conv 8 3x3 same relu",
    "maxpool 2",
    "conv 8 3x3 same relu",
    "maxpool 3 stride 2",
    "flatten",
    "dense 16 relu",
    "dense classes",
]


def test_a_net_with_fast_layers_answers_and_learns_with_the_same_bits_and_names() -> None:
    settings = ModelSettings(name="layers", layers=P1_LIKE, initializer="glorot_uniform")
    plain, fast = (build_net(settings, (12, 12, 1), 3, seed=1) for _ in range(2))
    use_fast_ops(fast, {})
    assert [type(module).__name__ for module in fast][:4] == ["Conv2d", "MaxPool2d", "ReLU", "Conv2d"]
    assert list(plain.state_dict()) == list(fast.state_dict())
    x = maps(16, 1, 12, 12)
    out = [net(x) for net in (plain, fast)]
    assert torch.equal(*out)
    for logits in out:
        F.cross_entropy(logits, torch.arange(16) % 3).backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_only_the_named_convolutions_change_their_gradient() -> None:
    settings = ModelSettings(name="layers", layers=P1_LIKE, initializer="glorot_uniform")
    net = build_net(settings, (12, 12, 1), 3, seed=1)
    names = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    use_fast_ops(net, {names[1]: IM2COL})
    kinds = [type(module) for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert kinds == [nn.Conv2d, Im2colConv2d]
