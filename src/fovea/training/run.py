"""One training from raw data to a finished run folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fovea import faults
from fovea.data.batches import TrainBatches, gather
from fovea.data.draws import derived_seed, random_order
from fovea.data.guard import InputProfile, fit_profile
from fovea.data.imageset import ImageSet, RawData
from fovea.data.prepare import Splits, prepare_splits
from fovea.data.preprocess import Preprocessor, fit_preprocessor
from fovea.data.split import Split
from fovea.errors import DataError, ModelError, RunFailedError, SettingsError
from fovea.evaluation.findings import Finding, find_in_predictions
from fovea.evaluation.metrics import all_metrics, confusion_matrix
from fovea.evaluation.modelfile import ModelCard, read_model, with_results
from fovea.evaluation.predictions import Predictions, look_again, predict, predictions_as_npz, predictions_table
from fovea.evaluation.views import Views, fit_views
from fovea.files import csv_table, file_digest, read_json, write_bytes, write_json, write_text
from fovea.models.build import build_net, check_net
from fovea.models.summary import count_parameters
from fovea.models.whitening import NUM_IMAGES, fit_whitening, needs_whitening
from fovea.runfolder import INPUT_PROFILE, describe_environment, record_test_look
from fovea.settings import LAST_EPOCH, ModelSettings, Recipe, recipe_as_yaml
from fovea.training.callbacks import Callback, make_callbacks
from fovea.training.checkpoint import Checkpoint
from fovea.training.defaults import complete_recipe
from fovea.training.fast_ops import use_fast_ops
from fovea.training.hardware import Hardware, applied, choose_hardware
from fovea.training.kernels import convolution_shapes, table_kernels, tuned_kernels
from fovea.training.loop import FitResult, fit
from fovea.training.records import Saver, Say, Writer, log_event, recipe_digest
from fovea.training.resume import changes_so_far, fingerprints
from fovea.training.signals import stop_on_signals
from fovea.training.stopwatch import phase, wait_for


def say_nothing(topic: str, line: str) -> None:
    """Takes the place of a terminal."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is decided before the first step: nothing is written until all of it holds."""

    recipe: Recipe
    splits: Splits
    preprocessor: Preprocessor
    profile: InputProfile
    hardware: Hardware
    net: nn.Module
    own_net: bool
    lines: list[str]

    @property
    def images_per_epoch(self) -> int:
        """How many training images one epoch shows."""
        training = self.recipe.training
        count = len(self.splits.sets["train"])
        return min(count, (training.steps_per_epoch or 0) * (training.batch_size or 0))


def plan_run(
    recipe: Recipe, raw: RawData, net: nn.Module | None = None, split: Split | None = None, autotune: bool = False
) -> Plan:
    """Check the data and the settings, derive what was left open, build the net.

    Args:
        net: a module of the user's own; None: the recipe's model.
        split: a saved split to use again; None: a new one is cut.
        autotune: measure how each convolution is computed fastest, where else a table says so.

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
        if needs_whitening(built):
            order = random_order(len(train), complete.data.split_seed, "whitening")[:NUM_IMAGES]
            fit_whitening(built, preprocessor.to_input(gather(train.images, order)))
    if net is None:
        complete, more = _with_fast_ops(complete, built, train.image_shape, autotune)
        lines += more
    profile = fit_profile(train.images, train.labels, num_classes, splits.sizes)
    lines += _zca_note(preprocessor)
    return Plan(complete, splits, preprocessor, profile, hardware, built, net is not None, lines)


def _with_fast_ops(
    recipe: Recipe, net: nn.Module, image_shape: tuple[int, int, int], autotune: bool
) -> tuple[Recipe, list[str]]:
    """Exchange the layers of a net for faster ones where the settings say so; the settings with the kernels chosen."""
    training, lines = recipe.training, list[str]()
    kernels: Mapping[str, str] | None = training.kernels
    on = training.fast_ops == "on"
    if autotune and not on:
        raise SettingsError(f"--autotune has nothing to choose from: fast_ops is {training.fast_ops}.")
    if on and (kernels is None or autotune):
        shapes = convolution_shapes(net, image_shape, training.batch_size or 1)
        kernels, lines = tuned_kernels(shapes, training) if autotune else table_kernels(shapes, training)
    kernels = kernels or {}
    if on:
        use_fast_ops(net, kernels)
    return recipe.model_copy(update={"training": training.model_copy(update={"kernels": kernels})}), lines


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
    wait_for(plan.hardware.target.name)
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
                [*watchers, run_writer(plan, folder), saver],
                start,
                saver.save,
            )
        say("weights", _chosen_line(result, recipe))
        with torch.random.fork_rng(devices=[]), phase("evaluation", "final predictions"):
            torch.manual_seed(derived_seed(recipe.training.seed, "predict"))
            predictions, views = _predict_splits(plan, folder, ledger_folder, run_id, say)
    faults.reach("predicted")
    with phase("saving", "metrics and results"):
        _write_results(plan, folder, result, predictions, views)
    log_event(folder, "end", result.num_steps, stop_reason=result.stop_reason)


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
    reason = "the last epoch's," if recipe.callbacks.keep == "last" else f"best {monitor},"
    reason += f" {monitor}" if recipe.callbacks.keep == "last" else ""
    return f"{stopped}weights of epoch {result.best_epoch} kept: {reason} {shown}"


def _chosen_by(recipe: Recipe) -> str:
    return LAST_EPOCH if recipe.callbacks.keep == "last" else recipe.callbacks.monitor


def _predict_splits(
    plan: Plan, folder: Path, ledger_folder: Path, run_id: str | None, say: Say
) -> tuple[dict[str, Predictions], Views]:
    """Predictions of validation and, if it may be opened, of test, with the weights as they were saved.

    Returns:
        The predictions of each split, and the views that they were made with, fitted on validation.
    """
    evaluation, best = plan.recipe.evaluation, folder / "best.safetensors"
    try:
        net, weights = read_model(best, plan.net if plan.own_net else None).net, file_digest(best)
    except (DataError, OSError) as error:  # written by this process: no mistake of the user's
        raise RunFailedError(f"The weights just trained cannot be read back: {error}") from None
    target = plan.hardware.target
    net.to(target.name)
    val, size = plan.splits.sets["val"], evaluation.eval_batch_size
    plain = predict(net, val, plan.preprocessor, target, size)
    views = fit_views(evaluation, plain.logits)
    predictions = {"val": look_again(net, val, plan.preprocessor, target, size, views, plain)}
    if evaluation.test:
        images = plan.splits.sets["test"]
        predictions["test"] = predict(net, images, plan.preprocessor, target, size, views)
        entry = {"run": folder.name, "purpose": "train", "count": len(images), "run_id": run_id, "weights": weights}
        looks = record_test_look(ledger_folder, images.fingerprint, entry)
        if looks > 1:
            say(
                "test",
                f"this test set was opened for the {_ordinal(looks)} time (test_ledger.jsonl): do not choose by it",
            )
    else:
        say("test", "the test split stayed closed")
    return predictions, views


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _write_results(
    plan: Plan, folder: Path, result: FitResult, predictions: dict[str, Predictions], views: Views
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
    _write_results_into_model(plan, folder, result, metrics, views)
    findings = _findings(plan, predictions)
    write_json(folder / "findings.json", [finding.as_json() for finding in findings])
    write_json(folder / "result.json", _result(plan, folder, result, metrics, views))


def _write_results_into_model(
    plan: Plan, folder: Path, result: FitResult, metrics: dict[str, Any], views: Views
) -> None:
    """Write best.safetensors once more, so that the file alone says how good its weights are, and answers alike."""
    shown: dict[str, Any] = {
        name: {"accuracy": found["accuracy"], "loss": found["loss"]} for name, found in metrics.items()
    }
    shown |= {"epoch": result.best_epoch, "chosen_by": _chosen_by(plan.recipe)}
    with phase("saving", "best.safetensors"):
        write_bytes(folder / "best.safetensors", with_results(folder / "best.safetensors", shown, views))


def _result(plan: Plan, folder: Path, result: FitResult, metrics: dict[str, Any], views: Views) -> dict[str, Any]:
    images_seen = len(result.history) * plan.images_per_epoch
    changes = changes_so_far(folder)
    return {
        "model": plan.recipe.model.name,
        "parameters": count_parameters(plan.net),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "chosen_by": _chosen_by(plan.recipe),
        "tta": views.as_json(),
        "stop_reason": result.stop_reason,
        "train_seconds": round(result.seconds, 3),
        "images_per_second": round(images_seen / result.seconds, 1),
        **({"changed_on_the_way": changes} if changes else {}),
        "splits": metrics,
    }


def _findings(plan: Plan, predictions: dict[str, Predictions]) -> list[Finding]:
    findings = [finding for name, found in predictions.items() for finding in find_in_predictions(found, name)]
    for problem in plan.splits.problems:
        findings.append(Finding(problem.id, "warning", {}, problem.cause, problem.cure))
    return findings
