"""Recipes: everything that can be set about a run, as frozen values.

A value of None means "derive it from the data"; what was derived is written into the run's config.yaml, which
is itself a recipe: `fovea train runs/x/config.yaml` trains the same weights again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fovea.errors import SettingsError
from fovea.ranges import as_factors, as_shift, as_zoom
from fovea.registry import nearest_name, unknown_name
from fovea.single import KERAS_ARGUMENTS, as_fold, as_groups, as_plan
from fovea.single import Section as Section
from fovea.single import StepPlan as StepPlan

Fraction = Annotated[float, Field(gt=0, lt=1)]
FractionOrNone = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
METRICS = ("train_loss", "train_accuracy", "running_loss", "running_accuracy", "val_loss", "val_accuracy")
METRIC_ALIASES = {
    "acc": "train_accuracy",
    "accuracy": "train_accuracy",
    "loss": "train_loss",
    "val_acc": "val_accuracy",
}


def _as_metric(name: str) -> str:
    name = METRIC_ALIASES.get(name, name)
    if name not in METRICS:
        raise PydanticCustomError("metric", "{reason}", {"reason": str(unknown_name("metric", name, METRICS))[:-1]})
    return name


Metric = Annotated[str, AfterValidator(_as_metric)]


def _as_size(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float | str) else value


Size = Annotated[tuple[Count, Count], BeforeValidator(_as_size)]
Factors = Annotated[tuple[float, float], BeforeValidator(as_factors)]
Flip = bool | Literal["alternating"]
Shift = Annotated[float | int | tuple[float, ...], BeforeValidator(as_shift)]
Zoom = Annotated[float | tuple[float, float], BeforeValidator(as_zoom)]


class DataSettings(Section):
    """Where the images come from and how they are split."""

    source: str | None = None  # a catalog name or a path; None where arrays were given
    val_data: str | None = None
    test_data: str | None = None
    val_split: FractionOrNone = 0.1  # of the training images; 0: all train, and none choose the epoch
    fold: Annotated[tuple[Count, Count], AfterValidator(as_fold)] | None = None  # [2, 5]: fold 2 of 5 validates
    groups: Annotated[str, AfterValidator(as_groups)] | None = None  # column:NAME or regex:PATTERN; kept together
    test_split: Fraction = 0.2  # used only where the data brings no test images
    first_images: tuple[Count, Count] | None = None  # only the first so many images of train and test; None: all
    split_seed: Seed = 0
    val_seed: Seed | None = None  # cuts the validation images alone; None: split_seed does
    stratify: bool = True  # each split keeps the classes' shares; False draws as train_test_split does unasked
    validation: Literal["split", "test"] = "split"  # test: as some published programs do; marked wherever it shows
    label_column: str | int | None = None  # of a table, by name or number from 0; of CIFAR-100 fine or coarse
    label_fixes: str | None = None  # a CSV of labels to change and images to leave out, see `fovea data --labels`
    label_fixes_sha256: str | None = None  # of what was found there; derived
    skip_bad: bool = False  # leave images out that cannot be decoded
    audit: bool = True  # look for copies, near-duplicates and differences of the splits; kept in audit.json
    outside_paths: bool = False  # let the paths in a table lead out of its folder


class PreprocessingSettings(Section):
    """From a raw image to the net's input, in the order given here."""

    image_size: Size | None = None  # height, width in pixels; None: as the images are
    function: str | None = None  # the name of the preprocessing_function, which only Python can pass
    rescale: Positive = 1 / 255
    samplewise_center: bool | None = None  # None: with samplewise_std_normalization, as in Keras
    samplewise_std_normalization: bool = False
    featurewise_center: bool = True
    featurewise_std_normalization: bool = True
    zca_whitening: bool = False
    zca_epsilon: Positive = 1e-6


class AugmentationSettings(Section):
    """The names and meanings of Keras' ImageDataGenerator; None leaves the preset's value."""

    preset: str = "auto"
    rotation_range: NotNegative | None = None  # degrees
    width_shift_range: Shift | None = None  # below 1: fraction of the width; else pixels; int or list: choices
    height_shift_range: Shift | None = None
    shear_range: NotNegative | None = None  # degrees
    zoom_range: Zoom | None = None  # z means (1 - z, 1 + z); below 1 magnifies
    channel_shift_range: NotNegative | None = None  # in 0..255 units
    brightness_range: Factors | None = None
    contrast_range: Factors | None = None
    horizontal_flip: Flip | None = None  # alternating: each image in every other epoch
    vertical_flip: Flip | None = None
    cutout: Annotated[int, Field(ge=0)] | None = None  # side of the square, pixels
    fill_mode: Literal["nearest", "constant", "reflect", "wrap"] | None = None
    cval: float | None = None  # in 0..255 units
    interpolation: Literal["bilinear", "nearest"] | None = None  # nearest: Keras' before 2.1.3 (order 0)


class ModelSettings(Section):
    """The net: a name of the zoo or a layer list."""

    name: str = "small"
    layers: list[Any] | None = None  # a layer list instead of a name
    initializer: str | None = None  # of every layer that names none
    weights: str | None = None  # where training starts: a run folder or a model file; None: fresh weights
    weights_sha256: str | None = None  # of what was found there; derived

    @model_validator(mode="before")
    @classmethod
    def _name_layers(cls, values: Any) -> Any:
        """A layer list without a name is called "layers"."""
        unnamed = isinstance(values, dict) and values.get("layers") is not None and "name" not in values
        return {**values, "name": "layers"} if unnamed else values


class OptimizerSettings(Section):
    """The optimizer; each uses the values that it knows."""

    name: str = "auto"  # muon for the net "small", adam for any other
    lr: Positive | None = None  # None: the optimizer's own default
    weight_decay: NotNegative = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    nesterov: bool = True
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    rho: Annotated[float, Field(ge=0, lt=1)] = 0.9  # RMSprop's decay
    epsilon: Positive = 1e-7
    start: Literal["fresh", "continued"] = "fresh"  # continued: from the last state of the run in model.weights


class ScheduleSettings(Section):
    """How the learning rate runs over the steps."""

    name: str = "cosine"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None  # of all steps; None: .1 for cosine and linear
    final_fraction: NotNegative = 0.0  # of the learning rate, reached at the end
    step_epochs: Count = 10  # step: the rate is multiplied by step_factor each so many epochs
    step_factor: Fraction = 0.1
    plateau_monitor: Metric = "val_loss"
    plateau_patience: Annotated[int, Field(ge=0)] = 3
    plateau_factor: Fraction = 0.5
    plateau_min_delta: NotNegative = 1e-4
    plateau_cooldown: Annotated[int, Field(ge=0)] = 0
    plateau_min_lr: NotNegative = 0.0


class TrainingSettings(Section):
    """Epochs, batches, seed, and what the hardware is asked to do."""

    epochs: Count | None = None
    batch_size: Count | None = None
    steps_per_epoch: Count | None = None  # None: every image once
    budget_seconds: Positive | None = None  # of the whole run; with it steps are planned from measured throughput
    plan: Annotated[StepPlan, AfterValidator(as_plan)] | None = None  # overrules epochs; see docs/exactness.md
    seed: Seed = 0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss_clip: Annotated[float, Field(gt=0, lt=0.5)] | None = None  # Keras': probabilities within [c, 1 - c]
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # per step; 0: off
    clip_norm: Positive | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    threads: Count | None = None
    fast_ops: Literal["auto", "on", "off"] = "auto"
    kernels: dict[str, Literal["torch", "im2col", "strips", "tiles"]] | None = None  # convolution -> how it is computed
    allocator: Literal["auto", "keep", "system"] = "auto"
    save_seconds: NotNegative = 60.0  # the state is saved at each epoch's end, and at most so often inside one


LAST_EPOCH = "being the last"  # how the kept epoch was chosen, where not by a metric


class CallbackSettings(Section):
    """Which weights are kept, and when training stops early."""

    monitor: Metric = "val_accuracy"  # chooses the best weights; early stopping watches it too
    patience: Annotated[int, Field(ge=0)] | None = None  # epochs without a gain before training stops; None: off
    keep: Literal["best", "last"] = "best"  # whose weights are kept: the best epoch's by monitor, or the last's
    min_delta: NotNegative = 0.0
    start_from_epoch: Annotated[int, Field(ge=0)] = 0
    stop_monitor: Metric = "train_accuracy"
    stop_at: float | None = None  # training stops once stop_monitor has reached it


def keeps_last(callbacks: CallbackSettings, has_validation: bool) -> bool:
    """Whether the last epoch's weights are kept: asked for, or because nothing is there that could choose."""
    return callbacks.keep == "last" or (not has_validation and callbacks.monitor.startswith("val_"))


ARRAYS = "<arrays>"  # what config.yaml says of val_data or test_data that were arrays


class EvaluationSettings(Section):
    """How the trained net is judged."""

    test: bool = True  # False leaves the test split closed
    eval_batch_size: Count = 1000
    confidence: Fraction = 0.95
    top_k: Count = 5
    tta: Literal["none", "flip", "shift", "flip+shift"] = "none"  # the views that the final answers average
    tta_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # of validation, the least sure: who is looked at again
    report: bool = True  # False leaves out figures and report.html; `fovea report RUN` makes them later


class Recipe(Section):
    """All settings of a run. Frozen; `with_settings` makes a changed copy."""

    description: str = ""
    data: DataSettings = DataSettings()
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: TrainingSettings = TrainingSettings()
    callbacks: CallbackSettings = CallbackSettings()
    evaluation: EvaluationSettings = EvaluationSettings()


SELECTED, VALIDATED = "selected on test", "validated on test, nothing chosen by it"


def test_mark(recipe: Recipe) -> str | None:
    """What stands beside figures of test images that were the validation images too; None where they were not.

    They chose where they picked the epoch, steered the learning rate or stopped the training.
    """
    if recipe.data.validation != "test":
        return None
    callbacks, schedule = recipe.callbacks, recipe.schedule
    watched = [callbacks.monitor] if callbacks.keep == "best" or callbacks.patience is not None else []
    watched += [schedule.plateau_monitor] if schedule.name == "plateau" else []
    watched += [callbacks.stop_monitor] if callbacks.stop_at is not None else []
    return SELECTED if any(name.startswith("val_") for name in watched) else VALIDATED


def mark_as_json(mark: str | None) -> dict[str, Any]:
    """What JSON says beside a figure that bears a `test_mark`; nothing where it bears none."""
    return {} if mark is None else {"selected_on_test": mark == SELECTED, "mark": mark}


SECTIONS = tuple(name for name in Recipe.model_fields if name != "description")
# A section's name alone sets the one value that people mean by it: `optimizer=adam`.
SECTION_VALUE = {"data": "source", "augmentation": "preset", "model": "name", "optimizer": "name", "schedule": "name"}
ALIASES = {
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "batch": "batch_size",
    "bs": "batch_size",
    "validation_split": "val_split",
    "valid_pct": "val_split",
    "augment": "augmentation",
    "img_size": "image_size",
    "imgsz": "image_size",
    "layers": "model.layers",
}


# A run's config.yaml holds derived values too: a setting that is changed takes these back to "derive it".
_EPOCH_LENGTH = ("training.steps_per_epoch", "training.plan")
_WEIGHTS = ("model.weights", "model.weights_sha256")
_KERNELS = ("training.kernels",)  # measured or looked up for the shapes of one net
DEPENDENTS = {
    "augmentation.preset": tuple(
        f"augmentation.{field}" for field in AugmentationSettings.model_fields if field != "preset"
    ),
    "model.name": ("model.layers", "model.initializer", *_WEIGHTS, "training.plan", *_KERNELS),
    "model.layers": ("model.name", "model.initializer", *_WEIGHTS, "training.plan", *_KERNELS),
    "model.weights": ("model.weights_sha256",),
    "optimizer.name": ("optimizer.lr", "optimizer.momentum"),
    "schedule.name": ("schedule.warmup_fraction",),
    "preprocessing.image_size": _KERNELS,
    "preprocessing.samplewise_std_normalization": ("preprocessing.samplewise_center",),
    "training.precision": _KERNELS,
    "training.fast_ops": _KERNELS,
    "training.device": _KERNELS,
    "training.threads": _KERNELS,
    "training.batch_size": (*_EPOCH_LENGTH, *_KERNELS),
    "training.steps_per_epoch": ("training.plan",),
    "training.epochs": ("training.plan", "training.budget_seconds"),
    "training.budget_seconds": ("training.plan",),
    "data.val_split": (*_EPOCH_LENGTH, "data.fold"),
    "data.fold": _EPOCH_LENGTH,
    "data.groups": _EPOCH_LENGTH,
    "data.label_fixes": ("data.label_fixes_sha256", *_EPOCH_LENGTH),
    "data.test_split": _EPOCH_LENGTH,
    "data.val_data": _EPOCH_LENGTH,
    "data.test_data": _EPOCH_LENGTH,
    "data.validation": _EPOCH_LENGTH,
    "data.first_images": _EPOCH_LENGTH,
    "data.source": (*_EPOCH_LENGTH, *_KERNELS),
}


def _setting_paths() -> dict[str, str]:
    """Every accepted name of a setting -> "section.field"; a field's bare name where only one section has it."""
    sections = {name: Recipe.model_fields[name].annotation for name in SECTIONS}
    dotted = [f"{section}.{field}" for section, kind in sections.items() for field in kind.model_fields]  # type: ignore[union-attr]
    bare = [path.split(".")[1] for path in dotted]
    paths = {path: path for path in dotted}
    paths |= {path.split(".")[1]: path for path in dotted if bare.count(path.split(".")[1]) == 1}
    paths |= {section: f"{section}.{field}" for section, field in SECTION_VALUE.items()}
    paths |= {alias: paths[name] for alias, name in ALIASES.items()}
    return paths


SETTING_PATHS = _setting_paths()


def setting_path(name: str) -> str:
    """The full path of a setting: "lr" -> "optimizer.lr".

    Raises:
        SettingsError: for a name that no section has, with the nearest one.
    """
    if name not in SETTING_PATHS:
        alike = [known for known in SETTING_PATHS if ("." in known) == ("." in name)]
        raise unknown_name("setting", name, alike, KERAS_ARGUMENTS) from None
    return SETTING_PATHS[name]


def with_settings(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy of `recipe` with some settings changed.

    Args:
        changes: setting names, bare ("lr") or dotted ("optimizer.lr"), to values; a string is converted.

    Raises:
        SettingsError: for an unknown name, or for every bad value at once.
    """
    values = recipe.model_dump()
    paths: dict[str, Any] = {}
    for name, value in changes.items():
        section, field = setting_path(name).split(".")
        paths[f"{section}.{field}"] = value
    for path in paths:  # what was derived from a setting that changes is derived again
        for dependent in DEPENDENTS.get(path, ()):
            section, field = dependent.split(".")
            values[section].pop(field, None)
    for path, value in paths.items():
        section, field = path.split(".")
        values[section][field] = value
    return parse_recipe(values, where="the settings given")


def with_fields(recipe: Recipe, section: str, /, **values: Any) -> Recipe:
    """A copy of `recipe` with fields of one section exchanged.

    They are taken as they are, and nothing is derived again from them: what a user sets takes `with_settings`.
    """
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def flat_settings(recipe: Recipe) -> dict[str, Any]:
    """Every setting by its full name ("optimizer.lr"), as a plain value."""
    flat: dict[str, Any] = {}
    for section, values in recipe.model_dump(mode="json").items():
        if isinstance(values, dict):
            flat |= {f"{section}.{name}": value for name, value in values.items()}
        else:
            flat[section] = values
    return flat


def parse_recipe(values: Any, where: str) -> Recipe:
    """Check a nested dict and make it a Recipe.

    Raises:
        SettingsError: names every mistake, with its place and the nearest spelling.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where} holds no recipe: expected sections such as data, model, training.")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        lines = [_mistake(entry) for entry in error.errors()]
        raise SettingsError(f"In {where}: " + "; ".join(dict.fromkeys(lines)) + ".") from None


def _mistake(entry: Any) -> str:
    place = [str(part) for part in entry["loc"]]
    if entry["type"] == "extra_forbidden":
        known = list(SECTIONS) if len(place) == 1 else _fields(place[0])
        nearest = nearest_name(place[-1], known)
        hint = f", did you mean {nearest!r}?" if nearest else ""
        return f"unknown setting {'.'.join(place)!r}{hint} (choices: {', '.join(known)})"
    setting = ".".join(place[:2])
    return f"{setting} = {entry['input']!r}: {_expectation(entry)}"


def _expectation(entry: Any) -> str:
    message = str(entry["msg"])
    return message[0].lower() + message[1:]


def _fields(section: str) -> list[str]:
    kind = Recipe.model_fields[section].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []
