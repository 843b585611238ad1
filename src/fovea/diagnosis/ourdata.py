"""Data of ours as a record: quick facts, and a training of some seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fovea.budget import clock
from fovea.data.imageset import ImageSet, RawData
from fovea.diagnosis.ournet import batch_facts, fresh_net, net_facts
from fovea.diagnosis.ourrun import evaluation_facts, pixel_facts, some_inputs, training_facts
from fovea.diagnosis.record import CurveFacts, Record, SplitFacts
from fovea.errors import NonFiniteLossError, SettingsError
from fovea.evaluation.findings import as_finding
from fovea.evaluation.predictions import predict
from fovea.settings import Recipe, with_fields
from fovea.training.callbacks import Callback, TrainingState
from fovea.training.hardware import applied
from fovea.training.loop import fit
from fovea.training.plan import Plan, plan_run, train_batches, train_sample

TRIAL_SECONDS = 5.0
_STEPS, _EPOCHS, _BATCH, _JUDGED = 240, 6, 64, 1000
_LEAST_STEPS = 120  # however slow the machine is at the moment: fewer would look like a net that cannot learn


class _Clock(Callback):
    """Stops a training after some seconds, not before it had some steps."""

    def __init__(self, seconds: float) -> None:
        self.end = clock() + seconds

    def on_step(self, state: TrainingState) -> None:
        if state.step >= _LEAST_STEPS and clock() > self.end:
            state.stop("the time for a look is over")


def record_of_data(raw: RawData, recipe: Recipe, seconds: float = TRIAL_SECONDS) -> Record:
    """What data says of itself, and what a short training of the recipe's net says of it.

    The test images are counted and their values read; none is answered.

    Args:
        seconds: of training, at most.

    Raises:
        UserError: for data that cannot be trained on.
    """
    plan = plan_run(_short(recipe, len(raw.parts["train"].images)), raw)
    if "val" not in plan.splits.sets:
        raise SettingsError("A look at data needs validation images: leave out val_split 0.")
    sets = plan.splits.sets
    splits = {
        name: pixel_facts(
            SplitFacts(count=len(images), is_shuffled=name == "train", is_augmented=name == "train"),
            images,
            plan.preprocessor,
        )
        for name, images in sets.items()
    }
    problems = tuple(as_finding(problem).as_json() for problem in plan.splits.problems)
    classes = sets["train"].classes
    settings = plan.recipe.model
    record = Record(
        origin="data",
        name=raw.name,
        classes=classes,
        splits=splits,
        net=net_facts(settings.layers, settings.initializer, len(classes)),
        training=replace(training_facts(plan.recipe), epochs=None, validation_source="split"),
        data_findings=problems,
        dataset=raw.name,
    )
    return _with_training(record, plan, seconds)


def _short(recipe: Recipe, count: int) -> Recipe:
    """The recipe for a look: some hundred steps of small batches."""
    batch = min(_BATCH, max(count // 4, 2))
    whole = max(count // batch, 1)
    values = {"epochs": min(40, max(_EPOCHS, _STEPS // whole)), "batch_size": batch, "steps_per_epoch": None}
    if whole > 2 * _STEPS // _EPOCHS:
        values["steps_per_epoch"] = _STEPS // _EPOCHS
    return with_fields(recipe, "training", **values, plan=None)


def _with_training(record: Record, plan: Plan, seconds: float) -> Record:
    """The record with the curves and batches of a short training."""
    sets, recipe, device = plan.splits.sets, plan.recipe, plan.hardware.target
    val = _some(sets["val"])
    try:
        with applied(plan.hardware):
            result = fit(
                plan.net, train_batches(plan), _some(train_sample(plan)), val, recipe, device, [_Clock(seconds)]
            )
            plan.net.load_state_dict(result.weights)
            found = predict(plan.net, val, plan.preprocessor, device, recipe.evaluation.eval_batch_size)
    except NonFiniteLossError as error:
        return replace(record, curves=CurveFacts(running_loss=(float("nan"),)), unseen=(str(error),))
    history = {name: tuple(line[name] for line in result.history) for name in result.history[0] if name != "lr"}
    inputs, labels = some_inputs(sets["train"], plan.preprocessor)
    fresh = fresh_net(recipe, inputs, len(found.classes))
    return replace(
        record,
        curves=CurveFacts(**history, steps=result.num_steps),
        evaluation=evaluation_facts("val", found),
        batch=batch_facts(fresh, plan.net.to("cpu").float(), inputs, labels, recipe),
    )


def _some(images: ImageSet) -> ImageSet:
    """At most a thousand images, drawn once."""
    if len(images) <= _JUDGED:
        return images
    return images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:_JUDGED]))
