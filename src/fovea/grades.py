"""Grades, fast to best: which recipe is taken, and what is trained within a budget of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fovea.budget import Budget, clock
from fovea.data.imageset import RawData
from fovea.data.load import is_known_data
from fovea.errors import SettingsError
from fovea.listing import expectation
from fovea.recipefile import named_recipes, read_recipe, read_record
from fovea.registry import unknown_name
from fovea.settings import Recipe, setting_path, with_fields, with_settings
from fovea.sources import names_recipe, read_all, resolve_data, with_places
from fovea.training.dataaudit import audited
from fovea.training.defaults import default_epochs
from fovea.training.pacing import check_start
from fovea.training.plan import Own, Plan, plan_run, with_first_plan, with_pace
from fovea.training.stopwatch import phase

# Grade -> epochs as a share of the general defaults', for data that has no recipes of its own.
GRADES = {"fast": 0.5, "standard": 1.0, "best": 4.0}
DEFAULT_GRADE = "standard"
_MODEL = {"model.name", "model.layers"}
# What may be set without making the recipe's expected figures those of another training.
_NEUTRAL = {"data.source", "training.seed", "training.device", "training.threads", "training.save_seconds"}


@dataclass(frozen=True, eq=False)
class Choice:
    """A recipe to train, and why it is this one.

    Attributes:
        source: where its images come from.
        grade: None where neither the user nor a data set's recipes name one.
        recipe_name: of the data set's own recipe; None: the general defaults.
        scale: of the general defaults' epochs.
    """

    recipe: Recipe
    source: Any
    grade: str | None = None
    recipe_name: str | None = None
    scale: float = 1.0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a run begins with: the recipe as given, the plan made of it, and the images."""

    recipe: Recipe
    plan: Plan
    raw: RawData


@dataclass(frozen=True, eq=False)
class Request:
    """What a call asks for, apart from DATA and the grade.

    Attributes:
        changes: settings by any of their names.
        parts: validation and test data of their own, "val_data" and "test_data".
        own: what the user brings along that no settings hold.
        is_study: whether several seeds are trained.
        autotune: whether it is measured how each convolution is computed fastest.
        began: when the call began, from which a recipe's own budget counts.
    """

    changes: Mapping[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict)
    own: Own = field(default_factory=Own)
    budget: Budget | None = None
    is_study: bool = False
    autotune: bool = False
    began: float = field(default_factory=clock)

    @property
    def paths(self) -> set[str]:
        """The full names of the settings that were given."""
        return {setting_path(name) for name in self.changes}

    @property
    def names_model(self) -> bool:
        """Whether the net is the user's choice."""
        return self.own.net is not None or bool(self.paths & _MODEL)


def begin(data: Any, grade: str | None, request: Request) -> Beginning:
    """Decide what is trained, read its images, plan it.

    Args:
        data: what `fovea.train` takes.
        grade: None: standard, or with a budget the largest that fits.

    Raises:
        UserError: for data, settings, a grade or a budget that cannot be used.
    """
    check_budget(request)
    check_source(data, request)
    found = choices(data, grade, request)
    images: dict[Any, RawData] = {}
    plan: Plan | None = None
    for number, choice in enumerate(found, 1):
        recipe, source = _with_source(choice, request)
        size = recipe.preprocessing.image_size
        if size not in images:
            with phase("rest", "reading data"):
                images[size] = read_all(recipe, source, **request.parts)
        recipe = with_places(recipe, source)
        with phase("rest", "planning and set-up"):
            beginning = _plan(choice, recipe, images[size], request, plan)
        plan, pace = beginning.plan, beginning.plan.pace
        if pace is None or number == len(found) or pace.holds_everything:
            break
    if pace is None:
        return beginning
    plan = with_first_plan(beginning.plan)
    return replace(beginning, plan=plan, recipe=beginning.recipe.model_copy(update={"training": plan.recipe.training}))


def check_budget(request: Request) -> None:
    """Refuse what contradicts a budget.

    Raises:
        SettingsError: for epochs or budget_seconds beside a budget, and for several seeds.
    """
    if request.budget is None:
        return
    if "training.epochs" in request.paths:
        raise SettingsError("--budget and --epochs contradict each other: a budget decides how many steps are trained.")
    if "training.budget_seconds" in request.paths:
        raise SettingsError("--budget and budget_seconds are one setting, given twice: leave one of them out.")
    if request.is_study:
        raise SettingsError("--budget is for one run: leave out --seeds or --folds, or give --epochs.")


def check_source(data: Any, request: Request) -> None:
    """Refuse a source beside DATA that is no recipe.

    Raises:
        SettingsError: because DATA says where the images are.
    """
    given = [value for name, value in request.changes.items() if setting_path(name) == "data.source"]
    if any(value is not None for value in given) and not names_recipe(data):
        raise SettingsError(f"source={given[0]} is for recipes: DATA says already where the images are, {data}.")


def choices(data: Any, grade: str | None, request: Request) -> list[Choice]:
    """The recipes that DATA and the grade may mean, the largest first; several only where a budget decides.

    Raises:
        SettingsError: for an unknown grade, or one beside a recipe or a model.
    """
    if grade is not None and grade not in GRADES:
        raise unknown_name("grade", grade, GRADES)
    if grade is not None and names_recipe(data):
        raise SettingsError(f"--grade {grade} chooses a recipe, and {data} is one: leave one of them out.")
    if grade is not None and request.names_model:
        raise SettingsError(f"--grade {grade} chooses a recipe with its own net: leave out the model, or the grade.")
    recipe, source = resolve_data(data)
    own = {} if names_recipe(data) or request.names_model else recipes_of(data)
    if not own:
        return [Choice(recipe, source, grade, scale=GRADES[grade or DEFAULT_GRADE])]
    if grade is None and request.budget is not None:
        reasons = dict.fromkeys(own, "the largest that the budget holds whole")
        reasons |= {next(iter(own)): "the smallest, which the budget prolongs or shortens"}
        return [_own(own[name], source, name, reasons[name] if len(own) > 1 else "") for name in reversed(own)]
    if (grade or DEFAULT_GRADE) in own:
        return [_own(own[grade or DEFAULT_GRADE], source, grade or DEFAULT_GRADE)]
    if grade is not None:
        raise SettingsError(f"{data} has no recipe of the grade {grade!r}. Its grades: {', '.join(own)}.")
    return [Choice(recipe, source)]


def recipes_of(data: Any) -> dict[str, str]:
    """Grade -> name of the recipe of a named data set, the fastest first."""
    if not isinstance(data, str | Path) or is_known_data(data) != "name":
        return {}
    names = named_recipes()
    return {grade: f"{data}-{grade}" for grade in GRADES if f"{data}-{grade}" in names}


def _own(name: str, source: Any, grade: str, reason: str = "") -> Choice:
    return Choice(read_recipe(named_recipes()[name]), source, grade, name, reason=reason)


def _with_source(choice: Choice, request: Request) -> tuple[Recipe, Any]:
    """The recipe with what was set, and where its images come from."""
    changes = dict(request.changes)
    if request.budget is not None:
        changes["training.budget_seconds"] = request.budget.seconds
    recipe = with_settings(choice.recipe, changes)
    source = (recipe.data.source if "data.source" in request.paths else None) or choice.source
    training = recipe.training
    if training.plan is None and training.budget_seconds is not None and request.is_study:
        raise SettingsError("This recipe has a budget of time, which is for one run: leave out --seeds and --folds.")
    if training.plan is not None:  # it stands already: nothing is measured, and nothing planned anew
        recipe = with_fields(recipe, "training", budget_seconds=None)
    return recipe, source


def _plan(choice: Choice, recipe: Recipe, raw: RawData, request: Request, before: Plan | None) -> Beginning:
    budget = request.budget
    if budget is None and recipe.training.budget_seconds is not None:
        budget = Budget(recipe.training.budget_seconds, request.began)
    if budget is not None:
        check_start(budget)
    plan = plan_run(recipe, raw, request.own, autotune=request.autotune)
    # Every seed of a study starts from the same.
    recipe = with_fields(recipe, "model", weights_sha256=plan.recipe.model.weights_sha256)
    recipe = with_fields(recipe, "data", label_fixes_sha256=plan.recipe.data.label_fixes_sha256)
    if request.autotune:  # what was measured is a setting from here on
        recipe = with_settings(recipe, {"training.kernels": plan.recipe.training.kernels})
    if choice.scale != 1 and recipe.training.epochs is None:
        epochs = default_epochs(len(plan.splits.sets["train"]), choice.scale)
        recipe = with_settings(recipe, {"epochs": epochs, "budget_seconds": recipe.training.budget_seconds})
        plan = replace(plan, recipe=with_fields(plan.recipe, "training", epochs=epochs))
    plan = _explained(plan, choice, request)
    return Beginning(recipe, plan if budget is None else with_pace(audited(plan, before), budget), raw)


def _explained(plan: Plan, choice: Choice, request: Request) -> Plan:
    """The plan with a line, and an entry in the record, about the grade."""
    if choice.grade is None:
        return plan
    facts: dict[str, Any] = {"name": choice.grade}
    if choice.recipe_name is None:
        given = "training.epochs" in request.paths
        line = f"{choice.grade}: " + (
            "of no effect beside epochs" if given else f"{plan.recipe.training.epochs} epochs"
        )
        line += "" if given or choice.scale == 1 else f", {choice.scale:g} times those of the general defaults"
    else:
        record = read_record(named_recipes()[choice.recipe_name])
        changed = sorted(path for path in request.paths - _NEUTRAL if not path.startswith("evaluation."))
        changed += [] if request.budget is None else ["the budget"]
        changed += [] if request.own.function is None else ["preprocessing_function"]
        expected = f"not as measured: {', '.join(changed)}" if changed else expectation(record)
        line = f"{choice.grade}: recipe {choice.recipe_name}"
        line += (f", {choice.reason}" if choice.reason else "") + f"; {expected}"
        facts |= {"recipe": choice.recipe_name, "changed": changed, "expected": record.get("expected")}
    return replace(plan, topics=(*plan.topics, ("grade", line)), record={**plan.record, "grade": facts})
