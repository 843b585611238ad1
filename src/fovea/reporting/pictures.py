"""Figures of images: samples, augmented samples, mistakes. Each figure is one picture with text beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet
from fovea.data.mosaic import as_jpeg, as_png, mosaic
from fovea.display import data_uri
from fovea.evaluation.gallery import MAX_CLASSES, SAMPLES_A_CLASS, Gallery, spread_over_classes
from fovea.evaluation.predictions import Predictions
from fovea.reporting.style import new_figure, plain_labels, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MISTAKES_A_ROW = 6
_JPEG_FROM_SIDE = 41  # larger images in colour are photos, for which PNG is wasteful


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: the true class, the answer with its probability, the name of the image."""

    true: str
    answered: str
    probability: float
    image: str

    @property
    def pair(self) -> str:
        """ "cat → dog"."""
        return f"{self.true} → {self.answered}"


def draw_samples(sets: dict[str, ImageSet]) -> Figure:
    """Some images of the first part of data: a row a class, ten images spread over those of the class."""
    part, images = next(iter(sets.items()))
    rows = spread_over_classes(images, MAX_CLASSES, SAMPLES_A_CLASS)
    title = f"{part}: {len(images):,} images"
    return draw_sample_rows(images.images[rows], images.labels[rows], images.classes, title)


def draw_sample_rows(
    images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...], title: str
) -> Figure:
    """A row a class, with its name.

    Args:
        images: uint8 [n, h, w, C].
        labels: int64 [n], ascending.
    """
    shown = np.unique(labels)
    rows = [images[labels == label] for label in shown]
    names = [classes[label] for label in shown]
    left_out = f", {len(shown)} of {len(classes)} classes" if len(shown) < len(classes) else ""
    return _rows_of_images(rows, names, title + left_out)


def draw_augmented(gallery: Gallery) -> Figure:
    """Training images (left) and what augmentation made of them in the first epochs."""
    epochs = gallery.augmented.shape[1] - 1
    title = f"left the training image, then as the net saw it in epochs 1 to {epochs}"
    if not len(gallery.augmented):
        figure = new_figure(6, 1)
        figure.text(0.5, 0.5, "Nothing was augmented: the net saw the images as they are.", ha="center", va="center")
        return figure
    return _rows_of_images(list(gallery.augmented), [""] * len(gallery.augmented), title)


def draw_mistakes(gallery: Gallery, found: Predictions) -> Figure:
    """The wrong answers with the highest loss: true class, predicted class and its probability below each image.

    Args:
        found: predictions of the split that the run is judged by.
    """
    wrong = int((~found.correct).sum())
    images, columns = gallery.mistakes, _MISTAKES_A_ROW
    if not len(images):
        figure = new_figure(6, 1)
        figure.text(0.5, 0.5, f"All {len(found):,} images were answered rightly.", ha="center", va="center")
        return figure
    height, width = images.shape[1:3]
    rows = -(-len(images) // columns)
    mistakes = mistakes_of(gallery, found)
    is_short = max(len(mistake.pair) for mistake in mistakes) <= 12
    room = max(round(width * (0.3 if is_short else 0.42)), 5)  # for two or three lines of text below each image
    padded = np.pad(images, ((0, 0), (0, room), (0, 0), (0, 0)), constant_values=255)
    figure = new_figure(8, 0.4 + 8 / columns * (height + room) / width * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(_shown(mosaic(padded, columns, gap=2)), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    texts = []
    for number, mistake in enumerate(mistakes):
        pair = mistake.pair if is_short else f"{mistake.true}\n→ {mistake.answered}"
        text = f"{pair}\n{mistake.probability:.0%}"
        left, top = number % columns * (width + 2), number // columns * (height + room + 2)
        texts.append(axes.text(left + width / 2, top + height, text, ha="center", va="top", fontsize=7))
    plain_labels(texts)
    axes.set_title(f"the {len(images)} worst of {wrong:,} mistakes: true → predicted, its probability", fontsize=10)
    return figure


def mistakes_of(gallery: Gallery, found: Predictions) -> list[Mistake]:
    """The mistakes whose images a gallery holds."""
    probability = found.confidence
    return [
        Mistake(
            shortened(found.classes[found.labels[row]], 12),
            shortened(found.names[row], 12),
            float(probability[row]),
            str(found.ids[row]),
        )
        for row in gallery.mistake_rows.tolist()
    ]


def picture_source(image: NDArray[np.uint8]) -> str:
    """An image [H, W, C] as a data: address."""
    if image.shape[2] == 3 and max(image.shape[:2]) >= _JPEG_FROM_SIDE:
        return data_uri(as_jpeg(image), "image/jpeg")
    return data_uri(as_png(image))


def _rows_of_images(rows: list[NDArray[np.uint8]], names: list[str], title: str) -> Figure:
    columns = max(map(len, rows))
    height, width = rows[0].shape[1:3]
    filled = [np.pad(row, ((0, columns - len(row)), (0, 0), (0, 0), (0, 0)), constant_values=255) for row in rows]
    name_width = 1.5 if any(names) else 0.1
    figure = new_figure(8, 0.5 + (8 - name_width) / columns * height / width * len(rows))
    axes = figure.subplots()
    axes.imshow(
        _shown(mosaic(np.concatenate(filled), columns, gap=2)), cmap="gray", vmin=0, vmax=255, interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks([row * (height + 2) + height / 2 for row in range(len(rows))], [shortened(n, 16) for n in names])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    plain_labels(list(axes.get_yticklabels()))
    axes.set_title(title, fontsize=10)
    return figure


def _shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[..., 0] if image.shape[-1] == 1 else image
