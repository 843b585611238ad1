"""Convolutions by compiled kernels say what torch's own say, at every shape; and what happens where they cannot run."""

from __future__ import annotations

import copy
import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import bars
from torch import nn

import fovea
from fovea import faults
from fovea.settings import TrainingSettings
from fovea.training import kernels as ways
from fovea.training.compiled import available
from fovea.training.fast_ops import TakenOver, use_fast_ops
from fovea.training.kernels import (
    TILES,
    ConvolutionShape,
    possible_kernels,
    table_kernels,
    tiles_fit,
    tiles_pay,
    tuned_kernels,
)
from fovea.training.optimizers import kernels_before_norms
from fovea.training.plan import _tiles_pay

REASON = available.what_is_missing()
here = pytest.mark.skipif(REASON is not None, reason=f"compiled kernels cannot run here: {REASON}")
LAYERS = [
    "conv 32 3x3 same relu",
    "conv 32 3x3 same relu",
    "maxpool 2",
    "conv 48 2x2",
    "batchnorm",
    "silu",
    "flatten",
    "dense classes",
]


CACHE: list[str] = []  # where the kernels are kept


@pytest.fixture(scope="module")
def convolutions(request: pytest.FixtureRequest) -> ModuleType:
    """The module, its kernels compiled once for all runs of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        CACHE[:] = [str(request.config.cache.mkdir("fovea"))]
        patch.setenv("XDG_CACHE_HOME", CACHE[0])
        importlib.import_module("fovea.training.compiled.layers")
        return importlib.import_module("fovea.training.compiled.convolutions")


@pytest.fixture(autouse=True, params=[1, 2])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def images(*size: int) -> torch.Tensor:
    return torch.randn(*size).bfloat16().contiguous(memory_format=torch.channels_last)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of two tensors, as a share of the second's length."""
    with torch.no_grad():
        return float((found.double() - expected.double()).norm() / expected.double().norm())


CASES = [  # images, channels in and out, height, width, kernel, padding
    (1, 16, 16, 1, 1, (1, 1), (0, 0)),
    (3, 32, 16, 5, 9, (3, 3), (1, 1)),
    (5, 16, 48, 7, 6, (2, 3), (0, 1)),
    (2, 48, 32, 28, 28, (5, 5), (2, 2)),
    (64, 64, 32, 3, 3, (3, 3), (1, 1)),
    (9, 80, 16, 8, 8, (3, 3), (2, 2)),
    (33, 32, 64, 14, 13, (4, 1), (3, 0)),
    (130, 16, 16, 4, 4, (3, 3), (0, 0)),
]


@here
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_values_and_gradients_are_those_of_exact_sums(
    case: tuple[Any, ...], relu: bool, pool: bool, convolutions: ModuleType
) -> None:
    batch, inner, outer, height, width, kernel, padding = case
    x = images(batch, inner, height, width)
    weight = (torch.randn(outer, inner, *kernel) / inner).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(outer)
    exact = [t.double().requires_grad_() for t in (x, weight.bfloat16(), bias)]
    full = F.conv2d(*exact, padding=padding)
    if pool and min(full.shape[2:]) < 2:
        pytest.skip("no pixels are left to pool")
    out, winners = convolutions.convolve(x, weight, bias, padding, relu, pool)
    gradient = images(*out.shape)
    found = convolutions.convolution_gradients(gradient, x, weight, padding, relu, out, winners, True)

    expected = F.relu(full) if relu else full
    if pool:  # of two pixels that bf16 holds to be equal the first wins: the same pixels are asked
        rounded = full.bfloat16()
        _, places = F.max_pool2d(F.relu(rounded) if relu else rounded, 2, return_indices=True)
        expected = expected.flatten(2).gather(2, places.flatten(2)).view(out.shape)
    assert distance(out, expected) < 3e-3  # one rounding to bf16
    if relu:  # a sum that is rounded to 0 has no gradient
        gradient = torch.where(out > 0, gradient, 0)
    expected.backward(gradient.double())
    for one, tensor, most in zip(found, exact, (3e-3, 2e-6, 2e-6), strict=True):  # x in bf16, sums in float32
        assert distance(one, tensor.grad) < most


@here
def test_of_equal_pixels_the_first_has_the_gradient_and_what_relu_made_zero_has_none(convolutions: ModuleType) -> None:
    x = torch.zeros(2, 16, 4, 4).bfloat16()
    x[0, 0] = torch.tensor([[1, 1, -2, -3], [1, 1, -1, -4], [0, 0, 5, 7], [0, 0, 7, 6]]).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.eye(16)[:, :, None, None]
    out, winners = convolutions.convolve(x, weight, None, (0, 0), True, True)
    assert out[0, 0].tolist() == [[1, 0], [0, 7]]
    ones = torch.ones_like(out)
    of_x = convolutions.convolution_gradients(ones, x, weight, (0, 0), True, None, winners, True)[0]
    expected = torch.zeros(4, 4)
    expected[0, 0] = expected[2, 3] = 1
    assert torch.equal(of_x[0, 0].float(), expected)


@here
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("stray", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_visible(stray: float, pool: bool, convolutions: ModuleType) -> None:
    x = images(2, 16, 6, 6)
    x[1, 3, 2, 2] = stray
    weight = torch.ones(16, 16, 3, 3)
    out, _ = convolutions.convolve(x, weight, None, (1, 1), True, pool)
    plain = F.relu(F.conv2d(x, weight.bfloat16(), padding=1))
    plain = F.max_pool2d(plain, 2) if pool else plain
    assert torch.equal(torch.isnan(out), torch.isnan(plain))
    assert torch.equal(torch.isinf(out), torch.isinf(plain))


@here
@pytest.mark.parametrize("channels", [1, 3, 8, 20])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_any_number_of_channels_learns_as_the_plain_one(
    channels: int, bias: bool, convolutions: ModuleType
) -> None:
    plain = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2))
    fast = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2))
    for net in (plain, fast):
        net.to(memory_format=torch.channels_last)
    fast.load_state_dict(plain.state_dict())
    use_fast_ops(fast, {"0": TILES})
    assert [type(module).__name__ for module in fast] == ["TilesConv2d", "TakenOver", "TakenOver"]
    x = images(7, channels, 9, 10).float()
    outs = []
    for net in (plain, fast):
        with torch.autocast("cpu", torch.bfloat16):
            outs.append(net(x))
        outs[-1].float().square().sum().backward()
    assert distance(outs[1], outs[0]) < 4e-3
    for one, other in zip(fast.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert distance(one.grad, other.grad) < 2e-2  # torch rounds the gradient to bf16, and ties of a pool differ
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert torch.equal(fast.eval()(x), plain.eval()(x))


@here
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("size", [(64, 32, 13, 12), (3, 16, 5, 5), (2, 80, 1, 1), (40, 48, 3, 4)])
def test_a_norm_with_its_activation_is_that_of_exact_sums(
    activation: type[nn.Module] | None, size: tuple[int, ...], convolutions: ModuleType
) -> None:
    from fovea.training.compiled.norms import TilesNorm2d

    behind = [] if activation is None else [activation()]
    exact = nn.Sequential(nn.BatchNorm2d(size[1], momentum=0.4), *behind)
    nn.init.uniform_(exact[0].weight, 0.5, 1.5)
    nn.init.normal_(exact[0].bias)
    fast = copy.deepcopy(exact)
    fast[0].__class__ = TilesNorm2d
    if behind:
        assert fast[0].take_over(fast[1])
        fast[1] = TakenOver(nn.ReLU)
    exact.double()
    x = (images(*size) * 2 + 3 * torch.randn(1, size[1], 1, 1)).bfloat16().requires_grad_()
    like = x.detach().double().requires_grad_()
    gradient = images(*size)
    for _ in range(2):  # the second batch lies near the running mean
        out, expected = fast(x), exact(like)
    out.backward(gradient)
    expected.backward(gradient.double())
    assert distance(out, expected) < 3e-3
    assert distance(x.grad, like.grad) < 4e-3  # twice rounded to bf16
    for one, other in zip(fast.parameters(), exact.parameters(), strict=True):
        assert distance(one.grad, other.grad) < 2e-5
    for name, buffer in fast.named_buffers():
        assert distance(buffer, dict(exact.named_buffers())[name]) < 1e-6
    assert torch.allclose(fast.eval()(x.float()), exact.eval()(x.double()).float(), atol=1e-5)


@here
def test_norms_that_the_kernels_do_not_know_stay_as_they_are(convolutions: ModuleType) -> None:
    kept = [nn.BatchNorm2d(20), nn.BatchNorm2d(16, momentum=None), nn.BatchNorm2d(16, affine=False)]
    for norm in [*kept, nn.BatchNorm2d(16)]:
        chain = nn.Sequential(nn.Conv2d(16, 16, 3), norm, nn.Dropout(0.5), nn.ReLU())
        use_fast_ops(chain, {"0": TILES})
        assert (type(chain[1]) is nn.BatchNorm2d) == (norm in kept)
        assert type(chain[3]) is nn.ReLU  # not right behind it


@here
def test_an_input_that_wants_its_gradient_gets_it_whatever_its_channels(convolutions: ModuleType) -> None:
    plain, fast = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 3, padding=1)
    fast.load_state_dict(plain.state_dict())
    chain = nn.Sequential(fast)
    use_fast_ops(chain, {"0": TILES})
    found = []
    for net in (plain, chain):
        torch.manual_seed(1)
        x = images(4, 3, 6, 6).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            net(x).float().square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    assert distance(found[1], found[0]) < 2e-2


@here
def test_only_a_pool_that_halves_is_taken_over(convolutions: ModuleType) -> None:
    pools = [nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
    for pool in pools:
        chain = nn.Sequential(nn.Conv2d(16, 16, 3), pool, nn.ReLU())
        use_fast_ops(chain, {"0": TILES})
        assert chain[1] is pool
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2))):
        chain = nn.Sequential(nn.Conv2d(16, 16, 3), pool, nn.ReLU(), nn.ReLU())
        use_fast_ops(chain, {"0": TILES})
        assert [type(module) for module in chain][1:] == [TakenOver, TakenOver, nn.ReLU]


@here
def test_trained_twice_it_has_the_same_bytes_and_reaches_what_torch_reaches(convolutions: ModuleType) -> None:
    settings: dict[str, Any] = {"model": LAYERS, "epochs": 3, "fast_ops": "on", "precision": "bf16", "verbose": False}
    kernels = {"0": TILES, "2": TILES, "5": TILES}
    runs = [fovea.train(bars(150), **settings, kernels=kernels, name=name) for name in ("one", "two")]
    assert read_weights(runs[0]) == read_weights(runs[1])
    assert runs[0].recipe.training.kernels == kernels
    plain = fovea.train(bars(150), **settings, kernels={}, name="plain")
    assert runs[0].history["train_loss"][-1] == pytest.approx(plain.history["train_loss"][-1], rel=0.1)


@here
def test_a_resumed_run_has_the_same_bytes_and_is_refused_where_the_kernels_cannot_run(
    convolutions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"model": LAYERS, "epochs": 2, "fast_ops": "on", "precision": "bf16", "verbose": False}
    settings |= {"kernels": {"0": TILES, "2": TILES, "5": TILES}, "threads": torch.get_num_threads()}
    whole = fovea.train(bars(150), **settings, name="whole")
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, "SIGINT@step#3")
    with pytest.raises(KeyboardInterrupt):
        fovea.train(bars(150), **settings, name="stopped")
    monkeypatch.delenv(faults.VARIABLE)
    with monkeypatch.context() as patch:
        patch.setattr(ways, "why_not", lambda: "numba is not installed")
        with pytest.raises(fovea.SettingsError, match="left to torch, whose last bits are others: numba is not"):
            fovea.train(bars(150), resume="runs/stopped", verbose=False)
    assert read_weights(fovea.train(bars(150), resume="runs/stopped", verbose=False)) == read_weights(whole)


def read_weights(run: Any) -> bytes:
    found: bytes = (run.path / "best.safetensors").read_bytes()
    return found


@here
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 24, 3),
        nn.Conv2d(16, 16, 3, stride=2),
        nn.Conv2d(16, 16, 3, dilation=2),
        nn.Conv2d(16, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, padding=3),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(16, 16, 3).double(),
        nn.ReLU(),
    ],
)
def test_a_layer_that_the_kernels_do_not_know_stays_whatever_the_settings_say(
    layer: nn.Module, convolutions: ModuleType
) -> None:
    kind, chain = type(layer), nn.Sequential(copy.deepcopy(layer), nn.ReLU())
    use_fast_ops(chain, {"0": TILES})
    assert [type(module) for module in chain] == [kind, nn.ReLU]


@here
def test_muon_groups_its_kernels_as_for_the_plain_net(convolutions: ModuleType) -> None:
    plain = nn.Sequential(
        *(nn.Conv2d(16, 16, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(16)),
        *(nn.Conv2d(16, 16, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.SiLU()),
    )
    fast = copy.deepcopy(plain)
    use_fast_ops(fast, {"0": TILES, "3": TILES})
    found = []
    for net in (plain, fast):
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        found.append({names[one] for one in kernels_before_norms(net)})
    assert found == [{"3.weight"}, {"3.weight"}]


@here
def test_fewer_threads_than_torch_was_promised_leave_the_sums_right(convolutions: ModuleType) -> None:
    code = """
import torch
from fovea.training.compiled import available
assert available.why_not() is None
from fovea.training.compiled.convolutions import convolution_gradients, convolve
torch.set_num_threads(2)
torch.manual_seed(0)
x, gradient = (torch.randn(6, 16, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last) for _ in range(2))
weight = torch.randn(16, 16, 3, 3)
junk = [torch.full((2, 16), 1e9) for _ in range(50)]
del junk
found = convolution_gradients(gradient, x, weight, (1, 1), False, None, None, True)
expected = torch.ops.aten.convolution_backward(
    gradient.double(), x.double(), weight.double(), [16], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True] * 3
)
for one, other in zip(found[1:], expected[1:]):
    assert (one - other).norm() < 1e-5 * other.norm(), (one - other).norm() / other.norm()
"""
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "XDG_CACHE_HOME": CACHE[0]}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@here
def test_a_running_mean_that_has_become_infinite_spoils_no_later_batch(convolutions: ModuleType) -> None:
    from fovea.training.compiled.norms import TilesNorm2d

    norm = nn.BatchNorm2d(16)
    norm.__class__ = TilesNorm2d
    norm(torch.full((2, 16, 3, 3), torch.inf).bfloat16().requires_grad_())
    assert not norm.running_mean.isfinite().any()
    assert norm(images(2, 16, 3, 3).requires_grad_()).isfinite().all()


@here
@pytest.mark.parametrize("fault", ["full disk", "folder", "no home"])
def test_where_nothing_can_be_kept_kernels_are_compiled_each_time(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import numba

    from fovea.training.compiled import compiler

    asked: list[bool] = []

    def compiled(*_: Any, cache: bool = False) -> Any:
        def made(function: Any) -> Any:
            asked.append(cache)
            if cache:
                raise OSError(28, "No space left on device")
            return function

        return made

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if fault == "folder":
        (tmp_path / "cache").write_text("a file stands there")
    if fault == "no home":
        monkeypatch.setattr(compiler, "cache_folder", homeless)
    monkeypatch.setattr(numba, "cfunc", compiled)
    before = numba.config.CACHE_DIR
    assert compiler.kernel(print) is print
    assert asked == ([True, False] if fault == "full disk" else [False])
    assert before == numba.config.CACHE_DIR


def test_a_compiler_that_fails_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("Numba needs NumPy 2.3 or less.\nGot NumPy 2.4.")

    monkeypatch.setattr(available, "what_is_missing", lambda: None)
    monkeypatch.setattr(available.importlib, "import_module", broken)
    found = available.why_not.__wrapped__()
    assert found == "numba cannot compile them: Numba needs NumPy 2.3 or less. Got NumPy 2.4."


def test_short_budgets_and_autotune(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"0": shape(32, 32), "2": shape(32, 10)}
    monkeypatch.setattr(ways, "FEWEST_OPERATIONS", 1)
    for budget, pays in ((None, True), (30.0, False), (90.0, True)):
        training = TrainingSettings(precision="bf16", epochs=1, steps_per_epoch=1, budget_seconds=budget)
        assert _tiles_pay(training, shapes) == pays
    monkeypatch.setattr(ways, "time_kernels", lambda *_: {"torch": 2.0, "im2col": 1.0})
    found, lines = tuned_kernels(shapes, TrainingSettings(precision="bf16"), tiles=True)
    assert found == {"0": TILES, "2": "im2col"}
    assert "forward and backward by tiles of 1 of 2 convolutions (32>32 3x3 on 28x28): compiled, not measured" in lines


def shape(inner: int = 16, outer: int = 16, **changes: Any) -> ConvolutionShape:
    facts = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), **changes}
    return ConvolutionShape(100, inner, outer, 28, 28, **facts)


def test_convolutions_that_tiles_cannot_hold_are_left_to_the_table() -> None:
    assert tiles_fit(shape(1, 16))
    assert tiles_fit(shape(24, 48))
    assert not tiles_fit(shape(16, 24))
    assert not tiles_fit(shape(stride=(2, 2)))
    assert not tiles_fit(shape(padding=(3, 1)))
    found, lines = table_kernels({"0": shape(32, 32), "2": shape(32, 10)}, TrainingSettings(precision="bf16"), True)
    assert found == {"0": TILES}
    assert lines[0].startswith("forward and backward by tiles of 1 of 2 convolutions (32>32 3x3 on 28x28): compiled")


def test_short_trainings_do_not_load_the_kernels() -> None:
    one_step = 6 * 100 * 28 * 28 * 16 * 16 * 9
    assert tiles_pay({"0": shape()}, round(ways.FEWEST_OPERATIONS / one_step) + 1)
    assert not tiles_pay({"0": shape()}, round(ways.FEWEST_OPERATIONS / one_step) - 1)
    assert not tiles_pay({"0": shape(stride=(2, 2))}, 10**9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("cpu_has_bf16", lambda: "avx512_bf16"), "the CPU has no amx_bf16"),
        (("platform.system", lambda: "Darwin"), "they are for Linux on x86-64"),
        (("importlib.util.find_spec", lambda _: None), "numba is not installed: pip install 'fovea-vision[fast]'"),
        (("_loaded_libraries", lambda: {"libiomp5.so"}), "this torch does not compute on the threads of libgomp.so.1"),
        (("ctypes.CDLL", lambda _: type("Linux", (), {"syscall": lambda *_: -1})()), "Linux does not lend the matrix"),
    ],
)
def test_what_is_missing_is_named(change: tuple[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "cpu_has_bf16", lambda: "amx_bf16")
    monkeypatch.setattr(available.platform, "system", lambda: "Linux")
    monkeypatch.setattr(available.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(available.importlib.util, "find_spec", lambda _: "numba")
    monkeypatch.setattr(available, "_loaded_libraries", lambda: {"libgomp.so.1"})
    monkeypatch.setattr(ctypes, "CDLL", lambda _: type("Linux", (), {"syscall": lambda *_: 0})())
    assert available.what_is_missing.__wrapped__() is None
    monkeypatch.setattr(f"fovea.training.compiled.available.{change[0]}", change[1])
    assert str(available.what_is_missing.__wrapped__()).startswith(reason)


def test_a_machine_that_cannot_run_them_trains_by_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "why_not", lambda: "numba is not installed")
    assert possible_kernels({"0": TILES, "3": "strips"}) == (
        {"3": "strips"},
        ["1 convolution by tiles is left to torch, whose last bits are others: numba is not installed"],
    )
    run = fovea.train(bars(90), model=LAYERS, epochs=1, fast_ops="on", kernels={"0": TILES}, verbose=False)
    assert run.recipe.training.kernels == {}


def test_importing_the_trainer_loads_no_compiler() -> None:
    command = [sys.executable, "-c", "import sys, fovea.training.run; sys.exit('numba' in sys.modules)"]
    assert subprocess.run(command, check=False).returncode == 0
