"""Schedules: the learning rate as a share of its full value, a function of the step alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from fovea.registry import Registry
from fovea.settings import ScheduleSettings

# (progress in [0, 1] after warm-up, epochs passed, settings) -> share of the full rate
Shape = Callable[[float, float, ScheduleSettings], float]


def _step(_: float, epochs: float, settings: ScheduleSettings) -> float:
    return float(settings.step_factor ** int(epochs // settings.step_epochs))


def _cosine(progress: float, _: float, settings: ScheduleSettings) -> float:
    return settings.final_fraction + (1 - settings.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


def _linear(progress: float, _: float, settings: ScheduleSettings) -> float:
    return 1 - (1 - settings.final_fraction) * progress


def _one_cycle(progress: float, _: float, settings: ScheduleSettings) -> float:
    """From 1/25 up to 1 in the first 30 %, down to 1e-4 / 25 in the rest, along cosines.

    Source: Smith and Topin, arXiv 1708.07120, with the constants of torch.optim.lr_scheduler.OneCycleLR.
    """
    rise, start, end = 0.3, 1 / 25, 1e-4 / 25
    if progress < rise:
        return start + (1 - start) * (1 - math.cos(math.pi * progress / rise)) / 2
    return end + (1 - end) * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


SCHEDULES: Registry[Shape] = Registry(
    "schedule",
    {
        "constant": lambda *_: 1.0,
        "step": _step,
        "cosine": _cosine,
        "linear": _linear,
        "onecycle": _one_cycle,
        "plateau": lambda *_: 1.0,  # the callback ReduceLROnPlateau does the rest
    },
)
WITHOUT_WARMUP = {"onecycle", "plateau"}


def learning_rate_factor(settings: ScheduleSettings, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The share of the full learning rate at a step, counted from 0."""
    warmup = 0 if settings.name in WITHOUT_WARMUP else round(settings.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return SCHEDULES[settings.name](progress, step / steps_per_epoch, settings)
