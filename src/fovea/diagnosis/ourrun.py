"""A run of ours as a record: from its files alone, as far as they are there, and from its images where they are."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from fovea.data.batches import gather
from fovea.data.imageset import ImageSet, spread_rows
from fovea.data.preprocess import Preprocessor
from fovea.diagnosis.examine import failure_words
from fovea.diagnosis.ournet import batch_facts, fresh_net, net_facts
from fovea.diagnosis.record import BatchFacts, CurveFacts, EvaluationFacts, Record, SplitFacts, TrainingFacts
from fovea.errors import FoveaError
from fovea.evaluation.metrics import accuracy, class_scores, constant_predictor_accuracy
from fovea.evaluation.modelfile import LoadedModel, read_model
from fovea.evaluation.predictions import Predictions, read_predictions
from fovea.files import read_json, read_json_lines
from fovea.recipefile import read_recipe, read_record
from fovea.runfolder import LEDGER, ledger_folder
from fovea.settings import Recipe

SAMPLE = 512  # images that values and batches are read from
_CURVES = ("train_loss", "train_accuracy", "running_loss", "running_accuracy", "val_loss", "val_accuracy")
Value = TypeVar("Value")


class Reader:
    """Reads the pieces of a folder and notes those that are not to be had."""

    def __init__(self) -> None:
        self.unseen: list[str] = []

    def read(self, what: str, function: Callable[[], Value], otherwise: Value) -> Value:
        """What `function` returns, or `otherwise`, with a note, where it cannot."""
        try:
            return function()
        except Exception as error:  # damaged files, nets that answer otherwise: the rest is judged
            said = " ".join(str(error).split())[:160]
            self.unseen.append(f"{what}: {said if isinstance(error, FoveaError) else failure_words(error)}")
            return otherwise


def _nothing() -> dict[str, Any]:
    return {}


def _no_lines() -> list[dict[str, Any]]:
    return []


def record_of_run(folder: Path, sets: Mapping[str, ImageSet] | None = None, recipe: Recipe | None = None) -> Record:
    """What a run folder says of its training; what is missing there is noted in `unseen`.

    Args:
        folder: it holds config.yaml.
        sets: its images as they were split; only their labels are read here.
        recipe: its settings, where they are at hand: config.yaml is not read then.

    Raises:
        SettingsError: when config.yaml cannot be read.
    """
    reader = Reader()
    if recipe is not None and sets is not None:
        kept: dict[str, Any] = {"images": {name: len(images) for name, images in sets.items()}}
        kept["image_shape"] = sets["train"].image_shape
    else:
        kept = reader.read("config.yaml's record", lambda: read_record(folder / "config.yaml"), _nothing())
    recipe = recipe or read_recipe(folder / "config.yaml")
    classes = reader.read("classes.json", lambda: tuple(read_json(folder / "classes.json")), None)
    num_classes = len(classes or ()) or 2
    log = reader.read("log.jsonl", lambda: read_json_lines(folder / "log.jsonl"), _no_lines())
    result = reader.read("result.json", lambda: dict(read_json(folder / "result.json")), _nothing())
    predictions = _predictions(folder, reader)
    evaluation = reader.read("result.json", lambda: _evaluation(recipe, result, predictions), EvaluationFacts())
    looks = reader.read("the test ledger", lambda: _looks(folder, kept), None)
    return Record(
        origin="run",
        name=folder.name,
        classes=classes,
        splits=_splits(recipe, kept, predictions, sets),
        net=replace(
            net_facts(recipe.model.layers, recipe.model.initializer, num_classes), parameters=result.get("parameters")
        ),
        training=training_facts(recipe),
        curves=reader.read("metrics.csv", lambda: _curves(folder, log), CurveFacts()),
        evaluation=replace(evaluation, test_looks=looks),
        data_findings=reader.read("findings.json", lambda: _earlier_findings(folder), ()),
        dataset=recipe.data.source,
        unseen=tuple(reader.unseen),
    )


def _earlier_findings(folder: Path) -> tuple[dict[str, Any], ...]:
    """What the run was told at its end."""
    return tuple(found for found in read_json(folder / "findings.json") if isinstance(found, dict))


def _predictions(folder: Path, reader: Reader) -> dict[str, Predictions]:
    found: dict[str, Predictions] = {}
    for name in ("val", "test"):
        path = folder / f"predictions-{name}.npz"
        if path.is_file():
            read: Predictions | None = reader.read(path.name, partial(read_predictions, path), None)
            found |= {} if read is None else {name: read}
    if not found:
        reader.unseen.append("predictions: there are none")
    return found


def training_facts(recipe: Recipe) -> TrainingFacts:
    """The settings of a recipe in the record's words."""
    training, optimizer = recipe.training, recipe.optimizer
    given = recipe.augmentation.model_dump()
    return TrainingFacts(
        framework="fovea",
        optimizer=optimizer.name,
        learning_rate=optimizer.lr,
        momentum=optimizer.momentum if optimizer.momentum is not None else 0.9 if optimizer.name == "sgd" else None,
        weight_decay=optimizer.weight_decay,
        batch_size=training.batch_size,
        epochs=training.epochs,
        steps_per_epoch=training.steps_per_epoch,
        loss="crossentropy",
        from_logits=True,
        label_smoothing=training.label_smoothing,
        metrics=("accuracy",),
        validation_source=_validation_source(recipe),
        chosen_by="last" if recipe.callbacks.keep == "last" else recipe.callbacks.monitor,
        augmentation={name: value for name, value in given.items() if name.endswith(("_range", "_flip")) and value},
        num_fits=1,
        is_continued=recipe.model.weights is not None,
        loss_reduction="mean",
    )


def _validation_source(recipe: Recipe) -> str:
    if recipe.data.validation == "test":
        return "test"
    if recipe.data.val_data is not None:
        return "own"
    return "split" if recipe.data.val_split else "none"


def _splits(
    recipe: Recipe, kept: Mapping[str, Any], predictions: Mapping[str, Predictions], sets: Mapping[str, ImageSet] | None
) -> dict[str, SplitFacts]:
    shape = tuple(kept["image_shape"]) if "image_shape" in kept else None
    augmented = any(
        value for name, value in recipe.augmentation.model_dump().items() if name.endswith(("_range", "_flip"))
    )
    found = {}
    for name, count in dict(kept.get("images", {})).items():
        counts = None
        if sets is not None and name in sets:
            counts = tuple(sets[name].class_counts().values())
        elif name in predictions:
            labels, classes = predictions[name].labels, predictions[name].classes
            counts = tuple(np.bincount(labels, minlength=len(classes)).tolist())
        found[name] = SplitFacts(
            count=count,
            shape=shape,
            class_counts=counts,
            num_classes=None if counts is None else len(counts),
            is_augmented=augmented and name == "train",
            is_shuffled=name == "train",
        )
    return found


def _curves(folder: Path, log: list[dict[str, Any]]) -> CurveFacts:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    curves = {name: tuple(float(row[name]) for row in rows) for name in _CURVES if rows and name in rows[0]}
    failed = [str(line.get("reason", "")) for line in log if line.get("event") == "failed"]
    if any("became" in reason and ("nan" in reason or "inf" in reason) for reason in failed):
        curves["running_loss"] = (*curves.get("running_loss", ()), math.nan)  # the epoch that broke off
    steps = max((int(line.get("step", 0)) for line in log), default=0)
    rates = tuple(float(row["lr"]) for row in rows) if rows and "lr" in rows[0] else ()
    return CurveFacts(**curves, learning_rate=rates, steps=steps or None)


def _evaluation(recipe: Recipe, result: Mapping[str, Any], predictions: Mapping[str, Predictions]) -> EvaluationFacts:
    name = "test" if "test" in predictions and recipe.data.validation != "test" else "val"
    if name not in predictions:
        return EvaluationFacts()
    found = predictions[name]
    told = result.get("splits", {}).get(name, {}).get("accuracy", {})
    facts = evaluation_facts(name, found)
    loss = result.get("splits", {}).get(name, {}).get("loss")
    return replace(facts, accuracy=float(told.get("value", facts.accuracy)), loss=loss, stored_accuracy=facts.accuracy)


def evaluation_facts(split: str, found: Predictions) -> EvaluationFacts:
    """What the predictions of a split say."""
    return EvaluationFacts(
        split=split,
        count=len(found),
        accuracy=accuracy(found).value,
        class_accuracies=tuple(score.recall.value for score in class_scores(found) if score.recall is not None),
        predicted_counts=tuple(np.bincount(found.predicted, minlength=len(found.classes)).tolist()),
        majority_share=constant_predictor_accuracy(found),
    )


def _looks(folder: Path, kept: Mapping[str, Any]) -> int | None:
    fingerprint = kept.get("fingerprints", {}).get("test")
    ledger = ledger_folder(folder) / LEDGER
    if fingerprint is None or not ledger.is_file():
        return None
    looks = [line for line in read_json_lines(ledger) if line.get("test_fingerprint") == fingerprint]
    chosen = [{n: v for n, v in (look.get("settings") or {}).items() if not n.endswith("seed")} for look in looks]
    return len({json.dumps(settings, sort_keys=True) for settings in chosen})


def with_images(record: Record, folder: Path, sets: Mapping[str, ImageSet]) -> Record:
    """The record with what the images and single batches tell."""
    reader, recipe = Reader(), read_recipe(folder / "config.yaml")
    path = folder / "best.safetensors"
    model: LoadedModel | None = reader.read("best.safetensors", lambda: read_model(path), None)
    if model is None:
        return replace(record, unseen=(*record.unseen, *reader.unseen))
    prepare = model.preprocessor
    splits = {
        name: pixel_facts(record.splits.get(name, SplitFacts(count=len(images))), images, prepare)
        for name, images in sets.items()
    }
    inputs, labels = some_inputs(sets["train"], prepare)
    batch = reader.read("single batches", lambda: _batches(recipe, model, inputs, labels), BatchFacts())
    return replace(record, splits=splits, batch=batch, unseen=(*record.unseen, *reader.unseen))


def _batches(recipe: Recipe, model: LoadedModel, inputs: torch.Tensor, labels: torch.Tensor) -> BatchFacts:
    starts_fresh = recipe.model.layers is not None and recipe.model.weights is None
    fresh = fresh_net(recipe, inputs, len(model.classes)) if starts_fresh else None
    return batch_facts(fresh, model.net, inputs, labels, recipe)


def some_inputs(images: ImageSet, prepare: Preprocessor, most: int = SAMPLE) -> tuple[torch.Tensor, torch.Tensor]:
    """Some images as the net is given them, float32 [B, C, H, W], and their labels; spread evenly over the set."""
    order = np.random.default_rng(0).permutation(spread_rows(len(images), most))
    return prepare.to_input(gather(images.images, order)), torch.from_numpy(images.labels[order])


def pixel_facts(facts: SplitFacts, images: ImageSet, prepare: Preprocessor) -> SplitFacts:
    """The facts with the values of some images as they reach the net."""
    values, _ = some_inputs(images, prepare)
    flat = values.flatten(1)
    constant = int((flat.amax(dim=1) == flat.amin(dim=1)).sum())
    return replace(
        facts,
        shape=images.image_shape,
        class_counts=tuple(images.class_counts().values()),
        num_classes=len(images.classes),
        dtype="float32",
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float(values.mean()),
        std=float(values.std()),
        channel_means=tuple(values.mean(dim=(0, 2, 3)).tolist()),
        num_values=len(np.unique(values.flatten()[:200_000].numpy())),
        constant_images=round(constant * len(images) / len(values)),
        label_kind="integer",
        label_minimum=0,
        label_maximum=len(images.classes) - 1,
    )
