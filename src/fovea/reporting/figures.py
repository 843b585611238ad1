"""The figures of a run, by name: each is drawn from what its folder holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.evaluation.metrics import class_scores
from fovea.evaluation.stored import StoredRun
from fovea.registry import Registry
from fovea.reporting.classbars import draw_class_accuracy, draw_class_counts
from fovea.reporting.confusion import draw_confusion
from fovea.reporting.curves import draw_curves, draw_curves_of_runs
from fovea.reporting.pictures import draw_augmented, draw_mistakes, draw_sample_rows
from fovea.reporting.style import save_figure
from fovea.reporting.trust_figures import plot_calibration, plot_coverage, plot_saliency

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}


def plot_history(run: StoredRun, *others: StoredRun) -> Figure:
    """Loss above accuracy; several runs in one figure, validation solid, training dashed."""
    if not others:
        return draw_curves(run.history, int(run.result["best_epoch"]))
    return draw_curves_of_runs({name: each.history for name, each in named_runs([run, *others]).items()})


def named_runs(runs: list[StoredRun]) -> dict[str, StoredRun]:
    """Runs by the names of their folders, told apart by the folder above where two are the same."""
    names = [run.path.resolve().name for run in runs]
    found: dict[str, StoredRun] = {}
    for name, run in zip(names, runs, strict=True):
        full = name if names.count(name) == 1 else f"{run.path.resolve().parent.name}/{name}"
        number = 2
        unique = full
        while unique in found:
            unique, number = f"{full} ({number})", number + 1
        found[unique] = run
    return found


def plot_confusion(run: StoredRun, normalize: bool = False) -> Figure:
    """The confusion matrix of the split that the run is judged by."""
    return draw_confusion(run.confusion_matrix, run.classes, _judged(run), normalize)


def plot_class_accuracy(run: StoredRun) -> Figure:
    """The accuracy of each class with its interval."""
    found = run.predictions(run.judged_by)
    scores = class_scores(found, run.recipe.evaluation.confidence)
    return draw_class_accuracy(scores, float(found.correct.mean()), _judged(run))


def plot_mistakes(run: StoredRun) -> Figure:
    """The wrong answers with the highest loss."""
    return draw_mistakes(run.gallery, run.predictions(run.judged_by))


def plot_class_counts(run: StoredRun) -> Figure:
    """Images of each class in training, validation and test."""
    return draw_class_counts(class_counts_of(run), run.classes)


def class_counts_of(run: StoredRun) -> NDArray[np.int64]:
    """Images of train, val and test a class, int64 [3, K]; test images that are validation's too count once."""
    counts = run.gallery.class_counts
    return counts if run.mark is None else counts * np.array([[1], [0], [1]])


def plot_samples(run: StoredRun) -> Figure:
    """Training images, a row a class."""
    gallery = run.gallery
    title = f"training images, {int(gallery.class_counts[0].sum()):,} in all"
    return draw_sample_rows(gallery.samples, gallery.sample_labels, run.classes, title)


def plot_augmented(run: StoredRun) -> Figure:
    """Training images as augmentation changed them."""
    return draw_augmented(run.gallery)


def _judged(run: StoredRun) -> str:
    found = run.predictions(run.judged_by)
    return f"{SPLIT_WORDS[run.judged_by]} split: {int(found.correct.sum()):,} of {len(found):,} images answered rightly"


# Name -> (file in the run folder, what draws it).
FIGURES: Registry[tuple[str, Callable[[StoredRun], Figure]]] = Registry(
    "figure",
    {
        "curves": ("curves.png", plot_history),
        "confusion": ("confusion_matrix.png", plot_confusion),
        "class-accuracy": ("class_accuracy.png", plot_class_accuracy),
        "mistakes": ("mistakes.png", plot_mistakes),
        "class-counts": ("class_counts.png", plot_class_counts),
        "samples": ("samples.png", plot_samples),
        "augmented": ("augmented.png", plot_augmented),
        "calibration": ("calibration.png", plot_calibration),
        "coverage": ("coverage.png", plot_coverage),
        "saliency": ("saliency.png", plot_saliency),
    },
)
ON_DEMAND = {"saliency"}  # drawn where it is asked for by name: it runs the net


def write_figures(run: StoredRun) -> None:
    """Draw the figures that every run has into its folder."""
    for name in FIGURES:
        if name not in ON_DEMAND:
            write_figure(run, name, run.path)


def write_figure(run: StoredRun, name: str, folder: Path, form: str = "png", normalize: bool = False) -> Path:
    """Draw one figure into a folder.

    Args:
        form: "png" or "svg".
        normalize: of the confusion matrix: shares instead of counts.

    Raises:
        SettingsError: for an unknown figure.
        RunFailedError: when it cannot be written.
    """
    file, draw = FIGURES[name]
    figure = plot_confusion(run, normalize) if name == "confusion" else draw(run)
    path = folder / Path(file).with_suffix(f".{form}")
    save_figure(figure, path)
    return path
