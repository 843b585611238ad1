"""The answers to what the published programs' authors asked, in words, with the measured figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.errors import ModelError
from fovea.evaluation.intervals import accuracy_score, percent
from fovea.evaluation.paired import McNemarResult, SeedsTest, mcnemar, paired_over_seeds
from fovea.evaluation.stored import StoredRun
from fovea.models.build import build_net, complete_model
from fovea.models.summary import count_parameters
from fovea.recipefile import named_recipes, read_recipe
from fovea.studies.beside import beside_figures
from fovea.studies.published import Beside, Program
from fovea.studies.reproduce import Answer, mean_text
from fovea.studies.seeds import SeedStudy

Study = SeedStudy[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """What an answer is made from.

    Attributes:
        other: the study of the recipe that the program is compared with; None where there is none in the same folder.
    """

    program: Program
    study: Study
    other: Study | None = None

    @property
    def runs(self) -> Sequence[StoredRun]:
        """One run a seed."""
        return self.study.runs


def answer(case: Case) -> Answer:
    """The answer to a program's question."""
    return _ANSWERS[case.program.record.program](case)


def last(run: StoredRun, name: str) -> float:
    """A metric of the last epoch."""
    return run.history[name][-1]


def points(test: SeedsTest) -> str:
    """A difference of accuracies in points, with its interval and p where several seeds give them."""
    value = f"{test.difference.value * 100:+.2f} points"
    if test.p_value is None:
        return f"{value} (one seed: no interval)"
    if test.difference.low is None or test.difference.high is None:
        return f"{value} with each of {test.difference.count} seeds, sign test p {p_text(test.p_value)}"
    ends = f"[{test.difference.low * 100:+.2f}, {test.difference.high * 100:+.2f}]"
    return f"{value} {ends}, paired t test over {test.difference.count} seeds, p {p_text(test.p_value)}"


def p_text(p_value: float) -> str:
    """ "= 0.012" or "< 0.0001"."""
    return "< 0.0001" if p_value < 0.0001 else f"= {p_value:.2g}"


# P2, and the dense net of P4: another scale ------------------------------------------------------------------------


def _published_ratios(program: Program) -> list[float]:
    """loss / (1 - accuracy) of every epoch for which both were published."""
    losses, shares = (
        {(one.beside, one.epoch): one.value for one in program.record.published if one.figure == name}
        for name in ("val_loss", "val_accuracy")
    )
    return [losses[key] / (1 - shares[key]) for key in losses if shares.get(key, 1.0) < 1]


def _ratios(losses: Sequence[float], shares: Sequence[float]) -> list[float]:
    return [loss / (1 - share) for loss, share in zip(losses, shares, strict=True) if share < 1]


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _answer_scale(case: Case) -> Answer:
    clip, published = case.runs[0].recipe.training.loss_clip, _published_ratios(case.program)
    own = [ratio for run in case.runs for ratio in _ratios(run.history["val_loss"], run.history["val_accuracy"])]
    facts: dict[str, Any] = {"published_ratios": published, "own_scale_ratios": own}
    lines = []
    if clip is not None and published and own:
        facts["limit"] = -math.log(clip)
        each = {
            beside.words: [beside_figures(run, beside) for run in case.runs] for beside in case.program.record.beside
        }
        found = [f"{_span(ratios)} on {words}" for words, all_of in each.items() if (ratios := _ratios_beside(all_of))]
        lines.append(
            f"Test loss / (1 - test accuracy), over epochs: published {_span(published)}; measured "
            f"{', '.join([*found, f'{_span(own)} on the scale of the training'])}. A wrong answer costs at most "
            f"-ln({clip:g}) = {facts['limit']:.2f}: near it, nearly every wrong answer is certain."
        )
    for beside in case.program.record.beside:
        more, figures = _other_scale(case, beside)
        lines += more
        facts[beside.name] = figures
    if not case.program.record.beside:
        losses, shares = ([last(run, name) for run in case.runs] for name in ("val_loss", "val_accuracy"))
        lines.append(
            f"Training and test images on one scale: loss {mean_text(losses, '.4f')}, accuracy "
            f"{mean_text(shares, '.2%')} after the last epoch."
        )
    return Answer(tuple(lines), facts)


def _ratios_beside(found: Sequence[Mapping[str, Mapping[int, float]]]) -> list[float]:
    """The ratios of an extra evaluation, over runs and epochs."""
    return [
        ratio for one in found for ratio in _ratios(list(one["val_loss"].values()), list(one["val_accuracy"].values()))
    ]


def _other_scale(case: Case, beside: Beside) -> tuple[list[str], dict[str, Any]]:
    """The same weights on the images of an extra evaluation and on those of the training's scale, last epoch."""
    every = [(run, beside_figures(run, beside), int(run.result["epochs"])) for run in case.runs]
    usable = [(run, found, epoch) for run, found, epoch in every if epoch in found["val_loss"]]
    if not usable:
        return [f"Nothing was evaluated on {beside.words}."], {}
    losses, shares = ([found[name][epoch] for _, found, epoch in usable] for name in ("val_loss", "val_accuracy"))
    own_losses, own_shares = ([last(run, name) for run, _, _ in usable] for name in ("val_loss", "val_accuracy"))
    test = paired_over_seeds(shares, own_shares)
    lines = [
        f"The same weights after the last epoch: on {beside.words} loss {mean_text(losses, '.4f')} and accuracy "
        f"{mean_text(shares, '.2%')}; on the scale that they were trained on loss {mean_text(own_losses, '.4f')} and "
        f"accuracy {mean_text(own_shares, '.2%')}.",
        f"The cure, one scale for both, gives {points(test)}; the net and its training stay as they are.",
    ]
    ratios = _ratios_beside([found for _, found, _ in every])
    return lines, {"loss": losses, "accuracy": shares, "ratios": ratios, "gain": test.as_json()}


# P4: overfitting, and its cure -------------------------------------------------------------------------------------


def lowest_epoch(losses: Sequence[float]) -> int:
    """The epoch, from 1, whose loss is the lowest: later ones overfit."""
    return int(np.argmin(losses)) + 1


def _answer_p4(case: Case) -> Answer:
    if case.program.record.beside:
        return _answer_scale(case)
    epochs = [lowest_epoch(run.history["val_loss"]) for run in case.runs]
    lowest = [min(run.history["val_loss"]) for run in case.runs]
    ends = [last(run, "val_loss") for run in case.runs]
    gaps = [last(run, "train_accuracy") - last(run, "val_accuracy") for run in case.runs]
    num_epochs = int(case.runs[0].result["epochs"])
    where = str(epochs[0]) if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
    line = f"The test loss is lowest in epoch {where} of {num_epochs}, {mean_text(lowest, '.4f')}"
    if max(epochs) < num_epochs:
        factor = np.mean(ends) / np.mean(lowest)
        line += f"; overfitting sets in there. The last epoch has {factor:.2f} times that, {mean_text(ends, '.4f')}."
    else:
        line += ": in some seeds it still falls at the end." if len(case.runs) > 1 else ": it still falls at the end."
    lines = [line, f"In the last epoch the training images are answered better by {np.mean(gaps) * 100:.1f} points."]
    facts: dict[str, Any] = {"lowest_epochs": epochs, "lowest_losses": lowest, "last_losses": ends, "gaps": gaps}
    if case.program.record.against:
        more, found = _sizes(case, case.program.record.against)
        lines, facts = lines + more, {**facts, **found}
    return Answer(tuple(lines), facts)


def _sizes(case: Case, against: str) -> tuple[list[str], dict[str, Any]]:
    """The parameters of both nets, and both accuracies where both were trained."""
    run = case.runs[0]
    try:
        own, other = int(run.result["parameters"]), parameters_of(against, run)
    except ModelError:  # other images than the program's
        return [f"The net of {against} does not fit these images."], {}
    larger, smaller = max(own, other), min(own, other)
    name = case.program.name if own > other else against
    lines = [f"{name} has {larger:,} parameters, {larger / smaller:.2f} times the {smaller:,} of the other net."]
    facts: dict[str, Any] = {"parameters": own, "parameters_against": other, "ratio": larger / smaller}
    if case.other is not None:
        test = _paired(case.other, case.study)
        lines.append(f"{case.program.name} against {against}, last epochs: {points(test)}.")
        facts["against"] = test.as_json()
    return lines, facts


def parameters_of(recipe: str, run: StoredRun) -> int:
    """The parameters of a named recipe's net on the images of a run."""
    height, width, channels = run.record["image_shape"]
    model = complete_model(read_recipe(named_recipes()[recipe]).model, (height, width, channels))
    return count_parameters(build_net(model, (height, width, channels), len(run.classes), seed=0))


def common_seeds(first: Study, second: Study) -> list[int]:
    """The seeds that both studies have."""
    return [seed for seed in first.seeds if seed in second.seeds]


def _by_seed(study: Study, seeds: Sequence[int]) -> list[StoredRun]:
    return [study.runs[study.seeds.index(seed)] for seed in seeds]


def _paired(first: Study, second: Study, name: str = "val_accuracy") -> SeedsTest:
    """second - first in the last epoch, over the seeds that both have."""
    seeds = common_seeds(first, second)
    values = [[last(run, name) for run in _by_seed(study, seeds)] for study in (first, second)]
    return paired_over_seeds(values[0], values[1])


# P3: does translation help? ----------------------------------------------------------------------------------------


def _answer_p3(case: Case) -> Answer:
    errors = [1 - last(run, "val_accuracy") for run in case.runs]
    best = [max(run.history["val_accuracy"]) - last(run, "val_accuracy") for run in case.runs]
    lines = [
        f"Error after the last epoch: {mean_text(errors, '.3%')}. The best epoch, picked by the test images, would "
        f"flatter it by {np.mean(best) * 100:.2f} points.",
        "Published: 29 more of 10,000 images right with translation, from one training of each; two such single "
        f"accuracies have 95% intervals of their own, {_wilson(9917)} and {_wilson(9946)}.",
    ]
    against = str(case.program.record.against)
    if case.other is None:
        lines.append(f"To compare in pairs, reproduce {against} into the same folder, with as many seeds and epochs.")
        return Answer(tuple(lines), {"errors": errors})
    is_on = case.runs[0].recipe.augmentation.width_shift_range not in (None, 0)
    off, on = (case.other, case.study) if is_on else (case.study, case.other)
    more, facts = translation_gain(off, on)
    return Answer((*lines, *more), {"errors": errors, **facts})


def _wilson(num_right: int) -> str:
    score = accuracy_score(num_right, 10_000)
    return f"[{score.low:.2%}, {score.high:.2%}]"


def translation_gain(off: Study, on: Study) -> tuple[list[str], dict[str, Any]]:
    """Whether translation helped: McNemar's test on the same images for each seed, a paired t test over the seeds."""
    seeds = common_seeds(off, on)
    over_seeds = _paired(off, on)
    tests = {
        seed: mcnemar(first.predictions("val"), second.predictions("val"))
        for seed, first, second in zip(seeds, _by_seed(off, seeds), _by_seed(on, seeds), strict=True)
    }
    words = "; ".join(f"seed {seed} {_images(test)}" for seed, test in tests.items())
    verdict = "helped" if over_seeds.difference.value > 0 else "harmed"
    sure = f"Translation {verdict}" if over_seeds.is_sure else "Whether translation helped cannot be told"
    lines = [
        f"Last epochs, same seeds, same images: {points(over_seeds)}. {sure}.",
        f"Images of the same test set that one alone got right, exact McNemar test: {words}.",
    ]
    each = {
        str(seed): {"only_off": t.only_first, "only_on": t.only_second, "p": t.p_value} for seed, t in tests.items()
    }
    return lines, {"gain": over_seeds.as_json(), "mcnemar": each}


def _images(test: McNemarResult) -> str:
    return f"{test.only_second} with against {test.only_first} without, p {p_text(test.p_value)}"


# P1: 99.6 % on Kaggle's digits -------------------------------------------------------------------------------------


def halvings(rates: Sequence[float]) -> list[int]:
    """The epochs, from 1, at whose end the learning rate fell."""
    return [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]


def _answer_p1(case: Case) -> Answer:
    shares = [last(run, "val_accuracy") for run in case.runs]
    best = [max(run.history["val_accuracy"]) for run in case.runs]
    count = len(case.runs[0].predictions("val"))
    fell = [halvings(run.history["lr"]) for run in case.runs]
    example = accuracy_score(round(best[0] * count), count)
    flattery = np.mean(np.subtract(best, shares)) * 100
    lines = (
        f"Last epoch {mean_text(shares, '.2%')}, best epoch {mean_text(best, '.2%')}: picking the best by the images "
        f"that it is measured on adds {flattery:.2f} points.",
        f"{count:,} images leave room: {example.value:.2%} has the {percent(example.confidence)} interval "
        f"[{example.low:.2%}, {example.high:.2%}].",
        "The learning rate was halved at the end of epochs "
        + "; ".join(", ".join(map(str, epochs)) or "none" for epochs in fell)
        + " (one list a seed); published: 15, 21, 26, 29, 38.",
    )
    return Answer(lines, {"last": shares, "best": best, "halvings": fell})


_ANSWERS: Mapping[str, Callable[[Case], Answer]] = {
    "P1": _answer_p1,
    "P2": _answer_scale,
    "P3": _answer_p3,
    "P4": _answer_p4,
}
