"""Ranges of numbers as Keras' ImageDataGenerator reads them: validators of settings, one message for each mistake."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from pydantic_core import PydanticCustomError

FACTORS = "two factors of at least 0, such as [0.8, 1.2]"
ZOOM = "a number from 0 to 1, z for factors from 1 - z to 1 + z, or two factors of at least 0"
SHIFT = "a number of at least 0 (below 1 a fraction of the side, else pixels) or a list of numbers"


def as_factors(value: Any) -> Any:
    """Two numbers, of which the higher one may come first."""
    if not _is_list(value) or len(value) != 2:
        raise _wrong(FACTORS)
    return _numbers(value, FACTORS)


def as_zoom(value: Any) -> Any:
    """A pair, or a number, which above 1 would turn images upside down."""
    return as_factors(value) if _is_list(value) else _number(value, ZOOM, most=1.0)


def as_shift(value: Any) -> Any:
    """A number, an int of which is not the same as a float, or a list of choices."""
    return _numbers(value, SHIFT, least=-math.inf) if _is_list(value) and value else _number(value, SHIFT)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _numbers(value: Any, expected: str, least: float = 0.0) -> tuple[float | int, ...]:
    return tuple(_number(part, expected, least) for part in value)


def _number(value: Any, expected: str, least: float = 0.0, most: float = math.inf) -> float | int:
    """A number, also out of a text."""
    number = _out_of_text(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        raise _wrong(expected)
    return number


def _out_of_text(text: str) -> float | int | None:
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        return float(text)
    return None


def _wrong(expected: str) -> PydanticCustomError:
    return PydanticCustomError("range", "{reason}", {"reason": f"expected {expected}"})
