"""TimeProfile: where the time of a run went, as its profile.json holds it and as it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fovea.errors import DataError

TIME_PROFILE = "profile.json"
FORWARD, BACKWARD, LOSS, REST = "forward", "backward", "loss", "rest"
BETWEEN = "between layers"  # additions of residual blocks, functions that a net calls itself
# The phases of a run, in the order in which a step and a run go through them.
PHASES = ("augmentation", FORWARD, LOSS, BACKWARD, "optimizer", "evaluation", "saving", REST)
_NAME_WIDTH = 36  # with two columns of shares beside it a line keeps within 60 columns


@dataclass(frozen=True)
class TimePart:
    """One phase of a run, or a part of one.

    Attributes:
        name: of a layer: as `fovea summary` names it.
        seconds: of the phase with all its parts.
        calls: how often it was entered; a layer: how often it was run.
        output: of a layer: the shape of its output as text.
        parts: what it consists of; their seconds sum to its own. Layers stand in the order in which they ran.
    """

    name: str
    seconds: float
    calls: int
    output: str = ""
    parts: tuple[TimePart, ...] = ()

    def as_json(self, total_seconds: float) -> dict[str, Any]:
        """Plain values, with the share of the whole run."""
        return {
            "name": self.name,
            **({"output": self.output} if self.output else {}),
            "seconds": self.seconds,
            "share": self.seconds / total_seconds,
            "calls": self.calls,
            **({"parts": [part.as_json(total_seconds) for part in self.parts]} if self.parts else {}),
        }


@dataclass(frozen=True)
class TimeProfile:
    """Where the time of a run went: its phases leave no gap, their shares sum to 1; prints as a table."""

    phases: tuple[TimePart, ...]

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(phase.seconds for phase in self.phases)

    def phase(self, name: str) -> TimePart:
        """A phase by its name, one of `PHASES`."""
        return next(phase for phase in self.phases if phase.name == name)

    def as_json(self) -> dict[str, Any]:
        """The profile as plain values: what profile.json holds."""
        seconds = self.seconds
        return {"seconds": seconds, "phases": [phase.as_json(seconds) for phase in self.phases]}

    def __str__(self) -> str:
        lines = [_line("where the time went", f"{self.seconds:.1f} s")]
        for phase in self.phases:
            lines.append(_line(f"  {phase.name}", self._share(phase)))
            if phase.name not in (FORWARD, BACKWARD):
                lines += [_line(f"    {part.name}", self._share(part)) for part in phase.parts]
        return "\n".join([*lines, *self._layer_lines()])

    def _layer_lines(self) -> list[str]:
        """Forward and backward beside each other, a line a layer."""
        forward, backward = self.phase(FORWARD).parts, self.phase(BACKWARD).parts
        if not forward:
            return []
        size = max(len(part.name) for part in forward)
        lines = [_line("by layer", FORWARD, BACKWARD)]
        for ahead, back in zip(forward, backward, strict=True):
            name = f"  {ahead.name:<{size}}  {ahead.output}".rstrip()
            lines.append(_line(name, self._share(ahead), self._share(back)))
        return lines

    def _share(self, part: TimePart) -> str:
        return f"{part.seconds / self.seconds * 100:.1f} %"


def _line(name: str, *cells: str) -> str:
    if len(name) > _NAME_WIDTH:
        name = name[: _NAME_WIDTH - 3] + "..."
    return f"{name:<{_NAME_WIDTH}}" + "".join(f" {cell:>9}" for cell in cells)


def time_profile_from_json(value: Mapping[str, Any]) -> TimeProfile:
    """The inverse of `TimeProfile.as_json`.

    Raises:
        DataError: when a value is missing or of the wrong kind.
    """
    try:
        found = TimeProfile(tuple(map(_part_from_json, value["phases"])))
        if [phase.name for phase in found.phases] != list(PHASES) or found.seconds <= 0:
            raise ValueError("its phases are not those of a run")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{TIME_PROFILE} is damaged: {error}.") from None
    return found


def _part_from_json(value: Mapping[str, Any]) -> TimePart:
    parts = tuple(map(_part_from_json, value.get("parts", ())))
    return TimePart(
        str(value["name"]), float(value["seconds"]), int(value["calls"]), str(value.get("output", "")), parts
    )
