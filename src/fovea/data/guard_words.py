"""What the input guard says: differences counted over all batches, and put into words."""

from __future__ import annotations

from dataclasses import dataclass, field

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
class GuardTally:
    """Counts differences over batch after batch.

    Attributes:
        profile: of the training images.
        images: how many were seen.
        counts: difference -> how many images it concerns.
        adapted: "inverted", "centred" -> how many images were.
    """

    profile: InputProfile
    images: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    adapted: dict[str, int] = field(default_factory=dict)
    _still: dict[str, int] = field(default_factory=dict)
    _values: dict[str, float] = field(default_factory=dict)
    _size: tuple[int, int] | None = None

    def add(self, fitted: FittedImages, sizes: list[tuple[int, int]]) -> None:
        """Count a batch; `sizes` as the images came."""
        self.images += len(fitted)
        for name, which in fitted.comparison.outside.items():
            if name in ("size", "aspect") and self._size is None:
                self._size = sizes[int(which.argmax())]
            self.counts[name] = self.counts.get(name, 0) + int(which.sum())
        for name, which in fitted.still.outside.items():
            self._still[name] = self._still.get(name, 0) + int(which.sum())
        for name, value in fitted.comparison.values.items():
            self._values[name] = self._values.get(name, 0.0) + value * len(fitted)
        for name, which in fitted.adapted.items():
            self.adapted[name] = self.adapted.get(name, 0) + int(which.sum())

    @property
    def differences(self) -> list[Difference]:
        """What is unlike the training images still, the most frequent first."""
        found = sorted(self._still.items(), key=lambda item: (item[0] != "inverted", -item[1]))
        return [
            Difference(name, count, count < _RARE_SHARE * self.images, self._text(name, count)) for name, count in found
        ]

    def lines(self) -> list[tuple[str, str]]:
        """(topic, line) for the terminal: what was adapted, and one line for each difference."""
        lines = []
        done = [f"{count:,} {name}" for name, count in self.adapted.items() if count]
        if self.counts and self.adapted:
            lines.append(("adapted", f"of {self.images:,} images {', '.join(done) or 'none could be made alike'}"))
        for difference in self.differences:
            lines.append(("note" if difference.is_rare else "warning", difference.text))
        if not self.adapted and any(topic == "warning" for topic, _ in lines):
            lines.append(("", self.advice()))
        return lines

    def advice(self) -> str:
        """What to do about it."""
        can_invert = "inverted" in self.counts
        others = set(self.counts) - {"inverted", "channels"}
        if can_invert and not others:
            return "The answers are not to be trusted. To invert these images: --adapt (in Python adapt=True)."
        if can_invert or self.profile.plain_background:
            return (
                "The answers are not to be trusted. To make the images like those of the training: --adapt (in Python "
                "adapt=True)."
            )
        return "The answers may be worse than the test accuracy says."

    def _text(self, name: str, count: int) -> str:
        who = f"{count:,} of {self.images:,} images" if self.images > 1 else "the image"
        plural = "are" if self.images > 1 else "is"
        if name == "inverted":
            border, level = self.profile.spreads["border"], self._values["border"] / self.images
            in_training = f"in training {border.smallest:.0f} to {border.largest:.0f}"
            looks = "look" if self.images > 1 else "looks"
            return f"{who} {looks} inverted: the border has the level {level:.0f} on average, {in_training}"
        if name in ("size", "aspect"):
            assert self._size is not None
            own = " or ".join(f"{height}x{width}" for height, width in self.profile.sizes)
            done = "resized" if name == "size" else "squeezed"
            shown = f"{self._size[0]}x{self._size[1]}"
            return f"{who} {plural} not of the training images' size ({shown}, not {own}) and {plural} {done}"
        if name == "channels":
            return f"{who} {plural} in colour, the training images are grey"
        unit, below, above = MEASURES[name]
        spread, now = self.profile.spreads[name], self._values[name] / self.images
        words = below if now < spread.typical else above
        figures = [now, spread.smallest, spread.largest]
        shown_figures = [f"{figure:.0%}" if unit == "share" else f"{figure:.0f}" for figure in figures]
        return (
            f"{who} {plural} unlike the training images: {words} ({name.replace('_', ' ')} {shown_figures[0]} on "
            f"average, {shown_figures[1]} to {shown_figures[2]} in training)"
        )
