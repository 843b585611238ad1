"""The loss of training: torch's cross-entropy, and Keras' clipped one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fovea.evaluation.metrics import cross_entropy
from fovea.evaluation.predictions import Predictions
from fovea.settings import TrainingSettings
from fovea.training.loss import training_loss

LABELS = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_clip_that_no_probability_reaches_changes_nothing(smoothing: float) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    plain = training_loss(logits, LABELS, TrainingSettings(label_smoothing=smoothing))
    assert torch.equal(plain, F.cross_entropy(logits, LABELS, label_smoothing=smoothing))
    (expected,) = torch.autograd.grad(plain, logits)
    clipped = training_loss(logits, LABELS, TrainingSettings(label_smoothing=smoothing, loss_clip=1e-7))
    (found,) = torch.autograd.grad(clipped, logits)
    assert torch.allclose(clipped, plain, atol=1e-6)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_sure_and_wrong_answer_costs_minus_log_of_the_clip_and_has_no_gradient() -> None:
    logits = torch.tensor([[0.0, 60.0, 0.0]], requires_grad=True)
    loss = training_loss(logits, torch.tensor([0]), TrainingSettings(loss_clip=1e-7))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_measured_loss_is_clipped_alike() -> None:
    logits = np.array([[0, 60, 0], [60, 0, 0], [0.5, 0.2, 0.1]], np.float32)
    labels = np.array([0, 0, 2])
    ids = np.array(["a", "b", "c"])
    found = cross_entropy(Predictions(logits, labels, ids, ("x", "y", "z")), clip=1e-7)
    expected = training_loss(torch.from_numpy(logits), torch.from_numpy(labels), TrainingSettings(loss_clip=1e-7))
    assert found == pytest.approx(expected.item(), rel=1e-5)
