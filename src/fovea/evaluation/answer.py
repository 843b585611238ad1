"""What a trained net answers for new images, with the preprocessing of its training and the input guard before it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fovea.data.guard_words import GuardTally
from fovea.data.imageset import ImageSet
from fovea.data.new_images import FittedImages, NewImages, fit_new_images, from_array
from fovea.errors import InputWarning
from fovea.evaluation.modelfile import LoadedModel
from fovea.evaluation.predictions import Device, Predictions, predict


@dataclass(frozen=True, eq=False)
class Answer:
    """Predictions for a batch of new images, and what the guard found about them."""

    predictions: Predictions
    fitted: FittedImages


def answer(model: LoadedModel, new: NewImages, device: Device, batch_size: int, adapt: bool = False) -> Answer:
    """Answer for new images.

    Args:
        adapt: whether to make images that are unlike the training images like them.
    """
    fitted = fit_new_images(model.preprocessor, model.card.profile, new, adapt)
    unlabelled = ImageSet(fitted.images, np.full(len(fitted), -1, np.int64), model.classes, fitted.ids)
    net = model.net.to(device.name)
    found = predict(net, unlabelled, model.preprocessor, device, batch_size, model.card.views)
    return Answer(replace(found, temperature=model.card.temperature), fitted)


def answer_array(model: LoadedModel, images: Any, device: Device, batch_size: int, adapt: bool = False) -> Predictions:
    """Answer for arrays, and warn where they are unlike the training images.

    Args:
        images: see `fovea.data.new_images.from_array`.

    Raises:
        DataError: for arrays that are no images.
    """
    new = from_array(model.preprocessor, images)
    found = answer(model, new, device, batch_size, adapt)
    tally = GuardTally(model.card.profile)
    tally.add(found.fitted)
    if any(not difference.is_rare for difference in tally.differences):
        told = [line for topic, line in tally.lines() if topic != "note"]
        sentences = [f"{line[:1].upper()}{line[1:]}{'' if line.endswith('.') else '.'}" for line in told]
        warnings.warn(" ".join(sentences), InputWarning, stacklevel=3)
    return found.predictions
