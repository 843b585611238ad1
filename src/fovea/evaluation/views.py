"""Test-time augmentation: one image looked at in several views, their logits averaged.

Views and weights are those of airbench (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498).
That only unsure answers are looked at again is after Hiverge (github.com/hiverge/cifar10-speedrun), with one change:
not the least sure share of whatever set is answered, which would let an answer depend on its neighbours, but what
lies below a threshold that is fitted once, on validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fovea.evaluation.intervals import percent
from fovea.registry import Registry
from fovea.settings import EvaluationSettings


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        weight: of its logits in the average.
        shift: pixels by which the image is moved down and to the right; -1 moves it up and to the left.
        mirrored: left and right are exchanged, after the shift.
    """

    weight: float
    shift: int = 0
    mirrored: bool = False

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same shape; a shift reflects the edge; where a side is one pixel, it repeats it."""
        height, width = images.shape[2:]
        if self.shift:
            pad = abs(self.shift)
            padded = F.pad(images, (pad,) * 4, mode="reflect" if min(height, width) > pad else "replicate")
            start = pad - self.shift
            images = padded[:, :, start : start + height, start : start + width]
        return images.flip(3) if self.mirrored else images


# The first view of each is the image as it is.
VIEWS: Registry[tuple[View, ...]] = Registry(
    "test-time augmentation",
    {
        "none": (View(1.0),),
        "flip": (View(0.5), View(0.5, mirrored=True)),
        "shift": (View(0.5), View(0.25, shift=-1), View(0.25, shift=1)),
        "flip+shift": (
            View(0.25),
            View(0.25, mirrored=True),
            View(0.125, shift=-1),
            View(0.125, shift=-1, mirrored=True),
            View(0.125, shift=1),
            View(0.125, shift=1, mirrored=True),
        ),
    },
)


@dataclass(frozen=True)
class Views:
    """How a net looks at images before it answers.

    Attributes:
        name: of VIEWS.
        fraction: the share of the validation images that all views are for, the least sure ones.
        margin: the lead of the highest logit over the second, in the plain answer, up to which an image is looked at
            again; None: every image is.
    """

    name: str = "none"
    fraction: float = 1.0
    margin: float | None = None

    @property
    def others(self) -> tuple[View, ...]:
        """The views besides the image as it is."""
        return VIEWS[self.name][1:]

    @property
    def plain_weight(self) -> float:
        """The weight of the image as it is."""
        return VIEWS[self.name][0].weight

    def unsure(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which rows of plain logits [N, K] are looked at again: each decided by itself alone."""
        if not self.others:
            return np.empty(0, np.int64)
        if self.margin is None:
            return np.arange(len(logits))
        return np.flatnonzero(margins(logits) <= self.margin)

    @property
    def words(self) -> str:
        """ "test-time augmentation flip+shift"; empty where there is none."""
        if not self.others:
            return ""
        share = "" if self.margin is None else f" for the least sure {percent(self.fraction)} of the answers"
        return f"test-time augmentation {self.name}{share}"

    def as_json(self) -> dict[str, Any] | None:
        """As plain values; None where images are looked at once."""
        if not self.others:
            return None
        return {"views": self.name, "fraction": self.fraction, "margin": self.margin}


PLAIN = Views()


def views_from_json(value: Mapping[str, Any] | None) -> Views:
    """The inverse of `Views.as_json`.

    Raises:
        KeyError, TypeError, ValueError: for what it did not write.
        SettingsError: for views that this version does not know.
    """
    if value is None:
        return PLAIN
    VIEWS[value["views"]]
    margin = value["margin"]
    return Views(str(value["views"]), float(value["fraction"]), None if margin is None else float(margin))


def margins(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The lead of the highest logit over the second: [N, K], K at least 2, -> float64 [N].

    Unlike the probability of the answer it does not crowd at 1 in floating point.
    """
    best = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    lead: NDArray[np.float64] = best[:, 1] - best[:, 0]
    return lead


def looks_per_image(settings: EvaluationSettings, has_validation: bool = True) -> float:
    """How often an image is looked at in the final predictions, on average; test images are taken for validation's."""
    fraction = settings.tta_fraction if has_validation else 1.0
    return 1 + fraction * (len(VIEWS[settings.tta]) - 1)


def fit_views(settings: EvaluationSettings, plain_logits: NDArray[np.float32] | None) -> Views:
    """The views of the settings, their threshold fitted to the plain answers for the validation images, [N, K].

    Without validation images (None) there is no threshold: every image is looked at in all views.

    `tta_fraction` of them, rounded up, lie below it, with those of the same margin. It stands half way to the next
    margin, so that the last bits of a logit do not decide about them.
    """
    if settings.tta == "none":
        return PLAIN
    if settings.tta_fraction == 1 or plain_logits is None:
        return Views(settings.tta)
    views = Views(settings.tta, settings.tta_fraction)
    ordered = np.sort(margins(plain_logits))
    last = ordered[max(math.ceil(settings.tta_fraction * len(ordered)), 1) - 1]
    larger = ordered[ordered > last]
    return replace(views, margin=float((last + larger[0]) / 2 if len(larger) else last))
