"""One training from raw data to a finished run folder."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fovea import faults
from fovea.budget import show_seconds
from fovea.data.draws import derived_seed
from fovea.display import Say, say_nothing
from fovea.errors import DataError, RunFailedError
from fovea.evaluation.calibration import CALIBRATION, Temperature, calibration_as_json, fit_temperature
from fovea.evaluation.findings import Finding, as_finding, find_in_predictions
from fovea.evaluation.ledger import record_look
from fovea.evaluation.metrics import all_metrics, confusion_matrix
from fovea.evaluation.modelfile import model_as_bytes, read_model, with_results
from fovea.evaluation.predictions import Predictions, look_again, predict, predictions_as_npz, predictions_table
from fovea.evaluation.reject import reject_as_json
from fovea.evaluation.views import Views, fit_views
from fovea.files import csv_table, file_digest, read_json, write_bytes, write_json, write_text
from fovea.models.summary import count_parameters
from fovea.recipefile import recipe_as_yaml
from fovea.runfolder import INPUT_PROFILE, describe_environment
from fovea.settings import LAST_EPOCH, SELECTED, Recipe, StepPlan, keeps_last, test_mark, with_fields
from fovea.training.callbacks import Callback, TrainingState, make_callbacks
from fovea.training.checkpoint import Checkpoint
from fovea.training.dataaudit import audit_findings, audit_run
from fovea.training.hardware import applied
from fovea.training.loop import FitResult, fit
from fovea.training.pacing import Pace, Pacer, describe_plan
from fovea.training.plan import Plan, model_card, train_batches, train_sample
from fovea.training.records import Saver, Writer, log_event, recipe_digest
from fovea.training.resume import changes_so_far, fingerprints, write_plan
from fovea.training.signals import stop_on_signals
from fovea.training.start import GIVEN_WEIGHTS, continue_optimizers
from fovea.training.stopwatch import phase, wait_for


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
    write_text(folder / "config.yaml", recipe_as_yaml(_with_given_weights(plan, folder), record))


def _with_given_weights(plan: Plan, folder: Path) -> Recipe:
    """The settings; weights that came without a file are kept in the run folder, and named there."""
    if plan.start is None or not plan.start.is_given:
        return plan.recipe
    path = folder.resolve() / GIVEN_WEIGHTS
    write_bytes(path, model_as_bytes(plan.start.weights, model_card(plan)))
    return with_fields(plan.recipe, "model", weights=str(path))


def run_writer(plan: Plan, folder: Path) -> Writer:
    """What keeps the files of a plan's run up to date."""
    return Writer(folder, model_card(plan))


@torch.inference_mode(mode=False)  # whatever the caller computes in: training takes gradients
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
    audit_run(plan, folder, say)
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
                plan.splits.sets.get("val"),
                recipe,
                plan.hardware.target,
                counted,
                [*_pacers(plan, folder, say), *watchers, run_writer(plan, folder), saver],
                start,
                lambda state: _begin(plan, state, saver),
            )
        say("weights", _chosen_line(result, plan))
        with torch.random.fork_rng(devices=[]), phase("evaluation", "final predictions"):
            torch.manual_seed(derived_seed(recipe.training.seed, "predict"))
            predictions, views = _predict_splits(plan, folder, ledger_folder, run_id, say)
    faults.reach("predicted")
    used_seconds = None if plan.pace is None else plan.pace.budget.elapsed()
    if plan.pace is not None and used_seconds is not None:
        asked = show_seconds(plan.pace.budget.seconds)
        say("budget", f"{asked}: the last prediction was made after {show_seconds(used_seconds)}")
    with phase("evaluation", "calibration"):
        predictions, temperature = _with_temperature(plan, predictions)
    with phase("saving", "metrics and results"):
        _write_results(plan, folder, result, predictions, (views, temperature), used_seconds)
    with phase("evaluation", "calibration"):
        write_json(folder / CALIBRATION, _calibration(plan, predictions, temperature))
    log_event(folder, "end", result.num_steps, stop_reason=result.stop_reason)


def _begin(plan: Plan, state: TrainingState, saver: Saver) -> None:
    """Before the first step: the optimizers of an earlier run are gone on with, and the state is saved."""
    if plan.start is not None and plan.start.checkpoint is not None:
        continue_optimizers(plan.start, state.optimizers)
    saver.save(state)


def _pacers(plan: Plan, folder: Path, say: Say) -> list[Callback]:
    """What holds training to its budget: first among those that watch, so that a saved state knows a new plan."""

    def take(steps: StepPlan, state: TrainingState, pace: Pace) -> None:
        write_plan(folder, steps)
        log_event(folder, "plan", state.step, total_steps=steps[-1][1], seconds=round(state.seconds, 3))
        say("budget", f"after step {state.step} anew, {describe_plan(pace, steps[-1][1], state.step)}")

    return [] if plan.pace is None else [Pacer(plan.pace, take)]


def _chosen_line(result: FitResult, plan: Plan) -> str:
    monitor, is_last = plan.recipe.callbacks.monitor, _chosen_by(plan) == LAST_EPOCH
    if monitor not in result.history[-1]:  # there are no validation images
        monitor = "train_accuracy"
    value = result.history[result.best_epoch - 1][monitor]
    shown = f"{value:.2%}" if monitor.endswith("accuracy") else f"{value:.4f}"
    stopped = f"stopped after epoch {len(result.history)}: {result.stop_reason}; " if result.stop_reason else ""
    reason = f"the last epoch's, {monitor}" if is_last else f"best {monitor},"
    return f"{stopped}weights of epoch {result.best_epoch} kept: {reason} {shown}"


def _chosen_by(plan: Plan) -> str:
    callbacks = plan.recipe.callbacks
    return LAST_EPOCH if keeps_last(callbacks, "val" in plan.splits.sets) else callbacks.monitor


def _marked(recipe: Recipe) -> dict[str, bool]:
    """What a result says where its test images were the validation images too."""
    mark = test_mark(recipe)
    return {} if mark is None else {"selected_on_test": mark == SELECTED}


def _predict_splits(
    plan: Plan, folder: Path, ledger_folder: Path, run_id: str | None, say: Say
) -> tuple[dict[str, Predictions], Views]:
    """Predictions of validation (if there is one) and of test (if it may be opened), with the weights as saved.

    Returns:
        The predictions of each split, and the views that they were made with, fitted on validation.
    """
    evaluation, best = plan.recipe.evaluation, folder / "best.safetensors"
    try:
        net = read_model(best, plan.net if plan.own_net else None, plan.preprocessor.function).net
        weights = file_digest(best)
    except (DataError, OSError) as error:  # written by this process: no mistake of the user's
        raise RunFailedError(f"The weights just trained cannot be read back: {error}") from None
    target = plan.hardware.target
    net.to(target.name)
    val, size = plan.splits.sets.get("val"), evaluation.eval_batch_size
    plain = None if val is None else predict(net, val, plan.preprocessor, target, size)
    views = fit_views(evaluation, None if plain is None else plain.logits)
    predictions = {}
    if val is not None and plain is not None:
        predictions["val"] = look_again(net, val, plan.preprocessor, target, size, views, plain)
    if evaluation.test:
        images = plan.splits.sets["test"]
        if plan.recipe.data.validation == "test":  # the same images, answered already
            predictions["test"] = predictions["val"]
        else:
            predictions["test"] = predict(net, images, plan.preprocessor, target, size, views)
        identity = {"purpose": "train", "run_id": run_id, "weights": weights}
        looks = record_look(ledger_folder, folder, images.fingerprint, predictions["test"], plan.recipe, identity)
        if looks > 1:
            say(
                "test",
                f"this test set was opened for the {_ordinal(looks)} time (test_ledger.jsonl): do not choose by it",
            )
    elif test_mark(plan.recipe) is None:
        say("test", "the test split stayed closed")
    return predictions, views


def _with_temperature(plan: Plan, predictions: dict[str, Predictions]) -> tuple[dict[str, Predictions], Temperature]:
    """The predictions over the temperature that is fitted on validation, never on test images."""
    if test_mark(plan.recipe) is not None:
        temperature = Temperature(1.0, 0, "the validation images are the test images")
    else:
        temperature = fit_temperature(predictions.get("val"))
    return {name: replace(found, temperature=temperature.value) for name, found in predictions.items()}, temperature


def _calibration(plan: Plan, predictions: dict[str, Predictions], temperature: Temperature) -> dict[str, Any]:
    """The content of calibration.json; thresholds are chosen on validation, measured on test."""
    judged, val = "test" if "test" in predictions else "val", predictions.get("val")
    same = judged == "val" or test_mark(plan.recipe) is not None
    reject = reject_as_json(val, predictions[judged], same, plan.recipe.evaluation.confidence)
    return {**calibration_as_json(predictions, temperature), "reject": {"split": judged, **reject}}


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _write_results(
    plan: Plan,
    folder: Path,
    result: FitResult,
    predictions: dict[str, Predictions],
    answers: tuple[Views, Temperature],
    used_seconds: float | None,
) -> None:
    metrics = {name: all_metrics(found, plan.recipe) for name, found in predictions.items()}
    for name, found in predictions.items():
        write_bytes(folder / f"predictions-{name}.npz", predictions_as_npz(found))
    last = predictions["test" if "test" in predictions else "val"]
    if "test" in predictions:
        header = ["id", "true", "predicted", "probability"]
        write_text(folder / "predictions-test.csv", csv_table(header, predictions_table(last)))
    matrix = confusion_matrix(last)
    rows = [[name, *counts] for name, counts in zip(last.classes, matrix.tolist(), strict=True)]
    write_text(folder / "confusion_matrix.csv", csv_table(["true \\ predicted", *last.classes], rows))
    _write_results_into_model(plan, folder, result, metrics, answers)
    findings = [*_findings(plan, predictions), *audit_findings(folder)]
    write_json(folder / "findings.json", [finding.as_json() for finding in findings])
    write_json(folder / "result.json", _result(plan, folder, result, metrics, answers, used_seconds))


def _write_results_into_model(
    plan: Plan, folder: Path, result: FitResult, metrics: dict[str, Any], answers: tuple[Views, Temperature]
) -> None:
    """Write best.safetensors once more, so that the file alone says how good its weights are, and answers alike."""
    shown: dict[str, Any] = {
        name: {"accuracy": found["accuracy"], "loss": found["loss"]} for name, found in metrics.items()
    }
    shown |= {"epoch": result.best_epoch, "chosen_by": _chosen_by(plan), **_marked(plan.recipe)}
    views, temperature = answers
    with phase("saving", "best.safetensors"):
        content = with_results(folder / "best.safetensors", shown, views, temperature.value)
        write_bytes(folder / "best.safetensors", content)


def _result(
    plan: Plan,
    folder: Path,
    result: FitResult,
    metrics: dict[str, Any],
    answers: tuple[Views, Temperature],
    used_seconds: float | None,
) -> dict[str, Any]:
    images_seen = result.num_steps * plan.images_per_epoch / (plan.recipe.training.steps_per_epoch or 1)
    changes = changes_so_far(folder)
    return {
        "model": plan.recipe.model.name,
        "parameters": count_parameters(plan.net),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "chosen_by": _chosen_by(plan),
        **_marked(plan.recipe),
        "tta": answers[0].as_json(),
        "temperature": answers[1].value,
        "stop_reason": result.stop_reason,
        "train_seconds": round(result.seconds, 3),
        "images_per_second": round(images_seen / result.seconds, 1),
        **({"changed_on_the_way": changes} if changes else {}),
        **({} if used_seconds is None else {"budget_used_seconds": round(used_seconds, 3)}),
        "splits": metrics,
    }


def _without_validation(plan: Plan) -> tuple[str, str]:
    chosen = "No epoch was chosen" if _chosen_by(plan) == LAST_EPOCH else "Training figures chose the epoch"
    cause = f"There were no validation images (val_split 0). {chosen}, no curve tells overfitting, nothing was fitted."
    return cause, "Choose settings with validation images first; then train on all with these settings."


def _findings(plan: Plan, predictions: dict[str, Predictions]) -> list[Finding]:
    level = plan.recipe.evaluation.confidence
    findings = [finding for name, found in predictions.items() for finding in find_in_predictions(found, name, level)]
    findings += [as_finding(problem) for problem in plan.splits.problems]
    if "val" not in plan.splits.sets:
        findings.append(Finding("no-validation", "note", {}, *_without_validation(plan)))
    return findings
