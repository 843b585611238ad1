"""A budget of time: how many steps fit into it, measured before the first step and watched while training goes on.

What was planned is a setting (`training.plan`), written into config.yaml before it takes effect: the clock decides the
plan, and the plan alone decides the bytes.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fovea.budget import Budget, show_seconds
from fovea.data.batches import TrainBatches
from fovea.data.imageset import ImageSet
from fovea.errors import SettingsError
from fovea.evaluation.predictions import Device, predict
from fovea.evaluation.views import looks_per_image
from fovea.settings import Recipe, StepPlan
from fovea.training.callbacks import Callback, TrainingState
from fovea.training.loop import memory_format, train_step
from fovea.training.optimizers import make_optimizers, set_learning_rate

FEWEST_STEPS = 10  # fewer train nothing, and leave the learning rate no time to fall
MOST_LENGTHS = 4  # how many times the full length a long budget may train
_MARGIN = 0.01  # share of the budget left free, so that training ends inside it
_TOLERANCE = 0.02  # share of the budget by which the projected end may be off before the plan changes
_MOST_PLANS = 40
_WINDOW_SECONDS = 1.0  # over which a step's time is measured anew
_SAVING_SECONDS = 0.05  # of an epoch's end, before the first one has been measured
_READING_SECONDS = 0.2  # of the weights, before the last predictions


@dataclass(frozen=True)
class Costs:
    """What training costs here, in seconds.

    Attributes:
        step: of one optimizer step, its batch included.
        epoch_end: of measuring and saving at an epoch's end.
        end: of the last predictions.
    """

    step: float
    epoch_end: float
    end: float


@dataclass(frozen=True)
class Pace:
    """A budget together with what it buys.

    Attributes:
        full_steps: of the training as it would be without a budget.
    """

    budget: Budget
    costs: Costs
    steps_per_epoch: int
    full_steps: int

    @property
    def most_steps(self) -> int:
        """More are of no use."""
        return MOST_LENGTHS * self.full_steps

    @property
    def target_seconds(self) -> float:
        """When the last prediction should be made, from the run's beginning."""
        return self.budget.seconds * (1 - _MARGIN)

    def seconds_to_come(self, step: int, total: int) -> float:
        """From after `step` steps, the end of their epoch not yet measured, to the last prediction."""
        epoch_ends = math.ceil(total / self.steps_per_epoch) - max(step - 1, 0) // self.steps_per_epoch
        return (total - step) * self.costs.step + epoch_ends * self.costs.epoch_end + self.costs.end

    def total_that_fits(self, seconds: float, step: int = 0) -> int:
        """The largest number of steps in all whose end comes within `seconds`; `step` where none fits."""
        low, high = step, max(self.most_steps, step)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.seconds_to_come(step, middle) <= seconds else (low, middle - 1)
        return low

    @property
    def holds_everything(self) -> bool:
        """Whether the whole training, as it would be without a budget, fits from here on."""
        return self.budget.elapsed() + self.seconds_to_come(0, self.full_steps) <= self.target_seconds


def check_start(budget: Budget) -> None:
    """Refuse a budget that is used up before anything was measured.

    Raises:
        SettingsError: with what has taken the time.
    """
    if budget.elapsed() >= budget.seconds:
        raise SettingsError(
            f"The budget of {show_seconds(budget.seconds)} is too short: starting and reading the data took "
            f"{show_seconds(budget.elapsed())} of it."
        )


def first_plan(pace: Pace) -> StepPlan:
    """The steps that fit into what is left of the budget.

    Raises:
        SettingsError: where too few do.
    """
    used = pace.budget.elapsed()
    total = pace.total_that_fits(pace.target_seconds - used)
    fewest = min(FEWEST_STEPS, pace.full_steps)
    if total < fewest:
        least = (used + pace.seconds_to_come(0, fewest)) / (1 - _MARGIN)
        raise SettingsError(
            f"The budget of {show_seconds(pace.budget.seconds)} is too short: {show_seconds(used)} are used up, a step "
            f"takes {show_seconds(pace.costs.step)}, and {fewest} steps with their evaluation end after about "
            f"{show_seconds(math.ceil(least))} in all."
        )
    return ((0, total),)


def describe_plan(pace: Pace, total: int, step: int = 0) -> str:
    """A plan in words: how many steps, and when they end."""
    seconds = pace.seconds_to_come(step, total) + pace.budget.elapsed()
    words = (
        f"{show_seconds(pace.budget.seconds)}: {total:,} steps of {show_seconds(pace.costs.step)}, "
        f"{total / pace.steps_per_epoch:.3g} epochs; the last prediction after about {show_seconds(seconds)}"
    )
    if total < pace.steps_per_epoch:
        words += f"; too short for one epoch: the net sees {total / pace.steps_per_epoch:.0%} of the images, once"
    if total == pace.most_steps:
        words += f"; longer than useful: {MOST_LENGTHS} times the usual epochs are trained, the rest is left over"
    return words


def measure_costs(
    net: nn.Module,
    batches: TrainBatches,
    val: ImageSet | None,
    num_test: int,
    recipe: Recipe,
    device: Device,
    budget: Budget,
) -> Costs:
    """Time a few steps and an evaluation on a copy of the net; nothing of it reaches the training.

    Args:
        val: None: there are no validation images.
        num_test: test images to predict at the end.

    Raises:
        SettingsError: for a module of the user's own that cannot be copied.
    """
    try:
        scratch = copy.deepcopy(net)
    except Exception as error:  # whatever a stranger's __deepcopy__ may raise
        raise SettingsError(
            f"--budget trains a copy of the net to see how fast it is, but it cannot be copied: {error}."
        ) from None
    with torch.random.fork_rng(devices=[]):
        step = _step_seconds(scratch, batches, recipe, device, budget)
        image = _image_seconds(scratch, batches, recipe, device, budget)
    train, num_val = len(batches.images), 0 if val is None else len(val)
    sample = train // 10 if val is None else min(num_val, train)
    looks = looks_per_image(recipe.evaluation, val is not None)
    end = image * looks * (num_val + num_test) + _READING_SECONDS
    return Costs(step, image * (num_val + sample) + _SAVING_SECONDS, end)


def _step_seconds(
    net: nn.Module, batches: TrainBatches, recipe: Recipe, device: Device, budget: Budget, slow: int = 2
) -> float:
    """The median of some steps; the first `slow` ones, which choose and make their kernels, do not count."""
    net.to(device.name, memory_format=memory_format(device))  # type: ignore[call-overload]
    optimizers = make_optimizers(net, recipe.optimizer, device.precision)
    set_learning_rate(optimizers, 1e-3)  # a net that diverges would be timed on nan
    net.train()
    times: list[float] = []
    endless = itertools.chain.from_iterable(batches.epoch(epoch) for epoch in itertools.count(1))
    before = begun = budget.elapsed()
    for batch in endless:
        train_step(net, batch, optimizers, recipe, device)
        after = budget.elapsed()
        times.append(after - before)
        before = after
        counted, spent = len(times) - slow, (after - begun) / budget.seconds
        if counted >= 3 and (spent >= min(0.02, 1 / budget.seconds) or counted >= 50):
            break
        if counted >= 1 and spent >= 0.05:
            break
    return max(statistics.median(times[slow:]), 1e-6)


def _image_seconds(net: nn.Module, batches: TrainBatches, recipe: Recipe, device: Device, budget: Budget) -> float:
    """The time of one image in evaluation."""
    images = batches.images
    some = images.take(np.arange(min(len(images), batches.batch_size, recipe.evaluation.eval_batch_size)))
    seconds = 0.0
    for _ in range(2):  # the first call makes its kernels
        before = budget.elapsed()
        predict(net, some, batches.preprocessor, device, recipe.evaluation.eval_batch_size)
        seconds = budget.elapsed() - before
        if seconds > 0.02 * budget.seconds:
            break
    return seconds / len(some)


class Pacer(Callback):
    """Plans anew where the machine has become slower or faster than it was measured.

    Args:
        on_plan: takes (plan, state, the pace) before the plan takes effect; it writes it down.
    """

    def __init__(self, pace: Pace, on_plan: Callable[[StepPlan, TrainingState, Pace], None]) -> None:
        self.pace, self.on_plan = pace, on_plan
        self.last: float | None = None  # when the last step ended
        self.planned = self.looked = pace.budget.elapsed()
        self.window_steps, self.window_seconds = 0, 0.0
        self.seen_seconds = 1.0  # what was measured before the first step has some weight
        self.has_seen_epoch_end = False

    def on_step(self, state: TrainingState) -> None:
        now = self.pace.budget.elapsed()
        if self.last is not None:
            self._learn(state, now - self.last)
        self.last = now
        if now - self.looked >= min(_WINDOW_SECONDS, 0.02 * self.pace.budget.seconds):
            self.looked = now
            if self.window_steps:
                self._close_window()
            self._look(state, now)

    def _learn(self, state: TrainingState, seconds: float) -> None:
        """Take in the time since the last step; before an epoch's first step its measuring and saving lie too."""
        if state.running is None or state.running.batches != 1:
            self.window_steps += 1
            self.window_seconds += seconds
            return
        costs = self.pace.costs
        found = max(seconds - costs.step, 0.0)
        known = (costs.epoch_end + found) / 2 if self.has_seen_epoch_end else found
        self.pace = replace(self.pace, costs=replace(costs, epoch_end=known))
        self.has_seen_epoch_end = True

    def _close_window(self) -> None:
        """A mean of the steps so far, in which those of the last eighth of the budget count most."""
        costs, found = self.pace.costs, self.window_seconds / self.window_steps
        self.seen_seconds += self.window_seconds
        recent = 1 - math.exp(-self.window_seconds / max(3.0, self.pace.budget.seconds / 8))
        weight = max(recent, self.window_seconds / self.seen_seconds)
        self.pace = replace(self.pace, costs=replace(costs, step=costs.step + weight * (found - costs.step)))
        self.window_steps, self.window_seconds = 0, 0.0

    def _look(self, state: TrainingState, now: float) -> None:
        pace, budget = self.pace, self.pace.budget.seconds
        if state.total_steps - state.step <= FEWEST_STEPS or now - self.planned < budget / _MOST_PLANS:
            return
        end = now + pace.seconds_to_come(state.step, state.total_steps)
        if abs(end - pace.target_seconds) <= _TOLERANCE * budget:
            return
        total = pace.total_that_fits(pace.target_seconds - now, state.step)
        total = max(total, state.step + FEWEST_STEPS)
        if total == state.total_steps:
            return
        self.planned = now
        # What was planned for later, by a process that was stopped before it got there, has not happened.
        plan = (*(entry for entry in state.plan if entry[0] < state.step), (state.step, total))
        self.on_plan(plan, state, pace)
        state.follow(plan)
