"""What a finished training leaves beside its results: images to show, weak slices, where the time went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet
from fovea.evaluation.gallery import GALLERY, gallery_as_npz, make_gallery
from fovea.evaluation.neighbours import nearest_training_images
from fovea.evaluation.slices import SLICES, slices_as_json, slices_of
from fovea.evaluation.stored import StoredRun
from fovea.evaluation.timeprofile import TIME_PROFILE
from fovea.files import write_bytes, write_json
from fovea.training import stopwatch
from fovea.training.plan import Plan


def keep_examples(plan: Plan, run: StoredRun) -> None:
    """Write the few images that figures and report show: the folder alone has to be enough for both."""
    sets = plan.splits.sets
    found, recipe = run.predictions(run.judged_by), plan.recipe

    def nearest(images: ImageSet) -> NDArray[np.int64]:
        with stopwatch.phase("evaluation", "nearest training images"):
            net, device = run.model.net.to(run.device.name), run.device
            return nearest_training_images(
                net, plan.preprocessor, device, sets["train"], images, recipe.data.split_seed
            )

    gallery = make_gallery(sets, recipe.augmentation, recipe.training.seed, sets[run.judged_by], found, nearest)
    write_bytes(run.path / GALLERY, gallery_as_npz(gallery))


def keep_slices(plan: Plan, run: StoredRun) -> None:
    """Look for kinds of images that are answered rightly less often than the others."""
    with stopwatch.phase("evaluation", "weak slices"):
        images, confidence = plan.splits.sets[run.judged_by].images, plan.recipe.evaluation.confidence
        tested = slices_of(run.predictions(run.judged_by), images, plan.profile, confidence)
        write_json(run.path / SLICES, slices_as_json(run.judged_by, tested))


def write_time_profile(folder: Path) -> None:
    """Write what the stopwatch has measured, if one runs."""
    running = stopwatch.current()
    if running is not None:
        write_json(folder / TIME_PROFILE, running.profile().as_json())
