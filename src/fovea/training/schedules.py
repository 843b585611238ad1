"""Schedules: the learning rate as a share of its full value, a function of the step alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from fovea.registry import Registry
from fovea.settings import ScheduleSettings, StepPlan, TrainingSettings

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


def complete_schedule(settings: ScheduleSettings) -> ScheduleSettings:
    """Settings with the warm-up written out; schedules that fall to the end warm up unless told otherwise.

    Raises:
        SettingsError: for an unknown schedule.
    """
    SCHEDULES[settings.name]
    if settings.warmup_fraction is not None and settings.name not in WITHOUT_WARMUP:
        return settings
    return settings.model_copy(update={"warmup_fraction": 0.1 if settings.name in {"cosine", "linear"} else 0.0})


def learning_rate_factor(
    settings: ScheduleSettings, step: int, total_steps: int, steps_per_epoch: int, plan: StepPlan = ()
) -> float:
    """The share of the full learning rate at a step, counted from 0.

    Args:
        plan: overrules total_steps; the schedule runs over the first plan's steps, faster or slower as later ones ask.
    """
    place: float = step
    if plan:
        place, total_steps = place_in_first_plan(plan, step), plan[0][1]
    warmup = round((settings.warmup_fraction or 0.0) * total_steps)
    if place < warmup:
        return (place + 1) / (warmup + 1)
    progress = (place - warmup) / max(total_steps - warmup, 1)
    return SCHEDULES[settings.name](progress, step / steps_per_epoch, settings)


def place_in_first_plan(plan: StepPlan, step: int) -> float:
    """The step of the first plan at which the schedule is as far as at `step`.

    Where a later plan begins the schedule goes on from where it is, and reaches its end at that plan's last step.
    """
    total = plan[0][1]
    place, since, pace = 0.0, 0, 1.0
    for begin, end in plan[1:]:
        if begin > step:
            break
        place += (begin - since) * pace
        since, pace = begin, (total - place) / (end - begin)
    return min(place + (step - since) * pace, total)


def total_steps_of(plan: StepPlan, step: int) -> int:
    """How many steps there will have been at the end, as planned when `step` steps were done."""
    return [total for begin, total in plan if begin <= step][-1]


def describe_length(settings: TrainingSettings) -> str:
    """How long a training is: "7 epochs of 106 steps", "339 steps, 3.2 epochs of 106"."""
    if settings.plan is None:
        plural = "" if settings.epochs == 1 else "s"
        return f"{settings.epochs} epoch{plural} of {settings.steps_per_epoch} steps"
    steps = settings.plan[-1][1]
    return f"{steps:,} steps, {steps / (settings.steps_per_epoch or steps):.3g} epochs of {settings.steps_per_epoch}"
