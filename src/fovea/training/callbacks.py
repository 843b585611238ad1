"""Callbacks: three calls, `on_step`, `on_epoch`, `on_end`; ours and a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fovea.budget import clock
from fovea.errors import SettingsError
from fovea.settings import CallbackSettings, ScheduleSettings, StepPlan
from fovea.training.schedules import total_steps_of

Metrics = Mapping[str, float]


@dataclass
class Running:
    """The sums of an epoch that is under way, over its batches so far."""

    batches: int = 0
    loss_sum: float = 0.0  # of the images' losses
    num_correct: int = 0
    count: int = 0  # of images


@dataclass
class TrainingState:
    """Where training stands; the one value that callbacks may change.

    A change survives a stop and a resume if it is made to `lr_scale`, to a number of an optimizer's param_groups or to
    the weights; what else a callback may change (which weights are trained, a layer's attributes) does not.

    Attributes:
        net: the net in training; optimizers: what changes it; average: its moving average, None where there is none.
        epoch: counted from 1; step: counted from 1 over all epochs.
        running: the sums of the epoch that is under way; None between epochs.
        lr_scale: multiplies the schedule's learning rate.
        plan: how many steps there will be, where a budget of time decides it; it changes while training goes on.
        history: the metrics of the epochs so far.
        best_epoch: the epoch with the best weights so far, 0 before the first has ended.
        best_weights: its weights, on the CPU, by parameter name.
        stop_reason: set it (see `stop`) to end training after this epoch or, from on_step, after this step.
    """

    net: nn.Module
    epochs: int
    steps_per_epoch: int
    base_lr: float
    optimizers: Sequence[Optimizer] = ()
    average: AveragedModel | None = None
    epoch: int = 0
    step: int = 0
    lr_scale: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    stop_reason: str | None = None
    running: Running | None = None
    began: float = field(default_factory=clock)  # of this process
    seconds_before: float = 0.0  # of training in processes before this one
    plan: StepPlan = ()

    @property
    def total_steps(self) -> int:
        """Steps at the end of training, as planned now."""
        return total_steps_of(self.plan, self.step) if self.plan else self.epochs * self.steps_per_epoch

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.step >= self.total_steps

    def follow(self, plan: StepPlan) -> None:
        """Take over a plan, or what it says of the step that training has come to."""
        self.plan = plan
        if plan:
            self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def seconds(self) -> float:
        """Training time so far, over all processes that took part."""
        return self.seconds_before + clock() - self.began

    def stop(self, reason: str) -> None:
        """End training; the reason is shown and written down."""
        self.stop_reason = reason


class Callback:
    """The base of callbacks: override what you need. Nothing here does anything.

    What a callback counts from epoch to epoch survives a stop and a resume if `state_dict` returns it, as numbers,
    texts, lists and dicts of these, and `load_state_dict` takes it back.
    """

    def on_step(self, state: TrainingState) -> None:
        """After each optimizer step."""

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        """After each epoch, with the epoch's metrics."""

    def on_end(self, state: TrainingState) -> None:
        """When training has ended, also when a callback stopped it; once in each process that reaches the end."""

    @property
    def name(self) -> str:
        """What messages call it, and what a saved state is matched by."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on in another process."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class _FunctionCallback(Callback):
    def __init__(self, function: Callable[[TrainingState, Metrics], Any]) -> None:
        self.function = function

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        self.function(state, metrics)

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))


def as_callback(given: Any) -> Callback:
    """A user's callback: an object with the three calls, or a function called after each epoch.

    Raises:
        SettingsError: for anything else.
    """
    if isinstance(given, Callback):
        return given
    if callable(given) and not isinstance(given, type):
        return _FunctionCallback(given)
    raise SettingsError(
        f"A callback of type {type(given).__name__} cannot be called: give a fovea.Callback or a function of "
        "(state, metrics), which is called after each epoch."
    )


def is_gain(monitor: str, value: float, best: float, min_delta: float) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`; a loss falls, an accuracy rises."""
    return value < best - min_delta if monitor.endswith("loss") else value > best + min_delta


class _Counting(Callback):
    """A callback that waits for a gain: `best` is None before the first epoch it looked at."""

    best: float | None = None
    waited = 0

    def gains(self, monitor: str, value: float, min_delta: float) -> bool:
        return self.best is None or is_gain(monitor, value, self.best, min_delta)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(_Counting):
    """Stops after `patience` epochs without a gain of more than `min_delta`, counted as Keras 3 counts."""

    def __init__(self, monitor: str, patience: int, min_delta: float = 0.0, start_from_epoch: int = 0) -> None:
        self.monitor, self.patience = monitor, patience
        self.min_delta, self.start_from_epoch = min_delta, start_from_epoch

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        if state.epoch <= self.start_from_epoch:
            return
        self.waited += 1
        if self.gains(self.monitor, metrics[self.monitor], self.min_delta):
            self.best, self.waited = metrics[self.monitor], 0
        elif self.waited >= self.patience and state.epoch > 1:
            state.stop(f"{self.monitor} has not improved for {self.waited} epochs")


class ReduceLROnPlateau(_Counting):
    """Multiplies the learning rate by `factor` after `patience` epochs without a gain, counted as Keras 3 counts."""

    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings
        self.cooldown = 0

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        settings = self.settings
        value = metrics[settings.plateau_monitor]
        if self.cooldown > 0:
            self.cooldown -= 1
            self.waited = 0
        if self.gains(settings.plateau_monitor, value, settings.plateau_min_delta):
            self.best, self.waited = value, 0
        elif self.cooldown == 0:
            self.waited += 1
            if self.waited >= settings.plateau_patience:
                self._reduce(state)

    def _reduce(self, state: TrainingState) -> None:
        lr = state.base_lr * state.lr_scale
        if lr > self.settings.plateau_min_lr:
            state.lr_scale = max(lr * self.settings.plateau_factor, self.settings.plateau_min_lr) / state.base_lr
            self.cooldown, self.waited = self.settings.plateau_cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "cooldown": self.cooldown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.cooldown = state["cooldown"]


class StopAtThreshold(Callback):
    """Stops once a metric has reached a value (a loss: has fallen to it)."""

    def __init__(self, monitor: str, threshold: float) -> None:
        self.monitor, self.threshold = monitor, threshold

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        value = metrics[self.monitor]
        reached = value <= self.threshold if self.monitor.endswith("loss") else value >= self.threshold
        if reached:
            state.stop(f"{self.monitor} reached {value:.4g} (stop_at {self.threshold:g})")


def make_callbacks(settings: CallbackSettings, schedule: ScheduleSettings) -> list[Callback]:
    """The callbacks that the settings ask for."""
    callbacks: list[Callback] = []
    if schedule.name == "plateau":
        callbacks.append(ReduceLROnPlateau(schedule))
    if settings.stop_at is not None:
        callbacks.append(StopAtThreshold(settings.stop_monitor, settings.stop_at))
    if settings.patience is not None:
        callbacks.append(
            EarlyStopping(settings.monitor, settings.patience, settings.min_delta, settings.start_from_epoch)
        )
    return callbacks
