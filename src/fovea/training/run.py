"""One training from raw data to a finished run folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fovea import faults
from fovea.budget import Budget, show_seconds
from fovea.data.batches import TrainBatches
from fovea.data.draws import derived_seed, random_order
from fovea.data.guard import InputProfile, fit_profile
from fovea.data.imageset import ImageSet, RawData
from fovea.data.prepare import Splits, prepare_splits
from fovea.data.preprocess import Preprocessor, fit_preprocessor
from fovea.data.split import Split
from fovea.errors import DataError, ModelError, RunFailedError, SettingsError
from fovea.evaluation.findings import Finding, find_in_predictions
from fovea.evaluation.metrics import all_metrics, confusion_matrix
from fovea.evaluation.modelfile import ModelCard, read_model, with_metrics
from fovea.evaluation.predictions import Predictions, predict, predictions_as_npz, predictions_table
from fovea.files import csv_table, file_digest, read_json, write_bytes, write_json, write_text
from fovea.models.build import build_net, check_net
from fovea.models.summary import count_parameters
from fovea.runfolder import INPUT_PROFILE, describe_environment, record_test_look
from fovea.settings import ModelSettings, Recipe, StepPlan, recipe_as_yaml
from fovea.training.callbacks import Callback, TrainingState, make_callbacks
from fovea.training.checkpoint import Checkpoint
from fovea.training.defaults import complete_recipe
from fovea.training.hardware import Hardware, applied, choose_hardware
from fovea.training.loop import FitResult, fit
from fovea.training.pacing import Pace, Pacer, describe_plan, first_plan, measure_costs
from fovea.training.records import Saver, Say, Writer, log_event, recipe_digest
from fovea.training.resume import changes_so_far, fingerprints, write_plan
from fovea.training.signals import stop_on_signals


def say_nothing(topic: str, line: str) -> None:
    """Takes the place of a terminal."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is decided before the first step: nothing is written until all of it holds.

    Attributes:
        lines: what was derived from the data, and why.
        topics: (topic, line) about what was chosen for the user: the grade, the budget.
        record: the same for the record of config.yaml.
        pace: with a budget of time, what holds training to it.
    """

    recipe: Recipe
    splits: Splits
    preprocessor: Preprocessor
    profile: InputProfile
    hardware: Hardware
    net: nn.Module
    own_net: bool
    lines: list[str]
    topics: tuple[tuple[str, str], ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    pace: Pace | None = None

    @property
    def images_per_epoch(self) -> int:
        """How many training images one epoch shows."""
        training = self.recipe.training
        count = len(self.splits.sets["train"])
        return min(count, (training.steps_per_epoch or 0) * (training.batch_size or 0))


def plan_run(recipe: Recipe, raw: RawData, net: nn.Module | None = None, split: Split | None = None) -> Plan:
    """Check the data and the settings, derive what was left open, build the net.

    Args:
        net: a module of the user's own; None: the recipe's model.
        split: a saved split to use again; None: a new one is cut.

    Raises:
        UserError: for data, settings or a model that cannot be used.
    """
    splits = prepare_splits(raw, recipe.data, recipe.preprocessing.image_size, split)
    hardware = choose_hardware(recipe.training)
    if net is not None:  # config.yaml names the module's class, which no zoo knows
        recipe = recipe.model_copy(update={"model": ModelSettings()})
    complete, lines = complete_recipe(recipe, splits)
    complete = complete.model_copy(update={"training": hardware.settings(complete.training)})
    train = splits.sets["train"]
    num_classes = len(train.classes)
    if net is None:
        built = build_net(complete.model, train.image_shape, num_classes, complete.training.seed)
    else:
        built = net
        complete = complete.model_copy(update={"model": ModelSettings(name=type(net).__name__)})
    check_net(built, train.image_shape, num_classes)
    _check_state(built)
    _check_batches(complete, built)
    with applied(hardware):  # sums depend on the number of threads in their last bits
        preprocessor = fit_preprocessor(train.images, complete.preprocessing, splits.input_range)
    profile = fit_profile(train.images, train.labels, num_classes, splits.sizes)
    lines += _zca_note(preprocessor)
    return Plan(complete, splits, preprocessor, profile, hardware, built, net is not None, lines)


def _zca_note(preprocessor: Preprocessor) -> list[str]:
    gain = 0.0 if preprocessor.zca is None else float(np.linalg.norm(preprocessor.zca, 2))
    if gain < 100:
        return []
    return [
        f"zca_whitening multiplies pixels that hardly vary by up to {gain:,.0f}, and augmentation moves ink into them: "
        "set zca_epsilon 0.01 or augmentation none"
    ]


def _check_state(net: nn.Module) -> None:
    strangers = [name for name, value in net.state_dict().items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise ModelError(
            f"The module's state_dict holds {', '.join(strangers[:3])}, which is no tensor and cannot be saved: keep "
            "such things out of get_extra_state."
        )


def _check_batches(recipe: Recipe, net: nn.Module) -> None:
    """A batch norm has no variance to compute from one image."""
    has_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
    if recipe.training.batch_size == 1 and has_norm:
        raise SettingsError("batch_size 1 leaves a batch norm nothing to compute from: set 2 or more.")


def begin_run(plan: Plan, folder: Path, changes: Sequence[str] = ()) -> None:
    """Write what is decided before the first step into an empty run folder; config.yaml, written last, completes it.

    Args:
        changes: what has changed since the study began that the run belongs to.

    Raises:
        RunFailedError: when a file cannot be written.
    """
    write_json(folder / "split.json", plan.splits.split.as_json())
    write_json(folder / "classes.json", list(plan.splits.sets["train"].classes))
    write_json(folder / "preprocess.json", plan.preprocessor.as_json())
    write_json(folder / INPUT_PROFILE, plan.profile.as_json())
    # The run_id tells runs of the same name apart.
    write_json(folder / "environment.json", {"run_id": uuid.uuid4().hex, **describe_environment()})
    problems = [problem.cause for problem in plan.splits.problems]
    log_event(folder, "start", 0, notes=plan.splits.notes, problems=problems, changes=list(changes))
    train = plan.splits.sets["train"]
    record = {
        "hardware": {name: f"{choice.value}: {choice.reason}" for name, choice in plan.hardware.choices().items()},
        "derived": plan.lines,
        "images": {name: len(images) for name, images in plan.splits.sets.items()},
        "image_shape": list(train.image_shape),
        "fingerprints": fingerprints(plan.splits),
        **plan.record,
    }
    write_text(folder / "config.yaml", recipe_as_yaml(plan.recipe, record))


def run_writer(plan: Plan, folder: Path) -> Writer:
    """What keeps the files of a plan's run up to date."""
    return Writer(folder, model_card(plan))


def model_card(plan: Plan) -> ModelCard:
    """What the model file says of a plan's net, as long as there are no metrics."""
    sets, target = plan.splits.sets, plan.hardware.target
    images = {name: len(found) for name, found in sets.items()}
    return ModelCard(
        model=plan.recipe.model,
        preprocessor=plan.preprocessor,
        classes=sets["train"].classes,
        profile=plan.profile,
        precision=target.precision,
        memory_format=target.memory_format,
        data={"images": images, "fingerprints": fingerprints(plan.splits)},
    )


def train_run(
    plan: Plan,
    folder: Path,
    ledger_folder: Path,
    callbacks: Sequence[Callback] = (),
    say: Say = say_nothing,
    *,
    watchers: Sequence[Callback] = (),
    start: Checkpoint | None = None,
    recipe_sha256: str | None = None,
) -> None:
    """Train, evaluate and fill the run folder.

    Args:
        folder: a run folder that `begin_run` or `mend_folder` has left, locked by this process.
        ledger_folder: where test_ledger.jsonl lies.
        callbacks: a user's own, called after those of the settings.
        say: takes the lines that the user should see.
        watchers: callbacks that show, and change nothing.
        start: where to go on; None: from the beginning.
        recipe_sha256: of the settings that the run began with; None: of the plan's.

    Raises:
        RunFailedError: when the loss is not finite or a file cannot be written.
    """
    recipe = plan.recipe
    run_id = read_json(folder / "environment.json").get("run_id")
    counted = [*make_callbacks(recipe.callbacks, recipe.schedule), *callbacks]
    with applied(plan.hardware):
        with stop_on_signals() as stop:
            digest = recipe_sha256 or recipe_digest(recipe)
            saver = Saver(folder, counted, digest, recipe.training.save_seconds, stop, say)
            result = fit(
                plan.net,
                train_batches(plan),
                train_sample(plan),
                plan.splits.sets["val"],
                recipe,
                plan.hardware.target,
                counted,
                [*_pacers(plan, folder, say), *watchers, run_writer(plan, folder), saver],
                start,
                saver.save,
            )
        say("weights", _chosen_line(result, recipe))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.training.seed, "predict"))
            predictions = _predict_splits(plan, folder, ledger_folder, run_id, say)
    faults.reach("predicted")
    used_seconds = None if plan.pace is None else plan.pace.budget.elapsed()
    if plan.pace is not None and used_seconds is not None:
        asked = show_seconds(plan.pace.budget.seconds)
        say("budget", f"{asked}: the last prediction was made after {show_seconds(used_seconds)}")
    _write_results(plan, folder, result, predictions, used_seconds)
    log_event(folder, "end", result.num_steps, stop_reason=result.stop_reason)


def _pacers(plan: Plan, folder: Path, say: Say) -> list[Callback]:
    """What holds training to its budget: first among those that watch, so that a saved state knows a new plan."""

    def take(steps: StepPlan, state: TrainingState, pace: Pace) -> None:
        write_plan(folder, steps)
        log_event(folder, "plan", state.step, total_steps=steps[-1][1], seconds=round(state.seconds, 3))
        say("budget", f"after step {state.step} anew, {describe_plan(pace, steps[-1][1], state.step)}")

    return [] if plan.pace is None else [Pacer(plan.pace, take)]


def with_pace(plan: Plan, budget: Budget) -> Plan:
    """The plan with what it costs here, measured."""
    sets, training = plan.splits.sets, plan.recipe.training
    num_test = len(sets["test"]) if plan.recipe.evaluation.test else 0
    target = plan.hardware.target
    with applied(plan.hardware):
        costs = measure_costs(plan.net, train_batches(plan), sets["val"], num_test, plan.recipe, target, budget)
    steps_per_epoch = training.steps_per_epoch or 1
    full_steps = (training.epochs or 1) * steps_per_epoch
    return replace(plan, pace=Pace(budget, costs, steps_per_epoch, full_steps))


def with_first_plan(plan: Plan) -> Plan:
    """The plan with as many steps as its pace allows.

    Raises:
        SettingsError: where the budget holds too few.
    """
    assert plan.pace is not None
    steps = first_plan(plan.pace)
    values = {"plan": steps, "budget_seconds": plan.pace.budget.seconds}
    training = plan.recipe.training.model_copy(update=values)
    line = describe_plan(plan.pace, steps[0][1])
    return replace(
        plan,
        recipe=plan.recipe.model_copy(update={"training": training}),
        topics=(*plan.topics, ("budget", line)),
        record={**plan.record, "budget": {"plan": line, "used_before_training": round(plan.pace.budget.elapsed(), 3)}},
    )


def train_batches(plan: Plan) -> TrainBatches:
    """The training batches of a plan."""
    training = plan.recipe.training
    assert training.batch_size is not None
    assert training.steps_per_epoch is not None
    return TrainBatches(
        plan.splits.sets["train"],
        plan.preprocessor,
        plan.recipe.augmentation,
        training.batch_size,
        training.seed,
        training.steps_per_epoch,
    )


def train_sample(plan: Plan) -> ImageSet:
    """The fixed training images, as many as validation has, that train accuracy is measured on."""
    train, count = plan.splits.sets["train"], len(plan.splits.sets["val"])
    order = random_order(len(train), plan.recipe.data.split_seed, "train sample")
    return train.take(order[: min(count, len(train))])


def _chosen_line(result: FitResult, recipe: Recipe) -> str:
    monitor = recipe.callbacks.monitor
    value = result.history[result.best_epoch - 1][monitor]
    shown = f"{value:.2%}" if monitor.endswith("accuracy") else f"{value:.4f}"
    stopped = f"stopped after epoch {len(result.history)}: {result.stop_reason}; " if result.stop_reason else ""
    return f"{stopped}weights of epoch {result.best_epoch} kept: best {monitor}, {shown}"


def _predict_splits(
    plan: Plan, folder: Path, ledger_folder: Path, run_id: str | None, say: Say
) -> dict[str, Predictions]:
    """Predictions of validation and, if it may be opened, of test, with the weights as they were saved."""
    evaluation, best = plan.recipe.evaluation, folder / "best.safetensors"
    try:
        net, weights = read_model(best, plan.net if plan.own_net else None).net, file_digest(best)
    except (DataError, OSError) as error:  # written by this process: no mistake of the user's
        raise RunFailedError(f"The weights just trained cannot be read back: {error}") from None
    target = plan.hardware.target
    net.to(target.name)
    names = ["val", "test"] if evaluation.test else ["val"]
    predictions = {}
    for name in names:
        images = plan.splits.sets[name]
        predictions[name] = predict(net, images, plan.preprocessor, target, evaluation.eval_batch_size)
    if evaluation.test:
        images = plan.splits.sets["test"]
        entry = {"run": folder.name, "purpose": "train", "count": len(images), "run_id": run_id, "weights": weights}
        looks = record_test_look(ledger_folder, images.fingerprint, entry)
        if looks > 1:
            say(
                "test",
                f"this test set was opened for the {_ordinal(looks)} time (test_ledger.jsonl): do not choose by it",
            )
    else:
        say("test", "the test split stayed closed")
    return predictions


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _write_results(
    plan: Plan, folder: Path, result: FitResult, predictions: dict[str, Predictions], used_seconds: float | None
) -> None:
    evaluation = plan.recipe.evaluation
    metrics = {name: all_metrics(found, evaluation.top_k, evaluation.confidence) for name, found in predictions.items()}
    for name, found in predictions.items():
        write_bytes(folder / f"predictions-{name}.npz", predictions_as_npz(found))
    last = predictions.get("test", predictions["val"])
    if "test" in predictions:
        header = ["id", "true", "predicted", "probability"]
        write_text(folder / "predictions-test.csv", csv_table(header, predictions_table(last)))
    matrix = confusion_matrix(last)
    rows = [[name, *counts] for name, counts in zip(last.classes, matrix.tolist(), strict=True)]
    write_text(folder / "confusion_matrix.csv", csv_table(["true \\ predicted", *last.classes], rows))
    _write_metrics_into_model(plan, folder, result, metrics)
    findings = _findings(plan, predictions)
    write_json(folder / "findings.json", [finding.as_json() for finding in findings])
    write_json(folder / "result.json", _result(plan, folder, result, metrics, used_seconds))


def _write_metrics_into_model(plan: Plan, folder: Path, result: FitResult, metrics: dict[str, Any]) -> None:
    """Write best.safetensors once more, so that the file alone says how good its weights are."""
    shown: dict[str, Any] = {
        name: {"accuracy": found["accuracy"], "loss": found["loss"]} for name, found in metrics.items()
    }
    shown |= {"epoch": result.best_epoch, "chosen_by": plan.recipe.callbacks.monitor}
    write_bytes(folder / "best.safetensors", with_metrics(folder / "best.safetensors", shown))


def _result(
    plan: Plan, folder: Path, result: FitResult, metrics: dict[str, Any], used_seconds: float | None
) -> dict[str, Any]:
    images_seen = result.num_steps * plan.images_per_epoch / (plan.recipe.training.steps_per_epoch or 1)
    changes = changes_so_far(folder)
    return {
        "model": plan.recipe.model.name,
        "parameters": count_parameters(plan.net),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "chosen_by": plan.recipe.callbacks.monitor,
        "stop_reason": result.stop_reason,
        "train_seconds": round(result.seconds, 3),
        "images_per_second": round(images_seen / result.seconds, 1),
        **({"changed_on_the_way": changes} if changes else {}),
        **({} if used_seconds is None else {"budget_used_seconds": round(used_seconds, 3)}),
        "splits": metrics,
    }


def _findings(plan: Plan, predictions: dict[str, Predictions]) -> list[Finding]:
    findings = [finding for name, found in predictions.items() for finding in find_in_predictions(found, name)]
    for problem in plan.splits.problems:
        findings.append(Finding(problem.id, "warning", {}, problem.cause, problem.cure))
    return findings
