"""What a trained run keeps beside its predictions: examples to show, weak slices, figures and a page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet
from fovea.evaluation.gallery import GALLERY, gallery_as_npz, make_gallery
from fovea.evaluation.neighbours import nearest_training_images
from fovea.evaluation.slices import SLICES, slices_as_json, slices_of
from fovea.evaluation.stored import StoredRun
from fovea.files import write_bytes, write_json
from fovea.reporting.figures import write_figures
from fovea.reporting.write import write_run_report
from fovea.training import stopwatch
from fovea.training.plan import Plan


def draw_run(run: StoredRun) -> None:
    """Draw the figures and write the page of a run."""
    write_figures(run)
    write_run_report(run)


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
