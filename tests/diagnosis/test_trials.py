"""Trials: what confirms, what withdraws, what stays a suspicion; the instruments on small data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.diagnosis.instruments import (
    learning_rate_range,
    linear_baseline,
    overfit_one_batch,
    permuted_labels,
    zeroed_inputs,
)
from fovea.diagnosis.record import Record
from fovea.diagnosis.trainer import Outcome, SmallTrainer
from fovea.diagnosis.trials import decide, repeated_seeds, verify
from fovea.errors import SettingsError
from fovea.evaluation.findings import Finding
from fovea.settings import Recipe, with_settings
from tests.conftest import bars

RECORD = Record("run", "a run")


@dataclass
class Known:
    """A trainer whose accuracies are known: those of the patient, and what each setting adds."""

    gains: Mapping[str, float]
    noise: float = 0.002
    steps: float = 1.0
    trained: list[tuple[dict[str, Any], int]] = field(default_factory=list)

    def prepare(self, seconds: float) -> None:
        self.seconds = seconds

    def train(self, changes: Mapping[str, Any], seed: int) -> Outcome:
        self.trained.append((dict(changes), seed))
        if "model" in changes:
            raise SettingsError("no such model")
        rng = np.random.default_rng((seed, len(changes)))
        value = 0.8 + sum(self.gains[name] for name in changes) + self.noise * rng.normal()
        return Outcome(value, value, 0.1, 1000)

    def describe(self) -> str:
        return "some images"

    def share(self) -> float:
        return self.steps


def suspect(name: str, remedy: dict[str, Any] | None) -> Finding:
    return Finding(name, "severe", {}, "A cause.", "A cure.", remedy=remedy)


def test_what_helps_is_confirmed_what_does_not_is_withdrawn() -> None:
    trainer = Known({"lr": 0.1, "epochs": 0.0, "batch_size": -0.1})
    given = [suspect("a", {"lr": 1}), suspect("b", {"epochs": 9}), suspect("c", {"batch_size": 8}), suspect("d", None)]
    found = verify(RECORD, given, trainer)
    assert [finding.status for finding in found] == ["confirmed", "withdrawn", "withdrawn", "suspected"]
    trial = found[0].trial
    assert trial is not None
    assert trial["after"] - trial["before"] == pytest.approx(0.1, abs=0.01)
    assert trial["difference"]["low"] > 0
    assert found[3] == given[3]


def test_a_trial_much_shorter_than_the_training_withdraws_nothing() -> None:
    found = verify(RECORD, [suspect("a", {"epochs": 9})], Known({"epochs": 0.0}, steps=0.2))[0]
    assert (found.status, found.cure) == ("suspected", "A cure.")


def test_seeds_are_paired_and_what_is_decided_is_not_trained_again() -> None:
    trainer = Known({"lr": 0.1})
    verify(RECORD, [suspect("a", {"lr": 1})], trainer)
    assert [seed for _, seed in trainer.trained] == [0, 0, 1, 1, 2, 2]
    assert trainer.seconds == pytest.approx(60 * 0.8 / 6)


def test_a_gain_within_the_noise_stays_a_suspicion_after_five_seeds() -> None:
    trainer = Known({"lr": 0.01}, noise=0.05)
    found = verify(RECORD, [suspect("a", {"lr": 1})], trainer)[0]
    assert found.status == "suspected"
    assert found.trial is not None
    assert found.trial["seeds"] == 5


def test_a_cure_that_did_not_help_is_not_recommended() -> None:
    trainer = Known({"lr": -0.02}, noise=0.05)
    found = verify(RECORD, [suspect("a", {"lr": 1})], trainer)[0]
    if found.status == "suspected" and found.trial is not None and found.trial["after"] < found.trial["before"]:
        assert "did not help" in found.cure
    else:
        assert found.status == "withdrawn"


def test_a_remedy_that_cannot_be_set_is_told() -> None:
    found = verify(RECORD, [suspect("a", {"model": "none"}), suspect("b", {"lr": 1})], Known({"lr": 0.1}))
    assert found[0].trial == {"problem": "no such model"}
    assert (found[0].status, found[1].status) == ("suspected", "confirmed")


def test_without_a_remedy_or_time_nothing_is_trained() -> None:
    trainer = Known({"lr": 0.1})
    assert verify(RECORD, [suspect("a", None)], trainer)[0].trial is None
    verify(RECORD, [suspect("a", {"lr": 1})], trainer, seconds=0)
    assert trainer.trained == []


def test_noise_alone_is_seldom_confirmed() -> None:
    """A remedy that changes nothing but the draw of the noise, a thousand times: at most 5 %, as two looks allow."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        pairs = rng.normal(0.8, 0.02, (2, 5))
        wrong += any(decide(pairs[0][:count], pairs[1][:count], 1000) == "confirmed" for count in (3, 5))
    assert wrong < 50


def test_the_same_gain_again_and_again_is_held_against_the_noise_of_images() -> None:
    assert decide([0.1] * 3, [0.9] * 3, 100) == "confirmed"
    assert decide([0.5] * 3, [0.55] * 3, 50) == "suspected"
    assert decide([0.9] * 3, [0.9] * 3, 100) == "withdrawn"


@pytest.fixture(scope="module")
def trainer() -> SmallTrainer:
    images, labels = bars(300)
    recipe = with_settings(
        Recipe(),
        {"optimizer": "sgd", "lr": 1e-7, "epochs": 2, "augmentation": "none", "batch_size": 16, "threads": 1,
         "model.layers": ["conv 4 3x3 same relu", "maxpool 2", "flatten", "dense 3"], "precision": "fp32"},
    )  # fmt: skip
    return SmallTrainer(recipe, read_raw((images, labels), ReadOptions()), seconds=2.0)


def test_a_planted_fault_is_confirmed_on_real_trainings(trainer: SmallTrainer) -> None:
    found = verify(RECORD, [suspect("a", {"lr": 0.05})], trainer, seconds=20)[0]
    assert found.trial is not None
    assert "problem" not in found.trial, found.trial
    assert found.status == "confirmed"
    assert found.trial is not None
    assert found.trial["before"] < 0.7 < found.trial["after"]


def test_trainings_are_repeatable_and_never_see_the_test_part(trainer: SmallTrainer) -> None:
    first, second = trainer.train({"lr": 0.01}, 1), trainer.train({"lr": 0.01}, 1)
    assert first.accuracy == second.accuracy
    plan = trainer.plan({}, 0)
    train, val = (set(map(str, plan.splits.sets[name].ids)) for name in ("train", "val"))
    assert not train & val
    assert not plan.recipe.evaluation.test


def test_a_loss_that_is_not_finite_counts_as_chance(trainer: SmallTrainer) -> None:
    outcome = trainer.train({"lr": 1e30}, 0)
    assert (outcome.is_finite, outcome.accuracy) == (False, outcome.chance)


def test_a_trial_keeps_the_steps_and_cuts_images_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.diagnosis.trainer.images_per_second", lambda plan: 10_000.0)
    images, labels = bars(3000)
    settings = {"epochs": 3, "batch_size": 128, "model": "small", "augmentation": "none", "threads": 1}
    small = SmallTrainer(with_settings(Recipe(), settings), read_raw((images, labels), ReadOptions()), seconds=0.3)
    sizes = small._sizes()
    recipe, raw, share = sizes.recipe, sizes.raw, sizes.steps
    assert len(raw.parts["train"].images) < 2500
    assert (recipe.training.batch_size or 0) < 128
    assert small.share() == share <= 1
    assert share > 0.3 or recipe.training.batch_size == 16
    assert f"batch_size {recipe.training.batch_size}" in small.describe()
    longer = small.plan({"epochs": 6}, 0).recipe.training.epochs
    assert longer == max(1, round(6 * sizes.epochs))


def test_seeds_again(trainer: SmallTrainer) -> None:
    spread = repeated_seeds(trainer, 2)
    assert len(spread.accuracies) == 2
    assert spread.mean == pytest.approx(sum(spread.accuracies) / 2)


def test_the_range_of_rates_finds_a_better_one(trainer: SmallTrainer) -> None:
    found = learning_rate_range(trainer.plan({}, 0), steps=20)
    assert found.present == 1e-7
    assert found.best >= 0.01
    assert found.is_far_off
    assert not learning_rate_range(trainer.plan({"lr": found.best}, 0), steps=20).is_far_off


def test_one_batch_is_learned_by_heart_or_not(trainer: SmallTrainer) -> None:
    assert overfit_one_batch(trainer.plan({"lr": 0.05}, 0), steps=100).is_learned
    assert not overfit_one_batch(trainer.plan({}, 0), steps=20).is_learned


def test_zeroed_inputs_cost_a_net_that_looks_at_them() -> None:
    inputs = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    labels = torch.tensor([0, 1])
    looks, blind = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        looks.weight.copy_(torch.eye(2))
        looks.bias.zero_()  # type: ignore[union-attr]
        blind.weight.zero_()
    assert zeroed_inputs(looks, inputs, labels).inputs_matter
    assert not zeroed_inputs(blind, inputs, labels).inputs_matter


def test_the_linear_bar_is_scikit_learns(trainer: SmallTrainer) -> None:
    sets = trainer.plan({}, 0).splits.sets
    found = linear_baseline(sets["train"], sets["val"])
    assert found.accuracy > 0.95
    assert found.chance == pytest.approx(1 / 3, abs=0.1)


def test_permuted_labels_teach_nothing(trainer: SmallTrainer) -> None:
    assert permuted_labels(trainer.plan({"lr": 0.05}, 0)).is_at_chance
