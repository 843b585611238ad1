"""What the input guard says: differences counted over all batches, and put into words."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fovea.data.guard import MEASURES, InputProfile
from fovea.data.new_images import FittedImages

_RARE_SHARE = 0.01  # of the images: fewer are a note, not a warning


@dataclass(frozen=True)
class Difference:
    """One way in which new images are unlike the training images.

    Attributes:
        name: a measure, or "inverted", "size", "aspect", "channels".
        count: how many images it concerns.
        is_rare: whether these are fewer than one in a hundred.
        text: in words, with the figures.
    """

    name: str
    count: int
    is_rare: bool
    text: str


@dataclass
class _Group:
    """Images that differ in the same way: how many, the sum of their values, the size of the first."""

    count: int = 0
    total: float = 0.0
    size: tuple[int, int] = (0, 0)


@dataclass
class GuardTally:
    """Counts differences over batch after batch.

    Attributes:
        profile: of the training images; None: they are not known.
        images: how many were seen.
        unlike: the names of all differences as the images came.
        adapted: "inverted", "centred" -> how many images were.
    """

    profile: InputProfile | None
    images: int = 0
    unlike: set[str] = field(default_factory=set)
    adapted: dict[str, int] = field(default_factory=dict)
    _groups: dict[tuple[str, bool], _Group] = field(default_factory=dict)  # (difference, whether above) -> images

    def add(self, fitted: FittedImages) -> None:
        """Count a batch."""
        self.images += len(fitted)
        self.unlike.update(fitted.comparison.outside)
        for name, which in fitted.adapted.items():
            self.adapted[name] = self.adapted.get(name, 0) + int(which.sum())
        for name, which in fitted.still.outside.items():
            values = fitted.still.values.get("border" if name == "inverted" else name)
            if self.profile is None or name not in self.profile.spreads or values is None:
                self._count(name, True, which, values, fitted)
                continue
            above = values > self.profile.spreads[name].typical
            self._count(name, True, which & above, values, fitted)
            self._count(name, False, which & ~above, values, fitted)

    def _count(
        self,
        name: str,
        above: bool,
        which: NDArray[np.bool_],
        values: NDArray[np.float32] | None,
        fitted: FittedImages,
    ) -> None:
        if not which.any():
            return
        first = fitted.sizes[int(which.argmax())].tolist()
        group = self._groups.setdefault((name, above), _Group(size=(first[0], first[1])))
        group.count += int(which.sum())
        group.total += 0.0 if values is None else float(values[which].sum())

    @property
    def differences(self) -> list[Difference]:
        """What is unlike the training images still, the most frequent first."""
        found = sorted(self._groups.items(), key=lambda item: (item[0][0] != "inverted", -item[1].count))
        return [
            Difference(name, group.count, group.count < _RARE_SHARE * self.images, self._text(name, above, group))
            for (name, above), group in found
        ]

    def lines(self) -> list[tuple[str, str]]:
        """(topic, line) for the terminal: what was adapted, and one line for each difference."""
        if self.profile is None:
            return [("note", "no training images are known: the input guard is off")]
        lines = []
        done = [f"{count:,} {name}" for name, count in self.adapted.items() if count]
        if self.adapted:
            lines.append(("adapted", f"of {self.images:,} images {', '.join(done) or 'none could be made alike'}"))
        for difference in self.differences:
            lines.append(("note" if difference.is_rare else "warning", difference.text))
        if not self.adapted and any(topic == "warning" for topic, _ in lines):
            lines.append(("", self.advice()))
        return lines

    def advice(self) -> str:
        """What to do about it."""
        if "inverted" in self.unlike and not self.unlike - {"inverted", "channels"}:
            return "The answers are not to be trusted. To invert these images: --adapt (in Python adapt=True)."
        if "inverted" in self.unlike or (self.profile is not None and self.profile.plain_background):
            return (
                "The answers are not to be trusted. To make the images like those of the training: --adapt (in Python "
                "adapt=True)."
            )
        return "The answers may be worse than the test accuracy says."

    def _text(self, name: str, above: bool, group: _Group) -> str:
        assert self.profile is not None
        who = f"{group.count:,} of {self.images:,} images" if self.images > 1 else "the image"
        are = "are" if self.images > 1 else "is"
        average = group.total / group.count
        if name == "inverted":
            border, looks = self.profile.spreads["border"], "look" if self.images > 1 else "looks"
            in_training = f"in training {border.smallest:.0f} to {border.largest:.0f}"
            return f"{who} {looks} inverted: the border has the level {average:.0f} on average, {in_training}"
        if name in ("size", "aspect"):
            own = " or ".join(f"{height}x{width}" for height, width in self.profile.sizes)
            done = "resized" if name == "size" else "squeezed"
            shown = f"{group.size[0]}x{group.size[1]}"
            return f"{who} {are} not of the training images' size ({shown}, not {own}) and {are} {done}"
        if name == "channels":
            return f"{who} {are} in colour, the training images are grey"
        words = MEASURES[name][2 if above else 1]
        return f"{who} {are} unlike the training images: {words} ({self._figures(name, average)})"

    def _figures(self, name: str, average: float) -> str:
        """The average of a measure over the images concerned, beside what it is in training."""
        assert self.profile is not None
        spread, is_share = self.profile.spreads[name], MEASURES[name][0] == "share"
        low, high, of = spread.smallest, spread.largest, "in training"
        if low <= average <= high:  # no one of them is too odd, all of them together are
            low, high, of = spread.low, spread.high, "on average of a class in training"
        shown = [f"{figure:.0%}" if is_share else f"{figure:.0f}" for figure in (average, low, high)]
        return f"{name.replace('_', ' ')} {shown[0]} on average, {shown[1]} to {shown[2]} {of}"
