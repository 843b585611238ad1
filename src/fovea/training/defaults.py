"""What the settings leave open, derived from the data; every line says why."""

from __future__ import annotations

import math

from fovea.data.augment import choose_preset, complete_augmentation
from fovea.data.batches import batch_bounds
from fovea.data.prepare import Splits
from fovea.data.preprocess import centers_samples
from fovea.errors import SettingsError
from fovea.evaluation.intervals import percent
from fovea.evaluation.views import VIEWS
from fovea.models.build import complete_model
from fovea.settings import (
    EvaluationSettings,
    OptimizerSettings,
    Recipe,
    ScheduleSettings,
    TrainingSettings,
    keeps_last,
)
from fovea.training.optimizers import OPTIMIZERS
from fovea.training.schedules import complete_schedule

IMAGES_TO_SEE = 380_000  # seven epochs of MNIST's 54,000
MIN_EPOCHS, MAX_EPOCHS = 7, 40


def complete_recipe(recipe: Recipe, splits: Splits) -> tuple[Recipe, list[str]]:
    """Fill everything that is derived from the data.

    Returns:
        Complete settings (hardware excepted), and the lines that explain what was derived.

    Raises:
        SettingsError: for an unknown optimizer, schedule, preset or model.
    """
    train = splits.sets["train"]
    lines: list[str] = []
    preset, reason = choose_preset(recipe.augmentation.preset, train.classes, splits.kind)
    if recipe.augmentation.preset == "auto":
        lines.append(f"augmentation {preset}: {reason}")
    augmentation = complete_augmentation(recipe.augmentation, preset)
    lines += _view_lines(recipe.evaluation, bool(augmentation.horizontal_flip))
    if "val" not in splits.sets:
        check_without_validation(recipe)
        lines += _lost_lines(recipe)
    model = complete_model(recipe.model, train.image_shape)
    training, more = _complete_training(recipe.training, len(train))
    height, width, _ = train.image_shape
    complete = recipe.model_copy(
        update={
            "preprocessing": recipe.preprocessing.model_copy(
                update={"image_size": (height, width), "samplewise_center": centers_samples(recipe.preprocessing)}
            ),
            "augmentation": augmentation,
            "model": model,
            "optimizer": _complete_optimizer(recipe.optimizer, model.name),
            "schedule": complete_schedule(recipe.schedule),
            "training": training,
        }
    )
    return complete, lines + more


def check_without_validation(recipe: Recipe) -> None:
    """Refuse what needs validation images, where there are none.

    Raises:
        SettingsError: names every such setting.
    """
    callbacks, schedule = recipe.callbacks, recipe.schedule
    watched = {"patience with callbacks.monitor": callbacks.monitor} if callbacks.patience is not None else {}
    watched |= {"stop_at with callbacks.stop_monitor": callbacks.stop_monitor} if callbacks.stop_at is not None else {}
    watched |= {"the schedule plateau with plateau_monitor": schedule.plateau_monitor} if _is_plateau(schedule) else {}
    needing = [f"{name} {metric}" for name, metric in watched.items() if metric.startswith("val_")]
    if needing:
        raise SettingsError(
            f"There are no validation images (val_split 0), which {', '.join(needing)} would need: leave that out, "
            "name a train_ metric, or set val_split."
        )
    if not recipe.evaluation.test:
        raise SettingsError(
            "Without validation images (val_split 0) and with the test split closed (test false, --no-test) nothing "
            "would be measured: open one of them."
        )


def _is_plateau(schedule: ScheduleSettings) -> bool:
    return schedule.name == "plateau"


def _lost_lines(recipe: Recipe) -> list[str]:
    """What is lost without validation images."""
    chosen = "the last epoch's weights are kept" if keeps_last(recipe.callbacks, False) else "training figures choose"
    lost = f"no validation images (val_split 0): {chosen}, no curve can tell overfitting, nothing is fitted on them"
    if recipe.evaluation.tta != "none" and recipe.evaluation.tta_fraction < 1:
        lost += "; tta_fraction has no effect, every image is looked at in all views"
    return [lost]


def _view_lines(settings: EvaluationSettings, training_mirrors: bool) -> list[str]:
    """What test-time augmentation will do, and where it goes against the training."""
    if settings.tta == "none":
        return ["tta_fraction has no effect while tta is none"] if settings.tta_fraction < 1 else []
    views = VIEWS[settings.tta]
    whom = "each image" if settings.tta_fraction == 1 else f"the least sure {percent(settings.tta_fraction)}"
    lines = [
        f"test-time augmentation {settings.tta}: the final answers average {len(views)} views of {whom}; the figures "
        "of the epochs do not"
    ]
    if any(view.mirrored for view in views) and not training_mirrors:
        lines.append(
            f"warning: tta {settings.tta} mirrors images, which the training never does (horizontal_flip is off): a "
            "mirrored 3 is no 3. Set tta to shift, or train with horizontal_flip true if mirroring keeps the class"
        )
    return lines


def _complete_optimizer(settings: OptimizerSettings, model: str) -> OptimizerSettings:
    name = settings.name
    if name == "auto":
        name = "muon" if model == "small" else "adam"
    _, default_lr = OPTIMIZERS[name]
    return settings.model_copy(update={"name": name, "lr": settings.lr or default_lr})


def _complete_training(settings: TrainingSettings, count: int) -> tuple[TrainingSettings, list[str]]:
    lines = []
    batch_size = settings.batch_size or _batch_size(count)
    if batch_size > count:
        lines.append(f"batch_size {batch_size:,} is larger than the train split: all {count:,} images make one batch")
        batch_size = count
    epochs = settings.epochs or default_epochs(count)
    most = len(batch_bounds(count, batch_size))
    steps = settings.steps_per_epoch or most
    if steps > most:
        raise SettingsError(
            f"steps_per_epoch {steps} is more than the {most} batches of {batch_size} that {count:,} images make: "
            "leave it out to see every image once."
        )
    values = {"batch_size": batch_size, "epochs": epochs, "steps_per_epoch": steps}
    return settings.model_copy(update=values), lines


def default_epochs(count: int, scale: float = 1.0) -> int:
    """Epochs over `count` images.

    Args:
        scale: of the images to see, and of the bounds.
    """
    most, fewest = round(scale * MAX_EPOCHS), round(scale * MIN_EPOCHS)
    return min(most, max(fewest, round(scale * IMAGES_TO_SEE / count)))


def _batch_size(count: int) -> int:
    """About forty steps an epoch for small sets, up to 512 images."""
    exponent = round(math.log2(max(count / 40, 1)))
    return min(512, max(16, 1 << exponent))
