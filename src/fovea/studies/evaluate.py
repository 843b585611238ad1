"""Evaluating a saved run again: on its own test images, or on other data."""

from __future__ import annotations

import numpy as np

from fovea.data.imageset import ImageSet, RawData
from fovea.data.labels import encode_labels, flat_labels
from fovea.data.load import only_part
from fovea.data.pixels import check_images
from fovea.data.prepare import labels_of, prepare_splits
from fovea.errors import DataError
from fovea.evaluation.ledger import Looks, read_looks, record_look
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import StoredRun
from fovea.runfolder import ledger_folder


def evaluate_test_split(run: StoredRun, raw: RawData) -> tuple[Predictions, Looks]:
    """Open the run's own test split once more.

    Args:
        raw: the data that the run was trained on, read again.

    Returns:
        The predictions, and all looks at this test set so far.

    Raises:
        DataError: when the data is not what it was.
    """
    recipe = run.recipe
    splits = prepare_splits(raw, recipe.data, recipe.preprocessing.image_size, run.split)
    images = splits.sets["test"]
    if images.fingerprint != run.record["fingerprints"]["test"]:
        raise DataError(f"The test images of {raw.name} have changed since the run {run.path} was trained.")
    found = run.evaluate(images)
    return found, _look(run, images, found)


def evaluate_other_data(run: StoredRun, raw: RawData) -> tuple[Predictions, Looks]:
    """Evaluate on other labelled data: its test part, or all of it.

    Raises:
        DataError: when the images cannot be used or a label is no class of the run.
    """
    part = only_part(raw, "test")
    pixels = run.model.preprocessor.to_uint8(check_images(part.images, raw.name), raw.name)
    labels = flat_labels(labels_of(part, raw.name), raw.name)
    if raw.classes is not None and labels.dtype.kind != "U":
        labels = encode_labels(labels, dict(enumerate(raw.classes)), raw.name)
        labels = np.array(raw.classes)[labels]
    mapping = {name: name for name in run.classes}
    images = ImageSet(pixels, encode_labels(labels.astype(str), mapping, raw.name), run.classes, part.ids)
    found = run.evaluate(images)
    return found, _look(run, images, found)


def _look(run: StoredRun, images: ImageSet, found: Predictions) -> Looks:
    ledger = ledger_folder(run.path)
    record_look(ledger, run.path, images.fingerprint, found, run.recipe, {"purpose": "evaluate"})
    return read_looks(run, images.fingerprint)
