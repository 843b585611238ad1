"""The training loop: one plain function. It sees the train and validation splits, never the test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fovea import faults
from fovea.data.batches import Batch, TrainBatches
from fovea.data.draws import derived_seed
from fovea.data.imageset import ImageSet
from fovea.errors import NonFiniteLossError
from fovea.evaluation.bymetric import ByMetric
from fovea.evaluation.metrics import cross_entropy
from fovea.evaluation.predictions import Device, predict
from fovea.settings import Recipe, ScheduleSettings, keeps_last
from fovea.training.callbacks import Callback, Running, TrainingState, is_gain
from fovea.training.checkpoint import Checkpoint, restore
from fovea.training.layertimes import timed_backward, timed_forward
from fovea.training.loss import training_loss
from fovea.training.optimizers import make_optimizers, set_learning_rate
from fovea.training.schedules import learning_rate_factor
from fovea.training.stopwatch import each, phase

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class FitResult:
    """What training leaves: the chosen weights, the epoch they come from, and every epoch's metrics.

    `num_steps` and `seconds` count what was done in earlier processes too.
    """

    weights: Weights
    best_epoch: int
    history: list[dict[str, float]]
    stop_reason: str | None
    num_steps: int
    seconds: float


def fit(
    net: nn.Module,
    batches: TrainBatches,
    train_sample: ImageSet,
    val: ImageSet | None,
    recipe: Recipe,
    device: Device,
    callbacks: Sequence[Callback] = (),
    watchers: Sequence[Callback] = (),
    start: Checkpoint | None = None,
    on_begin: Callable[[TrainingState], None] | None = None,
) -> FitResult:
    """Train `net` in place.

    Args:
        train_sample: the fixed training images that train_loss and train_accuracy are measured on.
        val: the validation images, which choose the epoch whose weights are kept; None: the last epoch's are.
        recipe: complete settings: nothing left to derive.
        callbacks: may change the state; what they count is part of a checkpoint.
        watchers: called after them; they show and save, and change nothing but the plan.
        start: where to go on; None: from the beginning.
        on_begin: called before the first step of a training from the beginning.

    Raises:
        NonFiniteLossError: when the loss is nan or infinite; it names the step and the likely cause.
    """
    settings = recipe.training
    assert settings.epochs is not None
    assert recipe.optimizer.lr is not None
    with phase("rest", "planning and set-up"):
        net.to(device.name, memory_format=memory_format(device))  # type: ignore[call-overload]
        optimizers = make_optimizers(net, recipe.optimizer, device.precision)
        average = _moving_average(net, settings.ema_decay)
    state = TrainingState(net, settings.epochs, batches.steps_per_epoch, recipe.optimizer.lr, optimizers, average)
    if start is not None:
        restore(start, state, callbacks)
    state.follow(settings.plan or ())
    if start is None and on_begin is not None:
        on_begin(state)
    judged: nn.Module = net if average is None else average.module
    everyone = [*callbacks, *watchers]

    with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # whatever a notebook has switched off
        while state.running is not None or _goes_on(state, settings.epochs):
            if state.running is None:
                state.epoch += 1
                state.running = Running()
            _train_epoch(state, state.running, batches, recipe, device, everyone)
            _set_learning_rate(state, recipe.schedule, state.step - 1)  # the last step may lie in another process
            _seed(device, derived_seed(settings.seed, state.step, "measure"))  # for nets that draw even here
            metrics = {
                **_measure(judged, train_sample, batches, recipe, device, "train"),
                **_running_figures(state.running),
                **({} if val is None else _measure(judged, val, batches, recipe, device, "val")),
                "lr": optimizers[0].param_groups[0]["lr"],
            }
            _check_measured(metrics, state)
            state.running = None
            state.history.append(metrics)
            if keeps_last(recipe.callbacks, val is not None) or _is_best(state, recipe.callbacks.monitor):
                state.best_epoch = state.epoch
                state.best_weights = {name: value.detach().cpu().clone() for name, value in judged.state_dict().items()}
            with phase("rest", "callbacks"):
                for callback in everyone:
                    callback.on_epoch(state, ByMetric(metrics))
    for callback in everyone:
        callback.on_end(state)
    return FitResult(state.best_weights, state.best_epoch, state.history, state.stop_reason, state.step, state.seconds)


def _goes_on(state: TrainingState, epochs: int) -> bool:
    return state.stop_reason is None and (not state.is_complete if state.plan else state.epoch < epochs)


def memory_format(device: Device) -> torch.memory_format:
    """The order in which a net's weights and activations lie in memory."""
    return torch.channels_last if device.memory_format == "channels_last" else torch.contiguous_format


def _moving_average(net: nn.Module, decay: float) -> AveragedModel | None:
    if decay == 0:
        return None
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]


def _seed(device: Device, seed: int) -> None:
    """Seed torch's global generators; on the CPU its own alone, for torch.manual_seed notes the call stack for each
    kind of GPU that is not there, at every step."""
    (torch.default_generator if device.name == "cpu" else torch).manual_seed(seed)


def _train_epoch(
    state: TrainingState,
    running: Running,
    batches: TrainBatches,
    recipe: Recipe,
    device: Device,
    callbacks: Sequence[Callback],
) -> None:
    """The batches of one epoch that are still to come; the running sums are measured while the weights change."""
    state.net.train()
    for batch in each(batches.epoch(state.epoch, running.batches), "augmentation"):
        if state.stop_reason is not None or (state.plan and state.is_complete):
            break
        _set_learning_rate(state, recipe.schedule, state.step)
        # Dropout draws from torch's global generator: seeded here, its masks are a function of (seed, step).
        _seed(device, derived_seed(recipe.training.seed, state.step, "dropout"))
        loss, num_correct = train_step(state.net, batch, state.optimizers, recipe, device)
        state.step += 1
        state.follow(state.plan)
        if not math.isfinite(loss):
            raise _non_finite(loss, state, running, batch)
        if state.average is not None:
            with phase("optimizer"):
                state.average.update_parameters(state.net)
        count = len(batch.labels)
        running.batches += 1
        running.loss_sum += loss * count
        running.num_correct += num_correct
        running.count += count
        faults.reach("step")
        with phase("rest", "callbacks"):
            for callback in callbacks:
                callback.on_step(state)


def _set_learning_rate(state: TrainingState, schedule: ScheduleSettings, step: int) -> None:
    total_steps = state.epochs * state.steps_per_epoch
    factor = learning_rate_factor(schedule, step, total_steps, state.steps_per_epoch, state.plan)
    set_learning_rate(state.optimizers, factor * state.lr_scale)


def _running_figures(running: Running) -> dict[str, float]:
    return {
        "running_loss": running.loss_sum / running.count,
        "running_accuracy": running.num_correct / running.count,
    }


def train_step(
    net: nn.Module, batch: Batch, optimizers: Sequence[Optimizer], recipe: Recipe, device: Device
) -> tuple[float, int]:
    """Forward, loss, backward, step: the batch's mean loss and its number of right answers."""
    with phase("augmentation"):
        inputs, labels = device.place(batch.inputs), batch.labels.to(device.name)
    with device.autocast(), timed_forward(net):
        logits = net(inputs)
    with phase("loss"):
        logits = logits.float()
        loss = training_loss(logits, labels, recipe.training)
    with phase("optimizer"):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
    with timed_backward():
        loss.backward()  # type: ignore[no-untyped-call]
    with phase("optimizer"):
        if recipe.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(net.parameters(), recipe.training.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
    with phase("loss"):
        return loss.item(), int((logits.detach().argmax(dim=1) == labels).sum())


def _measure(
    net: nn.Module, images: ImageSet, batches: TrainBatches, recipe: Recipe, device: Device, split: str
) -> dict[str, float]:
    """Loss and accuracy in evaluation mode, without augmentation."""
    with phase("evaluation", {"train": "training sample", "val": "validation"}[split]):
        found = predict(net, images, batches.preprocessor, device, recipe.evaluation.eval_batch_size)
        loss = cross_entropy(found, recipe.training.loss_clip)
        return {f"{split}_loss": loss, f"{split}_accuracy": float(found.correct.mean())}


def _is_best(state: TrainingState, monitor: str) -> bool:
    """Whether the last epoch is the best so far; between equals the one with the lower validation (or train) loss."""
    last = state.history[-1]
    if state.best_epoch == 0:
        return True
    best = state.history[state.best_epoch - 1]
    if last[monitor] == best[monitor]:
        loss = "val_loss" if "val_loss" in last else "train_loss"
        return last[loss] < best[loss]
    return is_gain(monitor, last[monitor], best[monitor], 0.0)


def _check_measured(metrics: Mapping[str, float], state: TrainingState) -> None:
    for name, words in (("train_loss", "training"), ("val_loss", "validation")):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise NonFiniteLossError(
                f"The {words} loss, measured after step {state.step} (epoch {state.epoch}), became {metrics[name]}. "
                f"Likely cause: {_rate_too_high(state)}."
            )


def _rate_too_high(state: TrainingState) -> str:
    return f"the learning rate is too high for this net: try lr {state.base_lr / 10:g}, a warm-up or clip_norm 1"


def _non_finite(loss: float, state: TrainingState, running: Running, batch: Batch) -> NonFiniteLossError:
    lr = state.optimizers[0].param_groups[0]["lr"]
    if not torch.isfinite(batch.inputs).all():
        cause = "the inputs of this batch are not finite: check the preprocessing and the images"
    elif state.step == 1:
        cause = (
            "the loss was not finite before any update: the model's initial weights or its output layer are at fault"
        )
    else:
        cause = _rate_too_high(state)
    return NonFiniteLossError(
        f"The loss became {loss} at step {state.step} (epoch {state.epoch}), learning rate {lr:.3g}, running loss "
        f"{running.loss_sum / max(running.count, 1):.4g} before. Likely cause: {cause}."
    )
