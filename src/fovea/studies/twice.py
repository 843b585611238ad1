"""P0's question: how much of a second fit's accuracy is the first fit's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.data.imageset import ImageSet, RawData
from fovea.data.prepare import prepare_splits
from fovea.evaluation.intervals import Score, accuracy_score
from fovea.evaluation.metrics import accuracy
from fovea.evaluation.paired import paired_over_seeds
from fovea.evaluation.stored import StoredRun
from fovea.settings import Recipe
from fovea.studies.answers import points
from fovea.studies.beside import beside_figures
from fovea.studies.published import Beside
from fovea.studies.reproduce import Answer, mean_text

FITS = {"first": "after the first fit", "continued": "after the second, going on", "fresh": "after the second, fresh"}


@dataclass(frozen=True, eq=False)
class Twice:
    """One run a seed of each fit.

    Attributes:
        first: the first fit.
        continued: the second, from the first one's weights and its optimizer's state.
        fresh: the second, from fresh weights.
    """

    first: Sequence[StoredRun]
    continued: Sequence[StoredRun]
    fresh: Sequence[StoredRun]

    @property
    def fits(self) -> dict[str, Sequence[StoredRun]]:
        """The runs by the keys of FITS."""
        return {"first": self.first, "continued": self.continued, "fresh": self.fresh}


def all_test_images(raw: RawData, recipe: Recipe) -> ImageSet | None:
    """Every test image of the data, of which the program took the first few; None where it brings none."""
    if "test" not in raw.parts:
        return None
    data = recipe.data.model_copy(update={"first_images": None})
    return prepare_splits(raw, data, recipe.preprocessing.image_size).sets["test"]


def answer_twice(twice: Twice, besides: Sequence[Beside], everything: ImageSet | None) -> Answer:
    """How much of the gain is the earlier training, and what the few test images can tell.

    Args:
        everything: all test images, on which the saved weights are evaluated once more.
    """
    few = {name: [accuracy(run.predictions("val")).value for run in runs] for name, runs in twice.fits.items()}
    count = len(twice.first[0].predictions("val"))
    lines = [_line(f"{count:,} test images", few)]
    facts: dict[str, Any] = {"count": count, "few": few}
    judged, where = few, f"the {count:,}"
    if everything is not None and len(everything) > count:
        judged = {name: [_accuracy(run, everything) for run in runs] for name, runs in twice.fits.items()}
        where = f"all {len(everything):,}"
        lines.append(_line(f"all {len(everything):,} test images, an extra evaluation of the same weights", judged))
        facts |= {"all_count": len(everything), "all": judged}
    more, gains = _gains(judged, where)
    lines += [*more, _few_images(count), *_augmented(twice, besides)]
    return Answer(tuple(lines), {**facts, **gains})


def _line(where: str, found: Mapping[str, Sequence[float]]) -> str:
    each = "; ".join(f"{mean_text(found[name], '.1%')} {words}" for name, words in FITS.items())
    return f"Accuracy on {where}: {each}."


def _accuracy(run: StoredRun, images: ImageSet) -> float:
    return float(run.evaluate(images).correct.mean())


def _gains(found: Mapping[str, Sequence[float]], where: str) -> tuple[list[str], dict[str, Any]]:
    earlier = paired_over_seeds(found["fresh"], found["continued"])
    second = paired_over_seeds(found["first"], found["continued"])
    if earlier.is_sure:
        verdict = "Yes, the second fit is affected by the first"
    else:
        verdict = "The second fit goes on from the first, but its accuracy in the end cannot be told from a fresh one's"
    lines = [
        f"{verdict}: the earlier training is worth {points(earlier)}, on {where} images.",
        f"What the second fit adds to the first: {points(second)}.",
    ]
    return lines, {"earlier_training": earlier.as_json(), "second_fit": second.as_json()}


def _few_images(count: int) -> str:
    """How wide the error bar of so few images is, at 85 % and where all are right."""
    lower, upper = accuracy_score(round(0.85 * count), count), accuracy_score(count, count)
    overlap = upper.low is not None and lower.high is not None and upper.low < lower.high
    verdict = (
        "they overlap, so that such a test cannot tell one from the other" if overlap else "they can be told apart"
    )
    return f"The error bar of {count:,} images: {_bar(lower, count)}, {_bar(upper, count)}; {verdict}."


def _bar(score: Score, count: int) -> str:
    return f"{round(score.value * count):,} right are {score.value:.0%} [{score.low:.1%}, {score.high:.1%}]"


def _augmented(twice: Twice, besides: Sequence[Beside]) -> list[str]:
    """What the program's own validation, on augmented test images, shows in the last epoch."""
    lines = []
    for beside in besides:
        found = [beside_figures(run, beside)["val_accuracy"] for run in twice.continued]
        shares = [of_run[max(of_run)] for of_run in found if of_run]
        if shares:
            lines.append(
                f"Validated on {beside.words}, as the program did, the last epoch shows {mean_text(shares, '.1%')}: "
                "such a figure is of images that nobody will bring."
            )
    return lines
