"""SmallTrainer: short trainings of a patient of ours on some of its images, in memory, with settings changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from fovea.data.imageset import RawData, RawSet, take_rows
from fovea.errors import NonFiniteLossError
from fovea.settings import Recipe, setting_path, with_settings
from fovea.training.hardware import applied
from fovea.training.loop import FitResult, fit, train_step
from fovea.training.optimizers import make_optimizers
from fovea.training.plan import Own, Plan, plan_run, train_batches, train_sample

MIN_IMAGES, MIN_BATCH = 400, 16  # of a trial, unless the patient has fewer
MIN_VAL, MAX_VAL = 300, 1000  # images that a trial is judged by
_JUDGING = 0.7  # training images that cost as much time as judging one of validation and one of training


@dataclass(frozen=True)
class Outcome:
    """What one short training reached, after its last epoch.

    Attributes:
        accuracy: on validation; where the loss was not finite, that of the most frequent class.
        train_accuracy: on a fixed sample of the training images, as large as validation.
        chance: the share of the most frequent class of validation; count: its images.
    """

    accuracy: float
    train_accuracy: float
    chance: float
    count: int
    is_finite: bool = True
    seconds: float = 0.0


class Trainer(Protocol):
    """Whoever can train the patient again with other settings."""

    def prepare(self, seconds: float) -> None:
        """Choose how much is trained, so that one training takes about so long."""

    def train(self, changes: Mapping[str, Any], seed: int) -> Outcome:
        """Train from the beginning with some settings changed."""

    def describe(self) -> str:
        """How large the trainings are, in words."""

    def share(self) -> float:
        """Which share of the patient's steps a training makes, 0 to 1."""


@dataclass(frozen=True, eq=False)
class _Sizes:
    """What a short training is: settings and data, and its shares of the run's steps and epochs."""

    recipe: Recipe
    raw: RawData
    steps: float = 1.0
    epochs: float = 1.0


@dataclass(eq=False)
class SmallTrainer:
    """Trains a run of ours again in memory: the same settings, fewer images and epochs where time does not allow all.

    The test images are never looked at: validation is the run's own, or training images that a trial leaves out.

    Attributes:
        recipe: the settings of the run; raw: its data, as read.
        own: what the run had besides: a function for images. (A module of the user's own cannot start anew.)
        seconds: about what one training takes; `prepare` sets it, and sizes are chosen at the first training.
    """

    recipe: Recipe
    raw: RawData
    own: Own = field(default_factory=Own)
    seconds: float = 4.0
    _small: _Sizes | None = None
    _planning: float = 0.0  # seconds before each training's first step

    def prepare(self, seconds: float) -> None:
        """Choose sizes anew at the next training."""
        self.seconds, self._small = seconds, None

    def train(self, changes: Mapping[str, Any], seed: int) -> Outcome:
        """Train with some settings changed; `epochs` among them is scaled as those of the run are.

        Raises:
            UserError: for settings that this data or net cannot have.
        """
        began = time.perf_counter()
        plan = self.plan(changes, seed)
        labels = plan.splits.sets["val"].labels
        chance = float(np.bincount(labels).max() / len(labels))
        try:
            last = trained(plan).history[-1]
        except NonFiniteLossError:
            return Outcome(chance, chance, chance, len(labels), False, time.perf_counter() - began)
        seconds = time.perf_counter() - began
        return Outcome(last["val_accuracy"], last["train_accuracy"], chance, len(labels), True, seconds)

    def plan(self, changes: Mapping[str, Any], seed: int) -> Plan:
        """What one short training would be."""
        sizes = self._sizes()
        scaled = dict(changes)
        for name in changes:
            if setting_path(name) == "training.epochs":
                scaled[name] = max(1, round(float(changes[name]) * sizes.epochs))
        recipe = with_settings(sizes.recipe, {**scaled, "training.seed": self.recipe.training.seed + seed})
        return plan_run(recipe, sizes.raw, self.own)

    def describe(self) -> str:
        """Images, batch size and epochs of a trial."""
        training, images = self._sizes().recipe.training, len(self._sizes().raw.parts["train"].images)
        if training.epochs is None or training.batch_size is None:
            return f"all {images:,} images"
        return f"{images:,} images, batch_size {training.batch_size}, {training.epochs} epochs"

    def share(self) -> float:
        """Which share of the run's steps a training makes, 0 to 1."""
        return self._sizes().steps

    def _sizes(self) -> _Sizes:
        if self._small is None:
            self._small = self._choose_sizes()
        return self._small

    def _choose_sizes(self) -> _Sizes:
        """What the time allows. Images and batches shrink together, so that the number of steps stays; then epochs.

        Fewer steps would speak for high learning rates and against augmentation, whatever the patient needs.
        """
        seed, recipe = self.recipe.data.split_seed, with_settings(self.recipe, _NO_TEST)
        count = len(_without_test(self.raw, seed, None, MAX_VAL).parts["train"].images)
        began = time.perf_counter()
        plan = plan_run(recipe, _without_test(self.raw, seed, min(count, 4 * MIN_IMAGES), MIN_VAL), self.own)
        self._planning = min(time.perf_counter() - began, self.seconds / 2)
        epochs, batch = plan.recipe.training.epochs or 1, plan.recipe.training.batch_size or 32
        least = max(min(count, MIN_IMAGES) / count, min(batch, MIN_BATCH) / batch)
        cut = max(self._affordable(plan, epochs) / count, least)
        if cut >= 1:
            return _Sizes(recipe, _without_test(self.raw, seed, None, MAX_VAL))
        smaller = max(min(batch, MIN_BATCH), round(batch * cut))
        recipe = with_settings(recipe, {"training.batch_size": smaller, "training.epochs": epochs})
        plan = plan_run(recipe, _without_test(self.raw, seed, min(count, 4 * MIN_IMAGES), MIN_VAL), self.own)
        affordable, least_images = self._affordable(plan, epochs), max(1, round(count * least))
        images = min(count, max(least_images, round(affordable)))
        shorter = max(1, min(epochs, round(epochs * affordable / images)))
        val = min(MAX_VAL, max(MIN_VAL, images))
        recipe = with_settings(recipe, {"training.batch_size": smaller, "training.epochs": shorter})
        steps = images * shorter / smaller / (count * epochs / batch)
        return _Sizes(recipe, _without_test(self.raw, seed, images, val), min(1.0, steps), shorter / epochs)

    def _affordable(self, plan: Plan, epochs: int) -> float:
        """Training images that one epoch can show, where each epoch is judged."""
        each = (self.seconds - self._planning) * images_per_second(plan) / epochs
        return max(each - _JUDGING * MAX_VAL, each / (1 + _JUDGING))


_NO_TEST = {"data.validation": "split", "data.first_images": None, "evaluation.test": False, "evaluation.tta": "none"}
_NO_TEST |= {"data.val_data": None, "data.test_data": None, "training.budget_seconds": None}


def _without_test(raw: RawData, seed: int, images: int | None, most_val: int) -> RawData:
    """Training images (some of them) and validation images, cut from training where the data brings none."""
    train, val = raw.parts["train"], raw.parts.get("val")
    order = np.random.default_rng(seed).permutation(len(train.images))
    if val is None:
        held = min(most_val, max(len(order) // 5, 1))
        val, order = _rows(train, np.sort(order[:held])), order[held:]
    else:
        val = _rows(val, np.sort(np.random.default_rng(seed).permutation(len(val.images))[:most_val]))
    train = _rows(train, np.sort(order[:images]))
    # A test part has to be there; it is validation once more and never asked.
    return replace(raw, parts={"train": train, "val": val, "test": val})


def _rows(part: RawSet, rows: np.ndarray[Any, np.dtype[np.int64]]) -> RawSet:
    labels = None if part.labels is None else part.labels[rows]
    return RawSet(take_rows(part.images, rows), labels, part.ids[rows])


def trained(plan: Plan) -> FitResult:
    """Train a plan in memory: no folder, no test.

    Raises:
        NonFiniteLossError: when the loss is nan or infinite.
    """
    target, sets = plan.hardware.target, plan.splits.sets
    with applied(plan.hardware):
        return fit(plan.net, train_batches(plan), train_sample(plan), sets["val"], plan.recipe, target)


def images_per_second(plan: Plan, steps: int = 4) -> float:
    """How fast the net trains here, after one step that does not count; the net is changed by it."""
    target, batches = plan.hardware.target, train_batches(plan)
    plan.net.to(target.name)
    optimizers = make_optimizers(plan.net, plan.recipe.optimizer, target.precision)
    count, began = 0, 0.0
    with applied(plan.hardware), torch.random.fork_rng(devices=[]):
        plan.net.train()
        for number, batch in zip(range(steps + 1), _forever(batches), strict=False):
            began = time.perf_counter() if number == 1 else began
            count += len(batch.labels) if number else 0
            train_step(plan.net, batch, optimizers, plan.recipe, target)
    return count / max(time.perf_counter() - began, 1e-6)


def _forever(batches: Any) -> Any:
    epoch = 0
    while True:
        epoch += 1
        yield from batches.epoch(epoch)
