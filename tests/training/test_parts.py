"""Optimizers, schedules, callbacks and hardware choices, each on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fovea.errors import SettingsError
from fovea.models.build import build_net, complete_model
from fovea.settings import ModelSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from fovea.training import hardware
from fovea.training.callbacks import (
    Callback,
    EarlyStopping,
    ReduceLROnPlateau,
    StopAtThreshold,
    TrainingState,
    as_callback,
)
from fovea.training.hardware import choose_hardware, usable_cores
from fovea.training.optimizers import (
    FLOAT32_ROWS,
    OPTIMIZERS,
    FusedRMSprop,
    Muon,
    make_optimizers,
    newton_schulz,
    set_learning_rate,
)
from fovea.training.schedules import SCHEDULES, learning_rate_factor


def factors(total: int = 100, **settings: object) -> np.ndarray:
    schedule = ScheduleSettings.model_validate({"warmup_fraction": 0, **settings})
    return np.array([learning_rate_factor(schedule, step, total, 10) for step in range(total)])


def by_torch(make: object, total: int = 100, base: float = 1.0) -> np.ndarray:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    schedule = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates)


def test_cosine_and_step_agree_with_torch() -> None:
    cosine = by_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100))
    assert np.allclose(factors(name="cosine"), cosine, atol=1e-9)
    step = by_torch(lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.5))
    assert np.allclose(factors(name="step", step_epochs=3, step_factor=0.5), step)


def test_one_cycle_rises_for_three_tenths_and_falls_as_torchs_does() -> None:
    found = factors(total=1000, name="onecycle")
    expected = by_torch(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=1000), total=999)
    assert np.abs(found[:999] - expected).max() < 0.01


def test_linear_ends_at_its_final_fraction_and_constant_stays() -> None:
    linear = factors(name="linear", final_fraction=0.2)
    assert linear[0] == 1
    assert np.allclose(np.diff(linear), -0.008)
    assert (factors(name="constant") == 1).all()


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "linear"])
def test_warm_up_rises_in_a_line_and_never_starts_at_zero(name: str) -> None:
    found = factors(name=name, warmup_fraction=0.1)
    assert np.allclose(found[:10], np.arange(1, 11) / 11)
    assert found[10] == 1


def test_every_schedule_stays_between_zero_and_one() -> None:
    for name in SCHEDULES:
        assert factors(name=name).min() >= 0
        assert factors(name=name).max() <= 1


def test_newton_schulz_brings_the_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 288), (288, 64), (16, 9)):
        matrix = torch.randn(*shape, generator=generator)
        found = newton_schulz(matrix, num_iterations=5)
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.6
        assert values.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.97


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (96, 80, 3, 3), (24, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_gives_the_published_update_in_every_memory_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    beginning, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    orders = [torch.contiguous_format, torch.channels_last][: 1 + (len(shape) == 4)]
    ours = [nn.Parameter(beginning.clone(memory_format=order)) for order in orders]
    muon = Muon([{"params": ours, "renormalize": True}], lr=0.1, momentum=0.6, dtype=dtype)
    expected, buffer = beginning.clone(), torch.zeros(shape)
    for gradient in gradients:
        for parameter in ours:
            parameter.grad = gradient.clone(memory_format=torch.preserve_format)
        muon.step()
        buffer = 0.6 * buffer + gradient
        expected *= len(expected) ** 0.5 / expected.norm()
        expected -= 0.1 * newton_schulz((gradient + 0.6 * buffer).flatten(1)).view(shape)
    few = min(shape[0], beginning[0].numel()) <= FLOAT32_ROWS
    for parameter in ours:
        assert torch.allclose(parameter, expected, atol=1e-5 if few or dtype == torch.float32 else 2e-2)
        assert few or torch.allclose(parameter, expected, atol=1e-5) == (dtype == torch.float32)


def net_for(name: str, side: int = 8) -> nn.Module:
    settings = complete_model(ModelSettings(name=name), (side, side, 1))
    return build_net(settings, (side, side, 1), 10, seed=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("model", ["small", "p4-conv1"])
def test_every_optimizer_moves_every_parameter_and_lowers_the_loss(name: str, model: str) -> None:
    net = net_for(model)
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    optimizers = make_optimizers(net, OptimizerSettings(name=name, lr=OPTIMIZERS[name][1]))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(images), labels)
        losses.append(float(loss.detach()))
        net.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert losses[-1] < losses[0]
    for parameter, old in zip(net.parameters(), before, strict=True):
        assert parameter.requires_grad != torch.equal(parameter, old)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_fused_rmsprop_is_that_of_torch(weight_decay: float) -> None:
    torch.manual_seed(0)
    beginnings = [torch.randn(9, 7), torch.randn(5)]
    ours, theirs = ([nn.Parameter(value.clone()) for value in beginnings] for _ in range(2))
    groups = [{"params": ours, "weight_decay": weight_decay}]
    fused = FusedRMSprop(groups, lr=0.01, alpha=0.9, eps=1e-7)
    plain = torch.optim.RMSprop(theirs, lr=0.01, alpha=0.9, eps=1e-7, weight_decay=weight_decay)
    for _ in range(30):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        fused.step()
        plain.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_weight_decay_spares_biases_and_norms() -> None:
    (optimizer,) = make_optimizers(net_for("resnet20"), OptimizerSettings(name="sgd", lr=0.1, weight_decay=0.01))
    for group in optimizer.param_groups:
        assert all((parameter.dim() > 1) == (group["weight_decay"] > 0) for parameter in group["params"])


def test_muon_decays_the_head_and_renormalizes_only_kernels_with_a_norm_behind_them() -> None:
    muon, adam = make_optimizers(net_for("wideresnet16-4"), OptimizerSettings(name="muon", lr=0.1, weight_decay=0.01))
    sizes = {group["renormalize"]: len(group["params"]) for group in muon.param_groups}
    assert sizes == {True: 6, False: 1 + 3 + 6}  # stem, projections and the last convolution of each block add up
    assert {group["weight_decay"] for group in adam.param_groups} == {0.01, 0.0}


def test_settings_reach_torch() -> None:
    (optimizer,) = make_optimizers(
        net_for("p4-conv1"), OptimizerSettings(name="rmsprop", lr=0.1, rho=0.7, epsilon=1e-3)
    )
    assert (optimizer.defaults["alpha"], optimizer.defaults["eps"]) == (0.7, 1e-3)
    set_learning_rate([optimizer], 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.025


def drive(callback: Callback, metric: str, values: list[float], base_lr: float = 1.0) -> TrainingState:
    """Feed a callback one value an epoch until it stops training."""
    state = TrainingState(nn.Identity(), len(values), 1, base_lr)
    for value in values:
        state.epoch += 1
        callback.on_epoch(state, {metric: value})
        state.history.append({"lr": state.lr_scale})
        if state.stop_reason:
            break
    return state


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stops_after"),
    [
        ([1.0, 0.9, 0.95, 0.95, 0.95], 2, 0.0, 4),
        ([1.0, 0.9, 0.95, 0.85, 0.9, 0.9], 2, 0.0, 6),
        ([1.0, 0.99, 0.98, 0.97], 2, 0.1, 3),
        ([1.0, 0.9, 0.8], 1, 0.0, None),
        ([1.0, 2.0], 1, 0.0, 2),
    ],
)
def test_early_stopping_counts_as_keras_counts(
    values: list[float], patience: int, min_delta: float, stops_after: int | None
) -> None:
    state = drive(EarlyStopping("val_loss", patience, min_delta), "val_loss", values)
    assert (state.epoch if state.stop_reason else None) == stops_after


def test_early_stopping_waits_for_its_first_epoch_and_knows_that_accuracy_rises() -> None:
    callback = EarlyStopping("val_accuracy", 1, start_from_epoch=3)
    assert drive(callback, "val_accuracy", [0.9, 0.8, 0.7, 0.6, 0.5]).epoch == 5
    assert drive(EarlyStopping("val_accuracy", 1), "val_accuracy", [0.1, 0.2, 0.3]).stop_reason is None


@pytest.mark.parametrize(
    ("values", "settings", "rates"),
    [
        ([1.0] * 7, {"plateau_patience": 3}, [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([1.0, 0.9, 0.8, 0.8, 0.7], {"plateau_patience": 2}, [1, 1, 1, 1, 1]),
        ([1.0] * 6, {"plateau_patience": 1, "plateau_cooldown": 2}, [1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ([1.0] * 5, {"plateau_patience": 1, "plateau_min_lr": 0.3}, [1, 0.5, 0.3, 0.3, 0.3]),
        ([1.0, 0.99995, 0.9999], {"plateau_patience": 2}, [1, 1, 0.5]),
    ],
)
def test_the_plateau_callback_counts_as_keras_counts(
    values: list[float], settings: dict[str, float], rates: list[float]
) -> None:
    schedule = ScheduleSettings.model_validate({"name": "plateau", **settings})
    state = drive(ReduceLROnPlateau(schedule), "val_loss", values)
    assert [line["lr"] for line in state.history] == pytest.approx(rates)


def test_training_stops_at_a_threshold_of_a_loss_or_an_accuracy() -> None:
    assert drive(StopAtThreshold("train_accuracy", 0.99), "train_accuracy", [0.9, 0.99, 1.0]).epoch == 2
    assert drive(StopAtThreshold("val_loss", 0.1), "val_loss", [0.9, 0.2, 0.05]).epoch == 3


def test_what_cannot_be_called_is_no_callback() -> None:
    with pytest.raises(SettingsError, match="type int cannot be called"):
        as_callback(3)
    with pytest.raises(SettingsError, match="type type cannot be called"):
        as_callback(Callback)


def test_every_choice_of_hardware_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    chosen = choose_hardware(TrainingSettings(device="cpu"))
    assert all(choice.value and choice.reason for choice in chosen.choices().values())
    assert int(chosen.threads.value) == usable_cores() >= 1


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx512_f": True}, "fp32"), ({}, "fp32")],
)
def test_bf16_is_chosen_only_where_the_cpu_computes_in_it(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_hardware(TrainingSettings(device="cpu")).precision.value == precision
    asked = choose_hardware(TrainingSettings(device="cpu", precision="fp32"))
    assert (asked.precision.value, asked.precision.reason) == ("fp32", "as asked")


def test_omp_num_threads_is_respected_and_a_quota_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chosen = choose_hardware(TrainingSettings(device="cpu")).threads
    assert (chosen.value, chosen.reason) == ("1", "OMP_NUM_THREADS says so")
    assert choose_hardware(TrainingSettings(device="cpu", threads=3)).threads.value == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")  # a number for each level of nesting
    assert choose_hardware(TrainingSettings(device="cpu")).threads == chosen
    for unusable in ("0", "all"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        reason = choose_hardware(TrainingSettings(device="cpu")).threads.reason
        assert (
            reason
            == f"one for each core that this process may use; OMP_NUM_THREADS='{unusable}' is no number of threads"
        )
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "cpu.max")
    assert usable_cores() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(SettingsError, match="'cuda:1' is not here: 0 CUDA devices"):
        choose_hardware(TrainingSettings(device="cuda:1"))
    for unknown in ("gpu", "meta", "xpu"):
        with pytest.raises(SettingsError, match=f"Unknown device '{unknown}'"):
            choose_hardware(TrainingSettings(device=unknown))


def test_training_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, numpy as np, fovea; "
        "images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8); "
        "data = images, np.arange(60) % 2; "
        "settings = dict(epochs=1, threads=1, ema_decay=0.9, report=False, verbose=False); "
        "[fovea.train(data, optimizer=name, **settings) "
        "for name in ('adam', 'sgd', 'rmsprop', 'muon')]; "
        "print('torch._dynamo' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
