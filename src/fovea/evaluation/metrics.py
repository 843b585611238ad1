"""Metrics, each a function of Predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import DataError
from fovea.evaluation.intervals import Score, accuracy_score
from fovea.evaluation.predictions import Predictions
from fovea.settings import Recipe


@dataclass(frozen=True)
class ClassScore:
    """How one class fares; fractions in [0, 1]. `recall` is the class's own accuracy, with its interval."""

    name: str
    count: int
    precision: float
    recall: Score | None
    f1: float

    def as_json(self) -> dict[str, Any]:
        recall = None if self.recall is None else self.recall.as_json()
        return {
            "class": self.name,
            "count": self.count,
            "precision": self.precision,
            "recall": recall,
            "f1": self.f1,
        }


def accuracy(predictions: Predictions, confidence: float = 0.95) -> Score:
    """The share of right answers, with Wilson's interval.

    Raises:
        DataError: when there are no images.
    """
    if len(predictions) == 0:
        raise DataError("An accuracy needs at least one image.")
    return accuracy_score(int(predictions.correct.sum()), len(predictions), confidence)


def cross_entropy(predictions: Predictions, clip: float | None = None) -> float:
    """The mean of -log p(true class), in nats.

    Args:
        clip: c holds each p within [c, 1 - c], as Keras does with 1e-7; None: as it is.
    """
    from scipy.special import log_softmax

    log_probabilities = log_softmax(predictions.logits.astype(np.float64), axis=1)
    of_true_class = log_probabilities[np.arange(len(predictions)), predictions.labels]
    if clip is not None:
        of_true_class = of_true_class.clip(np.log(clip), np.log1p(-clip))
    return float(-of_true_class.mean())


def confusion_matrix(predictions: Predictions) -> NDArray[np.int64]:
    """Counts, int64 [K, K]: row the true class, column the predicted one."""
    count = len(predictions.classes)
    matrix = np.bincount(predictions.labels * count + predictions.predicted, minlength=count * count)
    return matrix.reshape(count, count).astype(np.int64)


def class_scores(predictions: Predictions, confidence: float = 0.95) -> list[ClassScore]:
    """Precision, recall and F1 of each class; a class without images has no recall."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = np.arange(len(predictions.classes))
    precision, _, f1, count = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=labels, zero_division=0
    )
    right = confusion_matrix(predictions).diagonal()
    recall = [accuracy_score(int(r), int(n), confidence) if n else None for r, n in zip(right, count, strict=True)]
    return [
        ClassScore(name, int(count[i]), float(precision[i]), recall[i], float(f1[i]))
        for i, name in enumerate(predictions.classes)
    ]


def top_k_accuracy(predictions: Predictions, k: int, confidence: float = 0.95) -> Score:
    """The share of images whose true class is among the k most likely."""
    k = min(k, len(predictions.classes))
    best = np.argsort(-predictions.logits, axis=1, kind="stable")[:, :k]
    hits = (best == predictions.labels[:, None]).any(axis=1)
    return accuracy_score(int(hits.sum()), len(predictions), confidence)


def constant_predictor_accuracy(predictions: Predictions) -> float:
    """What always answering the most frequent class would reach: the bar that every net must clear."""
    return float(np.bincount(predictions.labels).max() / len(predictions))


def all_metrics(predictions: Predictions, recipe: Recipe) -> dict[str, Any]:
    """Every metric of a split as plain values, as result.json holds them."""
    top_k, confidence = recipe.evaluation.top_k, recipe.evaluation.confidence
    result: dict[str, Any] = {
        "accuracy": accuracy(predictions, confidence).as_json(),
        "loss": cross_entropy(predictions, recipe.training.loss_clip),
        "constant_predictor_accuracy": constant_predictor_accuracy(predictions),
    }
    if 1 < top_k < len(predictions.classes):
        result[f"top_{top_k}_accuracy"] = top_k_accuracy(predictions, top_k, confidence).as_json()
    result["classes"] = [score.as_json() for score in class_scores(predictions, confidence)]
    return result
