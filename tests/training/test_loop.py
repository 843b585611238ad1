"""The loop: it learns, it is exact, it keeps the chosen weights, it stops where it must."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.conftest import bars
from torch import nn

from fovea.data.imageset import RawData
from fovea.data.load import read_raw
from fovea.errors import NonFiniteLossError, SettingsError
from fovea.evaluation.metrics import cross_entropy
from fovea.evaluation.predictions import predict
from fovea.settings import Recipe, with_settings
from fovea.training.callbacks import Callback, Metrics, TrainingState, make_callbacks
from fovea.training.loop import FitResult, fit
from fovea.training.plan import Own, Plan, plan_run, train_batches, train_sample

FAST: dict[str, Any] = {"epochs": 3, "batch_size": 32, "threads": 1, "device": "cpu", "augmentation": "none"}
DROPOUT = ["conv 8 3x3 same relu", "maxpool 2", "dropout .3", "flatten", "dense classes"]


@pytest.fixture(scope="module")
def raw() -> RawData:
    return read_raw(bars(150))


def plan(raw: RawData, net: nn.Module | None = None, **settings: Any) -> Plan:
    return plan_run(with_settings(Recipe(), {**FAST, **settings}), raw, Own(net))


def run(planned: Plan, *callbacks: Callback) -> FitResult:
    own = make_callbacks(planned.recipe.callbacks, planned.recipe.schedule)
    return fit(
        planned.net,
        train_batches(planned),
        train_sample(planned),
        planned.splits.sets["val"],
        planned.recipe,
        planned.hardware.target,
        [*own, *callbacks],
    )


def same(first: FitResult, second: FitResult) -> bool:
    return all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_it_learns_far_above_chance(raw: RawData) -> None:
    result = run(plan(raw, epochs=6))
    assert result.history[-1]["val_accuracy"] > 0.9
    assert list(result.history[0]) == [
        "train_loss",
        "train_accuracy",
        "running_loss",
        "running_accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
    ]


EXACT = [
    {},
    {"layers": DROPOUT, "augmentation": "digits"},
    {"ema_decay": 0.9, "clip_norm": 1.0, "label_smoothing": 0.1},
    {"layers": DROPOUT, "optimizer": "rmsprop", "schedule": "plateau"},
    {"precision": "fp32"},
]


@pytest.mark.parametrize("settings", EXACT, ids=str)
def test_the_same_settings_give_the_same_bits_whatever_was_drawn_before(raw: RawData, settings: dict[str, Any]) -> None:
    first = run(plan(raw, **settings))
    torch.rand(7)
    second = run(plan(raw, **settings))
    assert same(first, second)
    assert not same(first, run(plan(raw, seed=1, **settings)))


def test_training_leaves_the_global_generator_alone(raw: RawData) -> None:
    planned = plan(raw, layers=DROPOUT)
    before = torch.random.get_rng_state()
    run(planned)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_is_a_function_of_seed_and_step(raw: RawData) -> None:
    """A net that is all dropout shows its masks in the running loss."""
    masks: list[torch.Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            dropped = nn.functional.dropout(torch.ones(4, 16), 0.5, self.training)
            if self.training:
                masks.append(dropped)
            out: torch.Tensor = self.head(x.flatten(1))
            return out

    run(plan(raw, Spy(), epochs=2))
    first, masks = masks, []
    run(plan(raw, Spy(), epochs=2))
    assert len(first) == len(masks) == 2 * 4
    assert all(torch.equal(a, b) for a, b in zip(first, masks, strict=True))
    assert len({mask.numpy().tobytes() for mask in masks}) == len(masks)


def test_the_last_epochs_weights_are_kept_where_the_settings_say_so(raw: RawData) -> None:
    snapshots = []

    class Keep(Callback):
        def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
            snapshots.append({name: value.clone() for name, value in state.net.state_dict().items()})

    result = run(plan(raw, epochs=3, keep="last", monitor="val_loss", lr=0.5), Keep())
    assert result.best_epoch == 3
    assert all(torch.equal(value, snapshots[2][name]) for name, value in result.weights.items())


def test_the_weights_kept_are_those_of_the_best_epoch(raw: RawData) -> None:
    snapshots: list[dict[str, torch.Tensor]] = []

    class Keep(Callback):
        def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
            snapshots.append({name: value.clone() for name, value in state.net.state_dict().items()})

    result = run(plan(raw, epochs=5, lr=0.3, monitor="val_loss"), Keep())
    losses = [metrics["val_loss"] for metrics in result.history]
    assert result.best_epoch == losses.index(min(losses)) + 1
    best = snapshots[result.best_epoch - 1]
    assert all(torch.equal(value, best[name]) for name, value in result.weights.items())


def test_the_measured_figures_are_those_of_evaluation_mode(raw: RawData) -> None:
    planned = plan(raw, layers=DROPOUT, augmentation="digits", monitor="val_loss", epochs=1)
    result = run(planned)
    planned.net.load_state_dict(result.weights)
    for split, images in (("val", planned.splits.sets["val"]), ("train", train_sample(planned))):
        found = predict(planned.net, images, planned.preprocessor, planned.hardware.target, 1000)
        assert result.history[0][f"{split}_loss"] == cross_entropy(found)


def test_the_train_sample_is_fixed_as_large_as_validation_and_of_training_images(raw: RawData) -> None:
    planned = plan(raw)
    sample, again = train_sample(planned), train_sample(plan(raw, seed=9))
    assert sample.fingerprint == again.fingerprint
    assert len(sample) == len(planned.splits.sets["val"])
    assert set(sample.ids) <= set(planned.splits.sets["train"].ids)


def test_early_stopping_and_a_users_callback_end_training_early(raw: RawData) -> None:
    result = run(plan(raw, epochs=30, patience=2, monitor="val_loss", lr=0.5))
    assert len(result.history) < 30
    assert result.stop_reason is not None
    assert "val_loss has not improved for 2 epochs" in result.stop_reason

    class Stop(Callback):
        ended = 0

        def on_step(self, state: TrainingState) -> None:
            if state.step == 2:
                state.stop("seen enough")

        def on_end(self, state: TrainingState) -> None:
            self.ended += 1

    stop = Stop()
    result = run(plan(raw), stop)
    assert (len(result.history), result.stop_reason, stop.ended) == (1, "seen enough", 1)


def test_the_schedule_reaches_the_optimizer(raw: RawData) -> None:
    result = run(plan(raw, schedule="step", step_epochs=1, step_factor=0.1, warmup_fraction=0, lr=0.1, optimizer="sgd"))
    assert [metrics["lr"] for metrics in result.history] == pytest.approx([0.1, 0.01, 0.001])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "sgd", "lr": 1e38, "layers": ["flatten", "dense classes"]}, "learning rate is too high"),
        ({"layers": ["flatten", "scale 1e39", "dense classes"]}, "not finite before any update"),
    ],
)
def test_a_loss_that_is_not_finite_stops_training_and_names_its_likely_cause(
    raw: RawData, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(NonFiniteLossError, match=words) as caught:
        run(plan(raw, **settings))
    assert " step " in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_module_of_the_users_own_is_trained_as_it_is_and_autotune_says_so(raw: RawData) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
    planned = plan(raw, net)
    assert [type(layer) for layer in planned.net] == [nn.Flatten, nn.Dropout, nn.Linear]  # type: ignore[arg-type]
    assert planned.hardware.fast_ops.value == planned.recipe.training.fast_ops == "off"
    with pytest.raises(SettingsError, match="leave it out for a module of your own"):
        plan_run(Recipe(), raw, Own(net), autotune=True)
