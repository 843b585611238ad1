"""The loss that training lowers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fovea.settings import TrainingSettings


def training_loss(logits: torch.Tensor, labels: torch.Tensor, settings: TrainingSettings) -> torch.Tensor:
    """The batch's mean cross-entropy, in nats: a scalar.

    With `loss_clip` c the probabilities are first clipped to [c, 1 - c], as Keras does with what a softmax layer
    gives it: an image whose true class has less is as bad as -ln(c), and has no gradient.
    Source: categorical_crossentropy in keras/src/backend (its epsilon is 1e-7).

    Args:
        logits: float32 [B, K].
        labels: int64 [B].
    """
    clip, smoothing = settings.loss_clip, settings.label_smoothing
    if clip is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    logarithms = logits.softmax(dim=1).clamp(clip, 1 - clip).log()
    true_class = -logarithms.gather(1, labels[:, None])[:, 0]
    return ((1 - smoothing) * true_class - smoothing * logarithms.mean(dim=1)).mean()
