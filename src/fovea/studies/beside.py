"""Extra evaluations of a run's weights, epoch by epoch: what a program got wrong on purpose stays out of its loop."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fovea.budget import clock
from fovea.data.augment import augment_batch
from fovea.data.batches import as_pixels, gather
from fovea.data.draws import derived_seed
from fovea.data.imageset import ImageSet
from fovea.data.preprocess import fit_preprocessor
from fovea.errors import DataError, SettingsError
from fovea.evaluation.metrics import cross_entropy
from fovea.evaluation.predictions import predict
from fovea.evaluation.stored import StoredRun
from fovea.files import csv_table, write_text
from fovea.settings import AugmentationSettings, PreprocessingSettings
from fovea.studies.published import Beside
from fovea.training.callbacks import Callback, Metrics, TrainingState
from fovea.training.plan import Plan
from fovea.training.records import log_event

COLUMNS = ["epoch", "val_loss", "val_accuracy"]


class BesideWatcher(Callback):
    """Evaluates the net after each epoch on the validation images in another form; it changes nothing.

    Args:
        plan, folder: of the run.
    """

    def __init__(self, beside: Beside, plan: Plan, folder: Path) -> None:
        self.beside, self.plan, self.folder = beside, plan, folder
        settings = _preprocessing(plan.recipe.preprocessing, beside)
        train = plan.splits.sets["train"]
        self.preprocessor = fit_preprocessor(train.images, settings, plan.splits.input_range)

    def on_epoch(self, state: TrainingState, metrics: Metrics) -> None:
        began, recipe = clock(), self.plan.recipe
        net = state.net if state.average is None else state.average.module
        images = self.plan.splits.sets["val"]
        if self.beside.augmented:
            images = augmented(images, recipe.augmentation, recipe.training.seed, state.epoch)
        target, size = self.plan.hardware.target, recipe.evaluation.eval_batch_size
        found = predict(net, images, self.preprocessor, target, size)
        loss = cross_entropy(found, recipe.training.loss_clip)
        # A run that goes on after a kill may have written this epoch already.
        rows = [row for row in read_rows(beside_path(self.folder, self.beside)) if row[0] < state.epoch]
        rows.append((state.epoch, loss, float(found.correct.mean())))
        write_text(beside_path(self.folder, self.beside), csv_table(COLUMNS, [list(row) for row in rows]))
        log_event(self.folder, "beside", state.step, name=self.beside.name, seconds_beside=round(clock() - began, 3))


def _preprocessing(settings: PreprocessingSettings, beside: Beside) -> PreprocessingSettings:
    try:
        return PreprocessingSettings.model_validate({**settings.model_dump(), **beside.preprocessing})
    except ValueError as error:
        raise SettingsError(f"The evaluation {beside.name} has preprocessing that cannot be used: {error}.") from None


def augmented(images: ImageSet, settings: AugmentationSettings, seed: int, epoch: int) -> ImageSet:
    """The images of a set, each augmented once, as whole grey values; drawn for (seed, epoch, image) in a stream apart.

    Args:
        settings: complete.
    """
    indices = np.arange(len(images))
    own_seed = derived_seed(seed, "beside")
    changed = augment_batch(gather(images.images, indices), settings, indices, own_seed, epoch)
    return replace(images, images=as_pixels(changed))


def watchers_of(besides: Sequence[Beside], plan: Plan, folder: Path) -> list[Callback]:
    """The watchers of a run."""
    return [BesideWatcher(beside, plan, folder) for beside in besides]


def beside_path(folder: Path, beside: Beside) -> Path:
    """Where the figures of an extra evaluation stand in a run folder."""
    return folder / f"beside-{beside.name}.csv"


def read_rows(path: Path) -> list[tuple[int, float, float]]:
    """(epoch, loss, accuracy) of each epoch that was evaluated; none where nothing was.

    Raises:
        DataError: when the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [(int(row["epoch"]), float(row["val_loss"]), float(row["val_accuracy"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def beside_figures(run: StoredRun, beside: Beside) -> dict[str, dict[int, float]]:
    """ "val_loss" and "val_accuracy" of an extra evaluation: epoch -> value; epochs that were not evaluated lack.

    Raises:
        DataError: when the file is not what the run wrote.
    """
    path = beside_path(run.path, beside)
    rows = read_rows(run.file(path.name)) if path.is_file() else []
    return {
        "val_loss": {epoch: loss for epoch, loss, _ in rows},
        "val_accuracy": {epoch: accuracy for epoch, _, accuracy in rows},
    }


def beside_seconds(run: StoredRun) -> float:
    """How long the extra evaluations of a run have taken; an epoch that was done twice counts once."""
    entries = [entry for entry in run.log if entry.get("event") == "beside"]
    times = {(entry["name"], entry["step"]): float(entry["seconds_beside"]) for entry in entries}
    return sum(times.values())
