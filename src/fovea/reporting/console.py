"""What the terminal shows: facts before training, one line an epoch, the result."""

from __future__ import annotations

import json
import re
import textwrap
import time
from pathlib import Path
from typing import TextIO

from fovea.diagnosis.telling import finding_line
from fovea.display import terminal_width
from fovea.evaluation.calibration import calibration_of, ece_words, temperature_words
from fovea.evaluation.findings import finding_from_json
from fovea.evaluation.intervals import percent
from fovea.evaluation.ledger import Looks, chose_its_epoch
from fovea.evaluation.metrics import accuracy, cross_entropy
from fovea.evaluation.power import limits_of
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import NO_VALIDATION, StoredRun
from fovea.evaluation.views import Views
from fovea.models.summary import count_parameters
from fovea.reporting.terminal import WIPE, is_live, show
from fovea.runfolder import REPORT
from fovea.settings import mark_as_json, test_mark
from fovea.studies.seeds import AnyRun, FoldStudy, SeedStudy
from fovea.training.callbacks import Callback, Metrics, TrainingState
from fovea.training.plan import Plan
from fovea.training.schedules import describe_length

_WEAK_SHOWN = 3


def plan_lines(plan: Plan, data_name: str, form: str) -> list[tuple[str, str]]:
    """(topic, line) for everything that is known before the first step."""
    sets, recipe = plan.splits.sets, plan.recipe
    height, width, channels = sets["train"].image_shape
    names = {"train": "train", "val": "validation", "test": "test"}
    mark = test_mark(recipe)
    if mark is not None:
        names = {"train": "train", "test": "test"}
    counts = ", ".join(f"{len(sets[name]) if name in sets else 0:,} {shown}" for name, shown in names.items())
    colour = "grey" if channels == 1 else "colour"
    lines = [
        (
            "data",
            f"{data_name} ({form}): {counts} images; {len(sets['train'].classes)} classes; {height}x{width} {colour}",
        )
    ]
    if mark is not None:
        lines.append(("", f"the validation images are the test images, as the settings ask: {mark}"))
    lines += [("", note) for note in plan.splits.notes]
    lines += [("warning", problem.cause) for problem in plan.splits.problems]
    lines.append(("model", f"{recipe.model.name}, {count_parameters(plan.net):,} parameters"))
    training, optimizer = recipe.training, recipe.optimizer
    warmup = f" after {recipe.schedule.warmup_fraction:.0%} warm-up" if recipe.schedule.warmup_fraction else ""
    lines.append(
        (
            "training",
            f"{describe_length(training)}, batch size {training.batch_size}, "
            f"{optimizer.name} with lr {optimizer.lr:g}, {recipe.schedule.name} schedule{warmup}, seed {training.seed}",
        )
    )
    lines += [*plan.topics, *(("", line) for line in plan.lines)]
    for name, choice in plan.hardware.choices().items():
        lines.append((name.replace("memory_format", "memory"), f"{choice.value}: {choice.reason}"))
    return lines


class EpochLines(Callback):
    """One line an epoch; in a terminal also a line that shows the running step and is wiped again."""

    def __init__(self, plan: Plan, stream: TextIO | None) -> None:
        self.images_per_epoch = plan.images_per_epoch
        self.stream, self.live = stream, is_live(stream)
        self.shown = self.since = time.monotonic()
        self.steps = 0  # since the last line
        self.has_header = False
        self.columns = _columns(terminal_width(stream))

    def on_step(self, state: TrainingState) -> None:
        self.steps += 1
        if not self.live or time.monotonic() - self.shown < 0.25:
            return
        self.shown = time.monotonic()
        left = _left(state.seconds, state.step, state.total_steps)
        step = state.step - (state.epoch - 1) * state.steps_per_epoch
        text = f"epoch {state.epoch}/{state.epochs}, step {step}/{state.steps_per_epoch}, {left} left"
        show(self.stream, f"{WIPE}{text}", end="")

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        wipe = WIPE if self.live else ""
        if not self.has_header:
            show(self.stream, wipe + "  ".join(f"{title:>{width}}" for title, width in self.columns.items()))
            wipe, self.has_header = "", True
        images = self.images_per_epoch * self.steps / state.steps_per_epoch
        rate = images / max(time.monotonic() - self.since, 1e-9)
        self.steps, self.since = 0, time.monotonic()
        done, total = (state.step, state.total_steps) if state.plan else (state.epoch, state.epochs)
        left = _left(state.seconds, done, total)
        val = {name: metrics[name] for name in ("val_loss", "val_accuracy") if name in metrics}
        cells = {
            "epoch": f"{state.epoch}/{state.epochs}",
            "train loss": f"{metrics['train_loss']:.4f}",
            "train acc": f"{metrics['train_accuracy']:.2%}",
            "val loss": f"{val['val_loss']:.4f}" if val else "-",
            "val acc": f"{val['val_accuracy']:.2%}" if val else "-",
            "best": "*" if state.best_epoch == state.epoch else "",
            "lr": f"{metrics['lr']:.2g}",
            "images/s": f"{rate:,.0f}",
            "left": "" if state.stop_reason else left,
        }
        line = "  ".join(f"{cells[title]:>{width}}" for title, width in self.columns.items())
        show(self.stream, wipe + line.rstrip())

    def on_end(self, state: TrainingState) -> None:
        if self.live:
            show(self.stream, WIPE, end="")


def _columns(width: int) -> dict[str, int]:
    """Title -> width of the columns that fit."""
    every = {"epoch": 7, "train loss": 10, "train acc": 9, "val loss": 8, "val acc": 7, "best": 4, "lr": 7}
    every |= {"images/s": 8, "left": 7}
    for dropped in ("lr", "images/s", "train loss", "val loss", "left"):
        if sum(every.values()) + 2 * (len(every) - 1) < width:
            break
        every.pop(dropped)
    return every


def _left(passed_seconds: float, done: int, total: int) -> str:
    seconds = round(passed_seconds / max(done, 1) * (total - done))
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def result_lines(found: StoredRun | SeedStudy[AnyRun], width: int | None = None) -> str:
    """The result for stdout: the accuracies with their intervals, then the path, which is never wrapped.

    Args:
        width: of the terminal, in columns; None: lines are as long as they are.
    """
    lines = _study_lines(found) if isinstance(found, SeedStudy) else _run_lines(found)
    return "\n".join([*_wrapped(lines, width), *_report_line(found.path), str(found.path)])


def _wrapped(lines: list[str], width: int | None) -> list[str]:
    """Lines cut to a width; what goes on stands below what is said of the topic."""
    if width is None:
        return lines
    return [part for line in lines for part in _parts(line, max(width, 40))]


def _parts(line: str, width: int) -> list[str]:
    if len(line) <= width or "\n" in line:  # a table has its lines already
        return [line]
    topic = re.match(r"[a-z ]{0,19}  ", line)
    indent = " " * (len(topic[0]) if topic else 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _run_lines(run: StoredRun) -> list[str]:
    level = f"{percent(run.recipe.evaluation.confidence)} interval"
    lines = []
    if run.mark is not None:
        lines.append(f"test accuracy        {run.val_accuracy}, {level}, {run.mark}")
    else:
        if run.test_accuracy is not None:
            lines.append(f"test accuracy        {run.test_accuracy}, {level}")
        named = "" if run.has_test else f", {level}"
        chose = ", which chose the epoch" if chose_its_epoch(run) else ""
        lines.append(f"validation accuracy  {run.val_accuracy or NO_VALIDATION}{named}{chose}")
    lines += _views_line(run.views)
    lines += _trust_lines(run)
    lines += [] if run.test_limits is None else [run.test_limits.words]
    lines += [finding_line(finding_from_json(finding)) for finding in run.findings]
    lines.append(f"{run.result['train_seconds']:.1f} s of training, {run.result['images_per_second']:,.0f} images/s")
    if run.profile is not None:
        lines.append(str(run.profile))
    return lines


def _trust_lines(run: StoredRun) -> list[str]:
    """How far the probabilities can be believed, and where the net is weak."""
    lines = []
    if run.calibration is not None:
        judged = run.calibration["splits"][run.judged_by]
        lines.append(f"{'calibration':<20} {ece_words(judged)}")
        lines.append(f"{'temperature':<20} {temperature_words(run.calibration)}")
    weak = [] if run.slices is None else run.slices["weak"]
    for number, found in enumerate(weak[:_WEAK_SHOWN]):
        score, name = found["accuracy"], "weak on" if number == 0 else ""
        lines.append(f"{name:<20} {found['words']}: {score['value']:.2%}, others {found['others']:.2%}")
    if len(weak) > _WEAK_SHOWN:
        lines.append(f"{'':<20} and {len(weak) - _WEAK_SHOWN} more, in slices.json")
    return lines


def _study_lines(study: SeedStudy[AnyRun]) -> list[str]:
    level = f"{percent(study.confidence)} interval"
    lines, words = [], f"mean and {level} of the mean"
    if isinstance(study, FoldStudy):
        words = "mean over folds"
        chose = "; they chose its epoch" if chose_its_epoch(study.runs[0]) else ""
        lines.append(f"out of fold          {study.out_of_fold}, {level}, each by a net not trained on it{chose}")
    if study.mark is not None:
        lines.append(f"test accuracy        {study.val_accuracy}, {words}, {study.mark}")
    else:
        if study.test_accuracy is not None:
            lines.append(f"test accuracy        {study.test_accuracy}, {words}")
        named = "" if study.test_accuracy is not None else f", {words}"
        lines.append(f"validation accuracy  {study.val_accuracy or NO_VALIDATION}{named}")
    lines += _views_line(study.views)
    lines.append(f"standard deviation   {study.standard_deviation * 100:.2f} points from {study.unit} to {study.unit}")
    return lines


def _views_line(views: Views) -> list[str]:
    return [f"measured with {views.words}, which the figures of the epochs are without"] if views.words else []


def _report_line(folder: Path) -> list[str]:
    return [f"report  {folder / REPORT}"] if (folder / REPORT).is_file() else []


def evaluation_lines(
    predictions: Predictions,
    looks: Looks,
    run: StoredRun,
    as_json: bool,
    is_own_test: bool = True,
    width: int | None = None,
) -> str:
    """The result of an evaluation of a run, on its own test images or on others, for stdout.

    Args:
        width: of the terminal, in columns; None: lines are as long as they are.
    """
    mark, wrong = (run.mark, run.record.get("wrong_test_labels")) if is_own_test else (None, None)
    limits = limits_of(int(predictions.correct.sum()), len(predictions), wrong)
    confidence = run.recipe.evaluation.confidence
    score, views = accuracy(predictions, confidence), run.views
    calibration = calibration_of(predictions)
    if as_json:
        loss = cross_entropy(predictions, run.recipe.training.loss_clip)
        facts = {"test_accuracy": score.as_json(), "test_loss": loss, **mark_as_json(mark)}
        ece = {"value": calibration.ece, "expected": dict(calibration.expected.__dict__), "count": calibration.count}
        facts |= {"ece": ece, "test_limits": limits.as_json(), "looks": len(looks), "settings": looks.num_choices}
        return json.dumps({**facts, "tta": views.as_json()})
    lines = [f"test accuracy  {score}, {percent(confidence)} interval{'' if mark is None else f', {mark}'}"]
    lines += [f"measured with {views.words}"] if views.words else []
    lines += [f"calibration    {ece_words(calibration.as_json())}", limits.words]
    lines += [] if len(looks) == 1 else [f"{looks.words} (test_ledger.jsonl): do not choose by it"]
    return "\n".join(_wrapped(lines, width))
