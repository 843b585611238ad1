"""Instruments: small experiments on one training, each of which answers one question with numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fovea.data.batches import Batch, gather
from fovea.data.imageset import ImageSet, spread_rows
from fovea.diagnosis.trainer import trained
from fovea.settings import Recipe, with_fields
from fovea.training.hardware import applied
from fovea.training.loop import train_step
from fovea.training.optimizers import make_optimizers
from fovea.training.plan import Plan, train_batches

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # five decades


@dataclass(frozen=True)
class RateTest:
    """The loss that a few steps reach with each learning rate, from the same start.

    Attributes:
        rates: in ascending order, the present one among them; losses: mean over the last fifth of the steps, inf where
            it was not finite; start_loss: before the first step.
        present: the rate in use; best: that of the lowest loss.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    start_loss: float
    present: float
    best: float

    @property
    def is_far_off(self) -> bool:
        """Whether the present rate is a decade or more from the best, and goes less than half as far down."""
        reached = self.start_loss - self.losses[self.rates.index(self.present)]
        most = self.start_loss - min(self.losses)
        return abs(math.log10(self.present / self.best)) >= 0.99 and reached < most / 2


def learning_rate_range(plan: Plan, rates: Sequence[float] = RATES, steps: int = 50) -> RateTest:
    """Try learning rates over five decades for a few steps each, from the same weights on the same batches.

    Source: Smith, "Cyclical learning rates", WACV 2017, with one short training a rate in place of one ramp.
    """
    present = float(plan.recipe.optimizer.lr or 0.0)
    tried = sorted({*rates, present})
    net, first = copy.deepcopy(plan.net), math.nan
    losses = []
    for rate in tried:
        recipe = with_fields(plan.recipe, "optimizer", lr=rate)
        curve = _steps(plan, copy.deepcopy(net), recipe, steps)
        first = curve[0]
        end = curve[-max(1, steps // 5) :]
        losses.append(float(np.mean(end)) if len(curve) == steps and all(map(math.isfinite, end)) else math.inf)
    return RateTest(tuple(tried), tuple(losses), first, present, tried[int(np.argmin(losses))])


def _steps(plan: Plan, net: nn.Module, recipe: Recipe, steps: int) -> list[float]:
    """The loss of each step; it ends early where the loss is not finite."""
    target, batches = plan.hardware.target, train_batches(plan)
    net.to(target.name)
    optimizers = make_optimizers(net, recipe.optimizer, target.precision)
    losses: list[float] = []
    with applied(plan.hardware), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        net.train()
        epoch = 0
        while len(losses) < steps:
            epoch += 1
            for batch in batches.epoch(epoch):
                losses.append(train_step(net, batch, optimizers, recipe, target)[0])
                if len(losses) == steps or not math.isfinite(losses[-1]):
                    return losses
    return losses


@dataclass(frozen=True)
class OneBatch:
    """How well one small batch could be learned by heart.

    Attributes:
        error: the share of its images answered wrongly at the end, in evaluation mode; steps: that were made.
    """

    count: int
    error: float
    loss: float
    steps: int

    @property
    def is_learned(self) -> bool:
        """Error of at most 5 %, as TheDeepChecker (TOSEM 2021) asks."""
        return self.error <= 0.05


def overfit_one_batch(plan: Plan, count: int = 32, steps: int = 200) -> OneBatch:
    """Learn a few images by heart, without augmentation and dropout; a net and a loss that fit together can do it."""
    net, target = copy.deepcopy(plan.net).to(plan.hardware.target.name), plan.hardware.target
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    train = plan.splits.sets["train"]
    rows = spread_rows(len(train), count)
    inputs = plan.preprocessor.to_input(gather(train.images, rows))
    batch = Batch(inputs, torch.from_numpy(train.labels[rows]), rows)
    optimizers = make_optimizers(net, plan.recipe.optimizer, target.precision)
    error, loss, done = 1.0, math.nan, 0
    with applied(plan.hardware), torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.recipe.training.seed)
        net.train()
        while done < steps and error > 0:
            loss, right = train_step(net, batch, optimizers, plan.recipe, target)
            error, done = 1 - right / len(rows), done + 1
            if not math.isfinite(loss):
                break
    return OneBatch(len(rows), error, loss, done)


@dataclass(frozen=True)
class ZeroedInputs:
    """The loss on images and on nothing in their place."""

    real_loss: float
    zeroed_loss: float

    @property
    def inputs_matter(self) -> bool:
        """Whether the net does better with the images, by a twentieth at least."""
        return self.real_loss < 0.95 * self.zeroed_loss


def zeroed_inputs(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> ZeroedInputs:
    """Compare a trained net on images with the same net on zeros.

    Args:
        inputs: float32 [B, C, H, W], as the net is given them; labels: int64 [B].
    """
    was_training = net.training
    net.eval()
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(net(each), labels)) for each in (inputs, torch.zeros_like(inputs))]
    net.train(was_training)
    return ZeroedInputs(*losses)


@dataclass(frozen=True)
class LinearBaseline:
    """What logistic regression on the pixels reaches: the bar that a convolutional net has to clear.

    Attributes:
        accuracy: on validation; chance: the share of its most frequent class.
    """

    accuracy: float
    chance: float
    num_train: int


def linear_baseline(train: ImageSet, val: ImageSet, most: int = 2000) -> LinearBaseline:
    """Fit logistic regression (scikit-learn) on the pixels of at most `most` training images."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows = spread_rows(len(train), most)
    pixels, judged = (np.asarray(part).reshape(len(part), -1) / 255.0 for part in (train.images[rows], val.images[:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bar need not be the last digit's
        model = LogisticRegression(max_iter=50).fit(pixels, train.labels[rows])
    chance = float(np.bincount(val.labels).max() / len(val))
    return LinearBaseline(float(model.score(judged, val.labels)), chance, len(rows))


@dataclass(frozen=True)
class PermutedLabels:
    """What is reached where labels say nothing about images.

    Attributes:
        accuracy: on validation, whose labels are as they were; bound: the accuracy that chance exceeds in 1 of 1000.
    """

    accuracy: float
    bound: float

    @property
    def is_at_chance(self) -> bool:
        """More than chance means that labels leak through something else than the image."""
        return self.accuracy <= self.bound


def permuted_labels(plan: Plan, seed: int = 0) -> PermutedLabels:
    """Train with the training labels permuted at random.

    Source: the permutation control of Ojala and Garriga, JMLR 11 (2010).
    """
    from scipy.stats import binom

    sets = dict(plan.splits.sets)
    train, val = sets["train"], sets["val"]
    shuffled = np.random.default_rng(seed).permutation(train.labels)
    sets["train"] = ImageSet(train.images, shuffled, train.classes, train.ids)
    result = trained(replace(plan, splits=replace(plan.splits, sets=sets)))
    share = float(np.bincount(val.labels).max() / len(val))
    bound = float(binom.ppf(0.999, len(val), share)) / len(val)
    return PermutedLabels(result.history[-1]["val_accuracy"], bound)
