"""Checks of single settings that are more than a range."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

StepPlan = tuple[tuple[int, int], ...]  # (from so many steps on, train so many steps in all)


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
