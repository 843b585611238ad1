"""Layer lists: shapes as Keras computes them, weights as its initialisers draw them, mistakes named."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fovea.errors import ModelError
from fovea.models.build import build_net, check_net, complete_model
from fovea.models.initializers import INITIALIZERS
from fovea.models.layers import build_layers
from fovea.models.summary import summarize
from fovea.models.zoo import MODELS
from fovea.settings import ModelSettings

SHAPE = (28, 28, 1)


def build(*layers: object, shape: tuple[int, int, int] = SHAPE, num_classes: int = 10) -> nn.Sequential:
    return build_layers([*layers, "flatten", "dense classes"], shape, num_classes, "glorot_uniform")


@pytest.mark.parametrize("size", [7, 8, 11])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_convolutions_output_size_is_keras_formula(size: int, kernel: int, stride: int, padding: str) -> None:
    net = build(f"conv 3 {kernel}x{kernel} {padding} stride {stride}", shape=(size, size, 2))
    expected = math.ceil(size / stride) if padding == "same" else (size - kernel) // stride + 1
    assert net[-1].in_features == expected**2 * 3
    assert net(torch.zeros(1, 2, size, size)).shape == (1, 10)


def test_same_padding_of_an_even_kernel_pads_more_at_the_end() -> None:
    net = build("conv 1 2x2 same", shape=(5, 5, 1))
    images = torch.rand(2, 1, 5, 5)
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), conv.weight, conv.bias)
    assert torch.allclose(net[:2](images), expected)


def test_a_padded_maximum_pool_never_answers_with_the_padding() -> None:
    net = build("maxpool 2 same", shape=(3, 3, 1))
    assert float(net[:2](torch.full((1, 1, 3, 3), -5.0)).max()) == -5


def test_flatten_keeps_keras_order() -> None:
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(build(shape=(3, 4, 2))[0](images)[0], images[0].permute(1, 2, 0).flatten())


def test_batch_norm_takes_keras_momentum_and_epsilon() -> None:
    norm = build("conv 4 3x3 nobias", "batchnorm momentum .9 epsilon .01 noscale", "relu")[1]
    assert (round(norm.momentum, 6), norm.eps) == (0.1, 0.01)
    assert not norm.weight.requires_grad
    assert build("batchnorm")[0].eps == 1e-3
    assert round(build("batchnorm")[0].momentum, 6) == 0.01


def test_a_residual_block_adds_its_input() -> None:
    layers = [{"residual": ["conv 3 3x3 same init zeros"]}]
    images = torch.rand(2, 3, 6, 6)
    assert torch.equal(build(*layers, shape=(6, 6, 3))[0](images), images)
    build({"residual": ["conv 8 3x3 same stride 2"], "shortcut": ["conv 8 1x1 same stride 2"]}, shape=(7, 7, 3))


def test_a_final_softmax_is_left_to_the_loss() -> None:
    net = build_layers(["flatten", "dense 10 softmax"], SHAPE, 10, "glorot_uniform")
    assert isinstance(net[-1], nn.Linear)


def test_a_padded_average_pool_counts_real_pixels_only() -> None:
    net = build("avgpool 2 same", shape=(3, 3, 1))
    images = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert net[0](images)[0, 0].tolist() == [[2, 3.5], [6.5, 8]]


def test_a_separable_convolution_is_a_depthwise_one_and_all_channels_by_1x1() -> None:
    net = build("sepconv 5 3x3 same multiplier 2 relu", shape=(6, 6, 3))
    assert [tuple(p.shape) for p in net[:2].parameters()] == [(6, 1, 3, 3), (5, 6, 1, 1), (5,)]
    assert tuple(build("depthwise 3 same nobias", shape=(6, 6, 3))[0].weight.shape) == (3, 1, 3, 3)


def test_a_depthwise_kernel_is_drawn_as_keras_draws_it() -> None:
    torch.manual_seed(0)
    kernel = build("depthwise 5 multiplier 4 init he_normal", shape=(9, 9, 64))[0].weight.detach()
    assert abs(float(kernel.var()) * (64 * 25) / 2 - 1) < 0.05  # fan in: channels times window


def test_branches_are_joined_by_their_channels() -> None:
    images = torch.rand(2, 3, 6, 6)
    net = build({"concat": [[], ["conv 4 3x3 same"], ["maxpool 3 stride 1 same"]]}, shape=(6, 6, 3))
    assert net[0](images).shape == (2, 10, 6, 6)
    assert torch.equal(net[0](images)[:, :3], images)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("scale .5 offset 1", lambda x: x * 0.5 + 1),
        ("scale .5,1,2", lambda x: x * torch.tensor([0.5, 1, 2])[:, None, None]),
        ("normalize mean 1,2,3 variance 4", lambda x: (x - torch.tensor([1.0, 2, 3])[:, None, None]) / 2),
        ("zeropad 1,0,2,0", lambda x: F.pad(x, (2, 0, 1, 0))),
        ("crop 1", lambda x: x[:, :, 1:-1, 1:-1]),
        ("hard_sigmoid .2", lambda x: (0.2 * x + 0.5).clamp(0, 1)),
        ("relu 1", lambda x: x.clamp(0, 1)),
        ("exponential", torch.exp),
        ("leaky_relu .1", lambda x: F.leaky_relu(x, 0.1)),
    ],
)
def test_plain_layers_compute_what_they_say(line: str, expected: Callable[[torch.Tensor], torch.Tensor]) -> None:
    images = torch.randn(2, 3, 6, 6)
    assert torch.allclose(build(line, shape=(6, 6, 3))[0](images), expected(images))


MISTAKES = [
    (["conv 4 3x3 groups 3"], "its 3 groups do not divide 1 channels and 4 filters evenly"),
    (["crop 14"], "it cuts the whole map away"),
    (["zeropad 1,2"], "one whole number of pixels, or top,bottom,left,right"),
    (["scale 1,2"], "its factor has 2 numbers, expected 1, or of a map one a channel"),
    (["normalize variance -1"], "its variance is negative"),
    (["tanh .5"], "'.5' is not understood there"),
    ([{"concat": [["conv 2 3x3"], []]}], "its branches give 26x26x2, 28x28x1"),
    ([{"concat": ["conv 2 3x3"]}], "it is written concat: [[...], [...]]"),
    (["conv 32 3x3", "dense 10"], "layer 2 ('dense 10'), whose input is 26x26x32: it needs a flat input"),
    (["conv 4 30x30"], "layer 1 ('conv 4 30x30'), whose input is 28x28x1: its window of 30x30 is larger"),
    (["cnov 3 3x3"], "Unknown layer 'cnov'. Did you mean 'conv'?"),
    (["Conv2D(32, (3, 3), activation='relu')"], "Unknown layer 'Conv2D'. Did you mean 'conv'?"),
    (["activation relu"], "Keras' activation here: the activation alone"),
    (["conv 3 3x3 same swish"], "'swish' is not understood there; Keras' swish here: silu."),
    (["conv 3 3x3 strides 2 relu"], "'strides 2' is not understood there; Keras' strides here: stride."),
    (["conv 3 3x3 sam relu"], "'sam' is not understood there"),
    (["conv three 3x3"], "its number of filters is 'three', expected a number"),
    (["conv 0 3x3"], "its number of filters is 0, expected a whole number of at least 1"),
    (["conv 3"], "it lacks its kernel size"),
    (["conv 3 3y3"], "its kernel size is '3y3'"),
    (["conv 3 3x3 stride"], "'stride' lacks its value"),
    (["conv 3 3x3 init he_norml"], "Did you mean 'he_normal'"),
    (["flatten", "maxpool 2"], "whose input is 784 numbers: it needs a feature map"),
    (["dropout 1"], "its rate is 1, expected 0 or more and below 1"),
    (["flatten", "dense 12"], "The net ends in 12 numbers, expected 10"),
    (["conv 3 3x3"], "The net ends in 26x26x3"),
    ([{"residual": ["conv 8 3x3 same"]}], "the block gives 28x28x8 and the shortcut 28x28x1"),
    (["flatten", "dense inf"], "its number of units is 'inf', expected a number"),
    (["flatten", "dense 10000000000000"], "whose input is 784 numbers"),
    (["batchnorm momentum 5"], "must lie in [0, 1)"),
    ([{"residual": "conv 3"}], "a block is written residual: [...]"),
    ([{"residul": []}], "a block is written residual: [...]"),
    ([], "holds at least one"),
    ("conv 3 3x3", "A layer list is a list"),
]


@pytest.mark.parametrize(("layers", "words"), MISTAKES, ids=[words[:30] for _, words in MISTAKES])
def test_a_wrong_list_is_refused_with_the_layer_its_input_and_the_reason(layers: object, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        build_layers(layers, SHAPE, 10, "glorot_uniform")  # type: ignore[arg-type]
    assert words in str(caught.value)


FANS = {"glorot_uniform": 2 / (288 + 576), "he_normal": 2 / 288, "he_uniform": 2 / 288, "lecun_normal": 1 / 288}
FANS |= {"glorot_normal": FANS["glorot_uniform"], "lecun_uniform": FANS["lecun_normal"]}


@pytest.mark.parametrize("name", FANS)
def test_initialisers_have_keras_variance(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.empty(64, 32, 3, 3)  # fan in 288, fan out 576
    INITIALIZERS[name](weight)
    assert abs(float(weight.var()) / FANS[name] - 1) < 0.05
    assert abs(float(weight.mean())) < 4 * (FANS[name] / weight.numel()) ** 0.5


def test_dirac_passes_the_input_on() -> None:
    weight = torch.empty(8, 4, 3, 3)
    INITIALIZERS["dirac"](weight)
    images = torch.rand(1, 4, 5, 5)
    assert torch.allclose(F.conv2d(images, weight, padding=1)[:, :4], images)


# Counted by hand from the published layer tables.
PARAMETERS = {
    "p0": ((28, 28, 1), 587_402),
    "p1": ((28, 28, 1), 887_530),
    "p2-first": ((32, 32, 3), 6_572_170),
    "p2-answer": ((32, 32, 3), 12_923_914),
    "p3": ((28, 28, 1), 35_445_522),
    "p4-dense": ((28, 28, 1), 101_770),
    "p4-conv": ((28, 28, 1), 243_786),
    "p4-conv1": ((28, 28, 1), 693_962),
    "lenet5": ((28, 28, 1), 61_706),
    "resnet20": ((32, 32, 3), 269_722 + 2_752),  # He et al., and two 1x1 shortcuts with norms where they pad
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_zoo_fits_grey_and_colour_images(name: str) -> None:
    for shape in ((28, 28, 1), (32, 32, 3)):
        settings = complete_model(ModelSettings(name=name), shape)
        check_net(build_net(settings, shape, 7, seed=0), shape, 7)
        assert complete_model(settings, shape) == settings


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_programs_nets_have_their_published_sizes(name: str) -> None:
    shape, expected = PARAMETERS[name]
    found = summarize(build_net(complete_model(ModelSettings(name=name), shape), shape, 10, seed=0), shape)
    assert found.parameters == expected


def test_the_same_seed_builds_the_same_net_and_leaves_the_global_generator_alone() -> None:
    settings = complete_model(ModelSettings(), SHAPE)
    before = torch.random.get_rng_state()
    first, again, other = (build_net(settings, SHAPE, 10, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("side", [4, 8, 28, 32, 64, 200])
def test_the_default_net_suits_every_image_size(side: int) -> None:
    shape = (side, side, 1)
    check_net(build_net(complete_model(ModelSettings(), shape), shape, 2, seed=0), shape, 2)


class Broken(nn.Module):
    """A user's module with a mistake in its forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("features")


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), r"into \(2, 3\), expected \(2, 10\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), "fails on images of 28x28x1"),
        (Broken(), "fails on images of 28x28x1: KeyError"),
        (nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)), "no parameter that can be trained"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(net: nn.Module, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check_net(net, SHAPE, 10)


def test_the_summary_counts_multiply_adds_and_prints_a_table() -> None:
    table = summarize(build("conv 4 3x3 same", "maxpool 2"), SHAPE)
    conv, _, _, dense = table.rows
    assert conv.multiply_adds == 28 * 28 * 4 * 9
    assert dense.multiply_adds == 14 * 14 * 4 * 10
    lines = str(table).splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds"]
    assert "14x14x4" in str(table)
    assert lines[-1].split() == ["total", "7,890", "36,064"]


def test_the_summary_counts_a_shared_layer_once_and_leaves_no_parameter_out() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.head = nn.Linear(784, 784), nn.Linear(784, 10)
            self.bare = nn.Parameter(torch.zeros(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.twice(self.twice(x.flatten(1))))
            return out

    net = Shared()
    table = summarize(net, SHAPE)
    assert table.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert table.multiply_adds == 2 * 784 * 784 + 7840
    assert "other parameters" in str(table)


@pytest.mark.parametrize("most", ["0", "-1"])
def test_a_relu_with_no_room_above_zero_is_refused(most: str) -> None:
    with pytest.raises(ModelError, match="expected a number above 0"):
        build_layers([f"relu {most}", "flatten", "dense classes"], (4, 4, 1), 3, "glorot_uniform")
