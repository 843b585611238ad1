"""Labels that are probably wrong: confident learning on answers of nets that have not seen the image.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70 (2021),
arXiv 1911.00068. The threshold of a class is the mean probability of the class over the images that bear its label. The
images whose own label lies below its threshold, while another class reaches its own, are counted: so many errors there
are, by estimate. Listed are the images with the least probable labels ("self-confidence"), at most twice that number:
nets that were trained for seconds are often right, but not sure enough to reach the other class's threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.data.groups import groups_of
from fovea.data.imageset import ImageSet, RawData, take_rows
from fovea.data.pixels import check_images, to_uint8, value_range
from fovea.data.prepare import encode_parts
from fovea.data.split import Groups, Split, cut_folds, make_split
from fovea.errors import SettingsError
from fovea.evaluation.findings import Finding
from fovea.evaluation.intervals import Score, accuracy_score
from fovea.settings import Recipe, with_settings
from fovea.studies.folds import held_out_logits, out_of_fold_logits

NUM_FOLDS = 3
LISTED_PER_ERROR = 2  # images listed for each error that is estimated
MOST_LISTED = 0.02  # of the judged images: a longer list is not looked through
_IMAGES_TO_SEE = 120_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 2, 30
_MANY = 10_000  # training images, from which on batches have 256
_SMALLEST_SIDE, _LARGEST_SIDE = 12, 64
_HARDWARE = ("device", "precision", "memory_format", "threads", "fast_ops", "allocator")
Judged = Literal["train", "test"]
WORDS = {"train": "training", "test": "test"}
OnTraining = Callable[[int, int], None]  # (number of the training from 1, how many)


@dataclass(frozen=True, eq=False)
class Suspects:
    """Where another class is more probable than the given one, the least probable label first.

    Attributes:
        rows: int64 [n], into what was judged.
        suggested: int64 [n], the most probable classes.
        p_given, p_suggested: float64 [n], probabilities of the given and the suggested class.
        estimated_errors: how many labels are wrong, as confident learning counts them.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    p_given: NDArray[np.float64]
    p_suggested: NDArray[np.float64]
    estimated_errors: int

    def __len__(self) -> int:
        return len(self.rows)

    def listed(self, num_judged: int) -> Suspects:
        """Those that are worth a look: twice the estimated errors, at most 2 % of what was judged."""
        count = min(LISTED_PER_ERROR * self.estimated_errors, max(1, round(MOST_LISTED * num_judged)))
        return Suspects(
            self.rows[:count],
            self.suggested[:count],
            self.p_given[:count],
            self.p_suggested[:count],
            self.estimated_errors,
        )


def confident_suspects(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Suspects:
    """The suspects of confident learning.

    Args:
        logits: [N, K], of nets that have not been trained on the image.
        labels: int64 [N], the given classes.
    """
    from scipy.special import log_softmax

    every = np.arange(len(labels))
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    p = np.exp(log_p)
    present = np.bincount(labels, minlength=p.shape[1]) > 0
    thresholds = np.full(p.shape[1], np.inf)  # a class that no label names can be suggested to nobody
    thresholds[present] = [p[labels == label, label].mean() for label in np.flatnonzero(present)]
    others = np.where(p >= thresholds, p, -1.0)
    others[every, labels] = -1.0
    confident = (p[every, labels] < thresholds[labels]) & (others.max(axis=1) >= 0)
    suggested = np.where(present, log_p, -np.inf).argmax(axis=1)
    rows = np.flatnonzero((suggested != labels) & (p[every, labels] < thresholds[labels]))
    rows = rows[np.argsort(log_p[rows, labels[rows]], kind="stable")]
    shares = p[rows, labels[rows]], p[rows, suggested[rows]]
    return Suspects(rows, suggested[rows], *shares, int(confident.sum()))


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """The labels of one split that are probably wrong.

    Attributes:
        judged: "train" or "test".
        part: the part of the data that the images come from, which a file of label fixes names.
        indices: int64 [n], where the listed images stand in it; ids: their names.
        images: uint8 [n, H, W, C], the listed images.
        given: int64 [n], their classes as labelled.
        suspects: the list, the most probably wrong first; its rows are those of `indices`.
        agreement: the share of the judged images whose label is the answer of a net that had not seen them.
        num_trainings: how many nets were trained for it.
    """

    judged: Judged
    part: str
    classes: tuple[str, ...]
    indices: NDArray[np.int64]
    ids: NDArray[Any]
    images: NDArray[np.uint8]
    given: NDArray[np.int64]
    suspects: Suspects
    agreement: Score
    num_trainings: int

    def __len__(self) -> int:
        return len(self.indices)

    def finding(self) -> Finding | None:
        """What `fovea data` says of it; None where no label is suspect."""
        if not len(self):
            return None
        errors, count = self.suspects.estimated_errors, self.agreement.count
        evidence: dict[str, Any] = {"split": self.judged, "judged": count, "estimated": errors, "listed": len(self)}
        evidence["agreement"] = self.agreement.as_json()
        cause = (
            f"About {errors:,} of {count:,} {WORDS[self.judged]} labels seem to be wrong: nets that had not seen the "
            f"image are sure of another class. Listed are the {len(self):,} least probable labels."
        )
        cure = (
            "Look at them, for many will be right; write fix or exclude into the column action, and train with "
            "--set label_fixes=FILE."
        )
        return Finding("label-errors", "warning", evidence, cause, cure)


def find_label_errors(
    recipe: Recipe, raw: RawData, judged: Judged = "train", on_training: OnTraining = lambda number, of: None
) -> LabelErrors:
    """Judge the labels of the training images, out of fold, or those of the test by a net trained on the others.

    Training images are all that do not belong to the test: also those that would be validation. No test image is
    looked at unless `judged` is "test".

    Args:
        recipe: its data, preprocessing and hardware count; net and training are `quick_recipe`'s.
        on_training: called before each training.

    Raises:
        UserError: for data or settings that cannot be used.
    """
    if recipe.data.label_fixes is not None:
        raise SettingsError("--labels judges the labels as they come: leave label_fixes out.")
    labels, classes = encode_parts(raw)
    groups = groups_of(raw, recipe.data.groups)
    settings = recipe.data.model_copy(update={"validation": "split", "fold": None, "val_split": 0.0})
    split, _ = make_split(labels, settings, groups)
    train = split.indices["train"]
    quick = quick_recipe(recipe, raw, len(train))
    if judged == "test":
        on_training(1, 1)
        rows, part, num_trainings = split.indices["test"], split.sources["test"], 1
        asked = Split({"train": "train", "val": part}, {"train": train, "val": rows}, split.split_seed)
        logits = held_out_logits(quick, raw, asked)
    else:
        part, num_trainings = "train", NUM_FOLDS
        rows, logits = _out_of_fold(quick, raw, labels["train"], train, groups, on_training)
    given = labels[part][rows]
    every = confident_suspects(logits, given)
    listed = every.listed(len(rows))
    agreement = accuracy_score(int((logits.argmax(axis=1) == given).sum()), len(rows))
    found = rows[listed.rows]
    return LabelErrors(
        judged,
        part,
        classes,
        found,
        raw.parts[part].ids[found],
        _pictures(raw, part, found),
        labels[part][found],
        replace(listed, rows=np.arange(len(listed))),
        agreement,
        num_trainings,
    )


def quick_recipe(recipe: Recipe, raw: RawData, count: int) -> Recipe:
    """A narrow net that trains in seconds, for data of `count` training images."""
    height, width = raw.parts["train"].images.shape[1:3]
    epochs = round(_IMAGES_TO_SEE / count)
    changes: dict[str, Any] = {
        "model.name": "airbench-tiny" if min(height, width) >= _SMALLEST_SIDE else "small",
        "optimizer.name": "muon",
        "schedule.name": "linear",
        "augmentation.preset": "none",
        "training.batch_size": 256 if count >= _MANY else None,
        "training.epochs": min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, epochs)),
        "callbacks.keep": "last",
        "data.val_split": 0,
    }
    changes |= {f"training.{name}": getattr(recipe.training, name) for name in _HARDWARE}
    scale = _LARGEST_SIDE / max(height, width)
    if scale < 1 and recipe.preprocessing.image_size is None:
        changes["image_size"] = (max(1, round(height * scale)), max(1, round(width * scale)))
    return with_settings(Recipe(data=recipe.data, preprocessing=recipe.preprocessing), changes)


def _out_of_fold(
    quick: Recipe,
    raw: RawData,
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    groups: Groups | None,
    on_training: OnTraining,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows that were judged, ascending, and their logits."""
    folds = cut_folds(train, labels, NUM_FOLDS, quick.data, None if groups is None else groups["train"])
    judged = np.concatenate(folds)
    logits = out_of_fold_logits(quick, raw, folds, on_training, np.setdiff1d(train, judged))
    order = np.argsort(judged)
    return judged[order], logits[order]


def _pictures(raw: RawData, part: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    images = check_images(raw.parts[part].images, raw.name)
    of_train = value_range(check_images(raw.parts["train"].images, raw.name))
    return np.asarray(to_uint8(take_rows(images, rows), of_train))


def as_rows(found: LabelErrors) -> list[dict[str, Any]]:
    """The list as plain values, the columns of a file of label fixes."""
    suspects = found.suspects
    return [
        {
            "part": found.part,
            "id": str(found.ids[row]),
            "index": int(found.indices[row]),
            "given": found.classes[found.given[row]],
            "suggested": found.classes[suspects.suggested[row]],
            "p_given": float(suspects.p_given[row]),
            "p_suggested": float(suspects.p_suggested[row]),
            "action": "",
        }
        for row in range(len(found))
    ]


def listed_images(found: LabelErrors) -> ImageSet:
    """The listed images with their given labels."""
    return ImageSet(found.images, found.given, found.classes, found.ids)
