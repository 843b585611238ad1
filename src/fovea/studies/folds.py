"""Out-of-fold answers: each image is answered by a net that was trained without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import RawData
from fovea.data.split import Split
from fovea.evaluation.predictions import predict
from fovea.settings import Recipe
from fovea.training.hardware import applied
from fovea.training.loop import fit
from fovea.training.plan import plan_run, train_batches

_TRAIN_SAMPLE = 1000  # training images that each epoch is measured on; nothing reads the figure
OnFold = Callable[[int, int], None]  # (number of the fold from 1, how many)


def held_out_logits(recipe: Recipe, raw: RawData, split: Split) -> NDArray[np.float32]:
    """Train on the "train" images of a split, answer its "val" images: logits float32 [N, K], in their order.

    The split names nothing else, so that no test image is looked at.
    """
    plan = plan_run(recipe, raw, split=split)
    train, target = plan.splits.sets["train"], plan.hardware.target
    sample = train.take(np.arange(min(len(train), _TRAIN_SAMPLE)))
    with applied(plan.hardware):
        fit(plan.net, train_batches(plan), sample, None, plan.recipe, target)
        size = plan.recipe.evaluation.eval_batch_size
        return predict(plan.net, plan.splits.sets["val"], plan.preprocessor, target, size).logits


def out_of_fold_logits(
    recipe: Recipe, raw: RawData, folds: Sequence[NDArray[np.int64]], on_fold: OnFold, also: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Answer the images of each fold by a net trained on the others.

    Args:
        folds: rows of the part "train".
        on_fold: called before each training.
        also: rows that are in no fold and train in each.

    Returns:
        Logits float32 [N, K], in the order of np.concatenate(folds).
    """
    found = []
    for number, held in enumerate(folds):
        on_fold(number + 1, len(folds))
        others = [rows for other, rows in enumerate(folds) if other != number]
        rest = np.sort(np.concatenate([*others, also]))
        split = Split({"train": "train", "val": "train"}, {"val": held, "train": rest}, recipe.data.split_seed)
        found.append(held_out_logits(recipe, raw, split))
    return np.concatenate(found)
