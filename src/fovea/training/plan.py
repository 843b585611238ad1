"""What is decided before the first step: splits, settings, preprocessing, net, hardware, pace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fovea.budget import Budget
from fovea.data.audit import Audit
from fovea.data.batches import TrainBatches, gather
from fovea.data.catalog import known_wrong_labels
from fovea.data.draws import random_order
from fovea.data.guard import InputProfile, fit_profile
from fovea.data.imageset import ImageSet, RawData
from fovea.data.prepare import Splits, prepare_splits
from fovea.data.preprocess import ImageFunction, Preprocessor, fit_preprocessor, name_of_function
from fovea.data.split import Split
from fovea.errors import ModelError, SettingsError
from fovea.evaluation.modelfile import ModelCard
from fovea.models.build import build_net, check_net
from fovea.models.whitening import NUM_IMAGES, whitening_of
from fovea.settings import ModelSettings, Recipe, TrainingSettings, with_fields
from fovea.training.compiled.available import only_numba_is_missing, why_not
from fovea.training.defaults import complete_recipe
from fovea.training.fast_ops import use_fast_ops
from fovea.training.hardware import Choice, Hardware, applied, choose_hardware
from fovea.training.kernels import (
    SHORTEST_BUDGET_SECONDS,
    ConvolutionShape,
    convolution_shapes,
    possible_kernels,
    table_kernels,
    tiles_pay,
    tuned_kernels,
)
from fovea.training.optimizers import make_optimizers
from fovea.training.pacing import Pace, describe_plan, first_plan, measure_costs
from fovea.training.resume import fingerprints
from fovea.training.start import (
    Origin,
    Start,
    continue_optimizers,
    load_start,
    other_steps,
    read_start,
    seen_before,
    start_of,
)


@dataclass(frozen=True, eq=False)
class Own:
    """What a call brings along that no settings hold.

    Attributes:
        net: a module of the user's own; None: the recipe's model.
        function: a preprocessing_function of the user's own.
        origin: where the net comes from, if it was made in Keras.
    """

    net: nn.Module | None = None
    function: ImageFunction | None = None
    origin: Origin | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is decided before the first step: nothing is written until all of it holds.

    Attributes:
        lines: what was derived from the data, and why.
        topics: (topic, line) about what was chosen for the user: the grade, the budget.
        record: the same for the record of config.yaml.
        start: what training starts from, in place of fresh weights.
        pace: with a budget of time, what holds training to it.
        audit: with a budget, what was found about the splits before the pace was measured; None: not looked at yet.
    """

    recipe: Recipe
    splits: Splits
    preprocessor: Preprocessor
    profile: InputProfile
    hardware: Hardware
    net: nn.Module
    own_net: bool
    lines: list[str]
    topics: tuple[tuple[str, str], ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    start: Start | None = None
    pace: Pace | None = None
    audit: Audit | None = None

    @property
    def images_per_epoch(self) -> int:
        """How many training images one epoch shows."""
        training = self.recipe.training
        count = len(self.splits.sets["train"])
        return min(count, (training.steps_per_epoch or 0) * (training.batch_size or 0))


@torch.inference_mode(mode=False)  # parameters made in inference mode cannot be trained, nor any without gradients
def plan_run(
    recipe: Recipe,
    raw: RawData,
    own: Own = Own(),
    split: Split | None = None,
    autotune: bool = False,
    has_begun: bool = False,
) -> Plan:
    """Check the data and the settings, derive what was left open, build the net.

    Args:
        own: what the user brings along.
        split: a saved split to use again; None: a new one is cut.
        has_begun: training goes on from a state of its own: the weights it once started from are not looked for.
        autotune: measure how each convolution is computed fastest, where else a table says so.

    Raises:
        UserError: for data, settings or a model that cannot be used.
    """
    net, origin = own.net, own.origin
    recipe, function_lines = _with_function(recipe, own.function)
    splits = prepare_splits(raw, recipe.data, recipe.preprocessing.image_size, split)
    start = None if has_begun else _find_start(recipe, own, splits)
    hardware = choose_hardware(recipe.training)
    if net is not None:  # config.yaml names the module's class, which no zoo knows
        hardware = _without_fast_ops(hardware, autotune)
        recipe = recipe.model_copy(update={"model": ModelSettings()})
    complete, lines = complete_recipe(recipe, splits)
    complete = complete.model_copy(update={"training": hardware.settings(complete.training)})
    complete = _with_fixes(complete, splits)
    train = splits.sets["train"]
    num_classes = len(train.classes)
    if origin is not None:
        origin.check_shape(train.image_shape)
    if net is None:
        built = build_net(complete.model, train.image_shape, num_classes, complete.training.seed)
    else:
        built = net
        complete = complete.model_copy(update={"model": ModelSettings(name=type(net).__name__)})
    check_net(built, train.image_shape, num_classes)
    if start is not None:
        complete = with_fields(complete, "model", weights_sha256=start.sha256)
        lines += load_start(built, start, train.classes)
        if start.checkpoint is not None:  # tried out here, before anything is written
            continue_optimizers(start, make_optimizers(built, complete.optimizer))
    _check_state(built)
    _check_batches(complete, built)
    with applied(hardware):  # sums depend on the number of threads in their last bits, and so does a kernel's time
        preprocessor = fit_preprocessor(train.images, complete.preprocessing, splits.input_range, own.function)
        whitening = whitening_of(built)
        if whitening is not None and start is None:
            order = random_order(len(train), complete.data.split_seed, "whitening")[:NUM_IMAGES]
            whitening.fit(preprocessor.to_input(gather(train.images, order)))
        if net is None:
            complete, more = _with_fast_ops(complete, built, train.image_shape, autotune)
            lines += more
    lines += other_steps(start, preprocessor) if start is not None else []
    profile = fit_profile(train.images, train.labels, num_classes, splits.sizes)
    lines += _zca_note(preprocessor) + function_lines
    topics = (("start", start.line),) if start else ()
    record = _record(recipe, raw, splits, start)
    return Plan(complete, splits, preprocessor, profile, hardware, built, net is not None, lines, topics, record, start)


def _with_fixes(recipe: Recipe, splits: Splits) -> Recipe:
    if splits.fixes is None:
        return recipe
    return with_fields(recipe, "data", label_fixes_sha256=splits.fixes.sha256)


def _record(recipe: Recipe, raw: RawData, splits: Splits, start: Start | None) -> dict[str, Any]:
    """What the record of config.yaml says of the start and of labels."""
    record: dict[str, Any] = {"start": start.lineage} if start else {}
    test = splits.sets.get("test")
    wrong = None if recipe.data.test_data or test is None else known_wrong_labels(raw, len(test))
    record |= {} if wrong is None else {"wrong_test_labels": wrong}
    return record | ({} if splits.fixes is None else {"label_fixes": splits.fixes.counts})


def _find_start(recipe: Recipe, own: Own, splits: Splits) -> Start | None:
    """What the settings name as the place to start from; what its run has seen is noted among the splits' problems."""
    if own.net is not None and recipe.model.weights is not None:
        raise SettingsError("A module of your own brings its weights along: load them into it, and leave weights out.")
    if own.origin is not None and own.origin.weights is not None:
        return start_of(own.origin.weights, recipe)
    start = read_start(recipe)
    if start is not None:
        splits.problems.extend(seen_before(start, splits, recipe.data.source))
    return start


def _without_fast_ops(hardware: Hardware, autotune: bool) -> Hardware:
    """The hardware choices for a module of the user's own, whose layers are not ours to exchange."""
    if autotune:
        raise SettingsError("--autotune exchanges layers of Fovea's own nets: leave it out for a module of your own.")
    return replace(hardware, fast_ops=Choice("off", "a module of your own is trained as it is"))


def _with_function(recipe: Recipe, function: ImageFunction | None) -> tuple[Recipe, list[str]]:
    """The recipe that names the user's function, and what to say of it."""
    named = recipe.preprocessing.function
    if function is None and named is None:
        return recipe, []
    if function is None:
        raise SettingsError(
            f"The settings name the preprocessing_function {named}, which YAML cannot hold: pass it in Python, "
            "fovea.train(..., preprocessing_function=...)."
        )
    name = name_of_function(function)
    line = f"preprocessing_function {name}: config.yaml alone cannot repeat this run, pass the function again in Python"
    return with_fields(recipe, "preprocessing", function=name), [line]


def _with_fast_ops(
    recipe: Recipe, net: nn.Module, image_shape: tuple[int, int, int], autotune: bool
) -> tuple[Recipe, list[str]]:
    """Exchange the layers of a net for faster ones where the settings say so; the settings with the kernels chosen."""
    training, lines = recipe.training, list[str]()
    kernels: Mapping[str, str] | None = training.kernels
    on = training.fast_ops == "on"
    if autotune and not on:
        raise SettingsError(f"--autotune has nothing to choose from: fast_ops is {training.fast_ops}.")
    if on and (kernels is None or autotune):
        shapes = convolution_shapes(net, image_shape, training.batch_size or 1)
        pay = _tiles_pay(training, shapes)
        tiles = pay and why_not() is None
        choose = tuned_kernels if autotune else table_kernels
        kernels, lines = choose(shapes, training, tiles)
        lines += [f"convolutions could be faster on this CPU: {why_not()}"] if pay and only_numba_is_missing() else []
    kernels = kernels or {}
    if on:
        kernels, more = possible_kernels(kernels)
        lines += more
        use_fast_ops(net, kernels)
    return with_fields(recipe, "training", kernels=kernels), lines


def _tiles_pay(training: TrainingSettings, shapes: Mapping[str, ConvolutionShape]) -> bool:
    """Whether loading the compiled kernels is made up for. Compiling them, once, would take much of a short budget."""
    short = training.budget_seconds is not None and training.budget_seconds < SHORTEST_BUDGET_SECONDS
    return training.precision == "bf16" and not short and tiles_pay(shapes, _planned_steps(training))


def _planned_steps(training: TrainingSettings) -> int:
    """Steps of the training; with a budget of time as many as its epochs have, however many it will be."""
    return (training.epochs or 1) * (training.steps_per_epoch or 1)


def _zca_note(preprocessor: Preprocessor) -> list[str]:
    gain = 0.0 if preprocessor.zca is None else float(np.linalg.norm(preprocessor.zca, 2))
    if gain < 100:
        return []
    return [
        f"zca_whitening multiplies pixels that hardly vary by up to {gain:,.0f}, and augmentation moves ink into them: "
        "set zca_epsilon 0.01 or augmentation none"
    ]


def _check_state(net: nn.Module) -> None:
    strangers = [name for name, value in net.state_dict().items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise ModelError(
            f"The module's state_dict holds {', '.join(strangers[:3])}, which is no tensor and cannot be saved: keep "
            "such things out of get_extra_state."
        )


def _check_batches(recipe: Recipe, net: nn.Module) -> None:
    """A batch norm has no variance to compute from one image."""
    has_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
    if recipe.training.batch_size == 1 and has_norm:
        raise SettingsError("batch_size 1 leaves a batch norm nothing to compute from: set 2 or more.")


def with_pace(plan: Plan, budget: Budget) -> Plan:
    """The plan with what it costs here, measured."""
    sets, training = plan.splits.sets, plan.recipe.training
    num_test = len(sets["test"]) if plan.recipe.evaluation.test else 0
    target = plan.hardware.target
    with applied(plan.hardware):
        costs = measure_costs(plan.net, train_batches(plan), sets.get("val"), num_test, plan.recipe, target, budget)
    steps_per_epoch = training.steps_per_epoch or 1
    full_steps = (training.epochs or 1) * steps_per_epoch
    return replace(plan, pace=Pace(budget, costs, steps_per_epoch, full_steps))


def with_first_plan(plan: Plan) -> Plan:
    """The plan with as many steps as its pace allows.

    Raises:
        SettingsError: where the budget holds too few.
    """
    assert plan.pace is not None
    steps = first_plan(plan.pace)
    line = describe_plan(plan.pace, steps[0][1])
    return replace(
        plan,
        recipe=with_fields(plan.recipe, "training", plan=steps, budget_seconds=plan.pace.budget.seconds),
        topics=(*plan.topics, ("budget", line)),
        record={**plan.record, "budget": {"plan": line, "used_before_training": round(plan.pace.budget.elapsed(), 3)}},
    )


def train_batches(plan: Plan) -> TrainBatches:
    """The training batches of a plan."""
    training = plan.recipe.training
    assert training.batch_size is not None
    assert training.steps_per_epoch is not None
    return TrainBatches(
        plan.splits.sets["train"],
        plan.preprocessor,
        plan.recipe.augmentation,
        training.batch_size,
        training.seed,
        training.steps_per_epoch,
    )


def train_sample(plan: Plan) -> ImageSet:
    """The fixed training images that train accuracy is measured on: as many as validation has, or a tenth."""
    train, val = plan.splits.sets["train"], plan.splits.sets.get("val")
    count = max(len(train) // 10, 1) if val is None else len(val)
    order = random_order(len(train), plan.recipe.data.split_seed, "train sample")
    return train.take(order[: min(count, len(train))])


def model_card(plan: Plan) -> ModelCard:
    """What the model file says of a plan's net, as long as there are no metrics."""
    sets, target = plan.splits.sets, plan.hardware.target
    images = {name: len(found) for name, found in sets.items()}
    return ModelCard(
        model=plan.recipe.model.model_copy(update={"weights": None, "weights_sha256": None}),
        preprocessor=plan.preprocessor,
        classes=sets["train"].classes,
        profile=plan.profile,
        precision=target.precision,
        memory_format=target.memory_format,
        data={"images": images, "fingerprints": fingerprints(plan.splits)},
    )
