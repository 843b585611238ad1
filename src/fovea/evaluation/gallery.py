"""examples.npz: the few images that a run keeps to show: samples, augmented samples, the worst mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.data.augment import augment_batch
from fovea.data.batches import as_pixels, gather
from fovea.data.imageset import ImageSet
from fovea.data.pixels import as_array, from_array
from fovea.errors import DataError
from fovea.evaluation.predictions import NPZ_ERRORS, Predictions, arrays_as_npz
from fovea.settings import AugmentationSettings

GALLERY = "examples.npz"
MAX_CLASSES, SAMPLES_A_CLASS = 25, 10
AUGMENTED, VARIANTS = 6, 7  # images that are shown augmented, and how many draws of each
MISTAKES = 30
_LARGEST_SIDE = 64  # larger images are kept smaller
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images to show, uint8 [n, h, w, C], 64 pixels a side at most.

    Attributes:
        class_counts: int64 [3, K], images of train, val and test a class.
        samples: training images, ten a class, of the first 25 classes that have any.
        sample_labels: int64 [n], their classes.
        augmented: [6, 8, h, w, C], a training image and seven draws of it, as the net saw them in the first epochs;
            empty where nothing is augmented.
        mistakes: of the split that the run is judged by, the highest loss first.
        mistake_rows: int64 [n], which rows of its predictions they are.
        neighbours: [n, 3, h, w, C], the nearest training images of each mistake; empty where they were not searched.
        neighbour_labels: int64 [n, 3], their classes.
    """

    class_counts: NDArray[np.int64]
    samples: NDArray[np.uint8]
    sample_labels: NDArray[np.int64]
    augmented: NDArray[np.uint8]
    mistakes: NDArray[np.uint8]
    mistake_rows: NDArray[np.int64]
    neighbours: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 1, 1, 1), np.uint8))
    neighbour_labels: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))


def make_gallery(
    sets: dict[str, ImageSet],
    augmentation: AugmentationSettings,
    seed: int,
    judged: ImageSet,
    found: Predictions,
    nearest: Callable[[ImageSet], NDArray[np.int64]] | None = None,
) -> Gallery:
    """Choose and shrink the images that a run keeps.

    Args:
        sets: "train", "val" if there is one, and "test".
        augmentation, seed: of the training.
        judged: the set that the run is judged by, test or validation.
        found: its predictions.
        nearest: images -> the rows of the training images nearest to each, int64 [n, k]; None: none are looked for.
    """
    train = sets["train"]
    rows = spread_over_classes(train, MAX_CLASSES, SAMPLES_A_CLASS)
    mistaken = worst_mistakes(found)[:MISTAKES]
    near = np.empty((0, 0), np.int64) if nearest is None or not len(mistaken) else nearest(judged.take(mistaken))
    return Gallery(
        class_counts=_class_counts(sets),
        samples=shrink(train.images[rows]),
        sample_labels=train.labels[rows],
        augmented=_augmented(train, augmentation, seed),
        mistakes=shrink(judged.images[mistaken]),
        mistake_rows=mistaken,
        neighbours=_neighbours(train, near),
        neighbour_labels=train.labels[near],
    )


def _neighbours(train: ImageSet, near: NDArray[np.int64]) -> NDArray[np.uint8]:
    small = shrink(train.images[near.ravel()])
    return small.reshape(*near.shape, *small.shape[1:])


def _class_counts(sets: dict[str, ImageSet]) -> NDArray[np.int64]:
    none = [0] * len(sets["train"].classes)  # there may be no validation images
    return np.array([list(sets[n].class_counts().values()) if n in sets else none for n in SPLITS], np.int64)


def worst_mistakes(found: Predictions) -> NDArray[np.int64]:
    """The rows of wrong answers, the highest loss first: int64."""
    from scipy.special import log_softmax

    wrong = np.flatnonzero(~found.correct)
    log_probability = log_softmax(found.logits[wrong].astype(np.float64), axis=1)
    loss = -log_probability[np.arange(len(wrong)), found.labels[wrong]]
    return wrong[np.argsort(-loss, kind="stable")]


def spread_over_classes(images: ImageSet, max_classes: int, per_class: int) -> NDArray[np.int64]:
    """Rows of up to `per_class` images of each class, spread over those of the class, class by class."""
    of_classes = [np.flatnonzero(images.labels == label) for label in range(len(images.classes))]
    picked = [
        rows[np.unique(np.linspace(0, len(rows) - 1, per_class).astype(np.int64))] for rows in of_classes if len(rows)
    ]
    return np.concatenate(picked[:max_classes])


def _augmented(train: ImageSet, augmentation: AugmentationSettings, seed: int) -> NDArray[np.uint8]:
    rows = np.linspace(0, len(train) - 1, min(AUGMENTED, len(train))).astype(np.int64)
    pixels = gather(train.images, rows)
    draws = [augment_batch(pixels, augmentation, rows, seed, epoch) for epoch in range(1, VARIANTS + 1)]
    if all(bool((draw == pixels).all()) for draw in draws):
        return np.empty((0, VARIANTS + 1, *train.image_shape), np.uint8)
    shown = [as_pixels(draw) for draw in (pixels, *draws)]
    flat = shrink(np.stack(shown, axis=1).reshape(-1, *train.image_shape))
    return flat.reshape(len(rows), VARIANTS + 1, *flat.shape[1:])


def shrink(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images [n, h, w, C] with the longer side cut to 64 pixels, the aspect kept."""
    height, width = images.shape[1:3]
    scale = _LARGEST_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(images)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [as_array(from_array(image).resize(size, Image.Resampling.BILINEAR)) for image in images]
    return np.stack(small) if small else np.empty((0, size[1], size[0], images.shape[3]), np.uint8)


def gallery_as_npz(gallery: Gallery) -> bytes:
    """The content of examples.npz."""
    return arrays_as_npz(dict(gallery.__dict__))


def read_gallery(path: Path) -> Gallery:
    """Read examples.npz of a run.

    Raises:
        DataError: when it is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = [each.name for each in fields(Gallery)]
            later = {"neighbours", "neighbour_labels"} - set(archive.files)  # older runs lack them
            return Gallery(**{name: archive[name] for name in names if name not in later})
    except NPZ_ERRORS:
        raise DataError(f"The example images {path} cannot be read: the file is missing or damaged.") from None
