"""What every section of settings is, checks of single settings that are more than a range, and Keras' names."""

from __future__ import annotations

import os
import re
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

StepPlan = tuple[tuple[int, int], ...]  # (from so many steps on, train so many steps in all)
# Arguments of Keras and scikit-learn that, taken for misspelt settings, would lead astray -> what they are here.
KERAS_ARGUMENTS = {
    "validation_data": "val_data",
    "validation_batch_size": "eval_batch_size",
    "validation_steps": "none, all validation images are looked at",
    "random_state": "split_seed",
    "loss": "cross-entropy, always",
    "metrics": "loss and accuracy, always",
    "shuffle": "always, each epoch anew",
    "class_weight": "none",
    "initial_epoch": "none; resume goes on with a run",
    "activation": "a word of a layer's line",
    "input_shape": "as the images are, or image_size",
    "target_size": "image_size",
    "color_mode": "as the images are",
    "data_format": "channels last",
    "dtype": "precision",
    "mode": "none, a loss falls and an accuracy rises",
    "factor": "plateau_factor",
    "min_lr": "plateau_min_lr",
    "restore_best_weights": "keep",
    "save_best_only": "keep",
    "decay": "a schedule",
    "clipvalue": "none, clip_norm limits the norm of all gradients",
    "use_ema": "ema_decay",
    "ema_momentum": "ema_decay",
}


def as_plan(plan: StepPlan) -> StepPlan:
    """A plan of steps, from step 0 on, each entry before the total of the last."""
    starts = [at for at, _ in plan]
    fits = starts[:1] == [0] and all(total > at for at, total in plan)
    if not fits or any(not at < later < total for (at, total), later in zip(plan, starts[1:], strict=False)):
        reason = "expected pairs of a step and a larger total, from step 0 on, each before the total of the last"
        raise PydanticCustomError("plan", "{reason}", {"reason": reason})
    return plan


def as_fold(fold: tuple[int, int]) -> tuple[int, int]:
    """The number of a fold, from 1, and how many there are."""
    number, of = fold
    if of < 2 or number > of:
        reason = "expected the number of a fold, from 1, and how many there are, two or more: [2, 5]"
        raise PydanticCustomError("fold", "{reason}", {"reason": reason})
    return fold


def as_groups(text: str) -> str:
    """What names the group of an image: "column:NAME", or "regex:PATTERN" with a group in it."""
    kind, _, value = text.partition(":")
    reason = "" if kind in ("column", "regex") and value else "expected column:NAME (or a number) or regex:PATTERN"
    if kind == "regex" and not reason:
        try:
            if re.compile(value).groups < 1:
                reason = f"{value!r} has no (...) around what names the group"
        except re.error as error:
            reason = f"{value!r} is no regular expression: {error}"
    if reason:
        raise PydanticCustomError("groups", "{reason}", {"reason": reason})
    return text


def _as_written(value: Any, annotation: Any) -> Any:
    """A value as it would stand in a recipe, and not true or false where a number is expected.

    NumPy's numbers and arrays become plain ones and paths texts; YAML's on and off are words again where these are
    choices.

    Args:
        annotation: the type of the setting.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, os.PathLike) and _admits(annotation, str):
        value = os.fspath(value)
    if not isinstance(value, bool) or _admits(annotation, bool):
        return value
    if _admits(annotation, "off"):
        return "on" if value else "off"
    if not (_admits(annotation, int) or _admits(annotation, float)):
        return value
    null = ", or null" if _admits(annotation, type(None)) else ""
    raise PydanticCustomError("truth", "{reason}", {"reason": f"expected a number{null}, not yes or no"})


def _admits(annotation: Any, wanted: Any) -> bool:
    return annotation == wanted or any(_admits(inner, wanted) for inner in get_args(annotation))


class Section(BaseModel):
    """One section of a recipe: frozen, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        return _as_written(value, cls.model_fields[str(info.field_name)].annotation)
