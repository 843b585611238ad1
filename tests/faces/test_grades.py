"""Grades: which recipe is trained, what is said about it, and what contradicts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import bars, shell
from tests.machine import Machine

import fovea
from fovea.budget import Budget
from fovea.errors import SettingsError
from fovea.grades import Beginning, Request, begin, choices
from fovea.listing import descriptions, expectation
from fovea.recipefile import named_recipes, read_record
from fovea.settings import Recipe

DENSE = "model: {layers: [flatten, dense classes]}"
RECIPES = {
    "digits-fast": f"{DENSE}\ntraining: {{epochs: 1, threads: 1}}\nrecord: {{expected: not measured}}",
    "digits-standard": f"{DENSE}\ntraining: {{epochs: 2, threads: 1}}\nrecord:\n  expected: {{test_accuracy: 0.9876, "
    "interval: [0.98, 0.99], seeds: 3, seconds: 4, cpu: a small one, tta: true}",
    "digits-best": f"{DENSE}\ntraining: {{epochs: 20, threads: 1}}",
}
QUICK = {"threads": 1, "verbose": False, "report": False}


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of the embedded digits in all grades."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name, text in RECIPES.items():
        (folder / f"{name}.yaml").write_text(f"description: A recipe.\ndata: {{source: digits}}\n{text}\n")
    found = {name: folder / f"{name}.yaml" for name in RECIPES}
    for room in ("grades", "sources", "listing"):
        monkeypatch.setattr(f"fovea.{room}.named_recipes", lambda: found)


def begun(data: Any = "digits", grade: str | None = None, budget: Budget | None = None, **changes: Any) -> Beginning:
    return begin(data, grade, Request(changes, budget=budget))


def topic(beginning: Beginning, name: str) -> str:
    return dict(beginning.plan.topics).get(name, "")


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(("grade", "epochs"), [("fast", 1), (None, 2), ("standard", 2), ("best", 20)])
def test_a_grade_takes_the_recipe_of_the_data_set(grade: str | None, epochs: int) -> None:
    beginning = begun(grade=grade)
    assert beginning.plan.recipe.training.epochs == epochs
    assert topic(beginning, "grade").startswith(f"{grade or 'standard'}: recipe digits-{grade or 'standard'}; ")
    assert beginning.plan.record["grade"]["recipe"] == f"digits-{grade or 'standard'}"


@pytest.mark.usefixtures("recipes")
def test_the_line_says_what_to_expect_or_what_makes_it_another_training() -> None:
    words = (
        "expected 98.76% [98.00%, 99.00%] with test-time augmentation, 3 seeds, 4 s from start to final test "
        "on a small one"
    )
    assert topic(begun(seed=7, test=False), "grade").endswith(f"digits-standard; {words}")
    assert topic(begun(grade="fast"), "grade").endswith("; accuracy and time not measured")
    assert topic(begun(lr=0.1, epochs=3), "grade").endswith("; not as measured: optimizer.lr, training.epochs")
    assert descriptions("recipes")["digits-standard"] == f"A recipe. {words[0].upper()}{words[1:]}."


@pytest.mark.usefixtures("recipes")
def test_a_model_of_the_users_choice_takes_the_general_defaults() -> None:
    for changes in ({"model": "lenet5"}, {"layers": ["flatten", "dense 10"]}, {"model.name": "p4-dense"}):
        (choice,) = choices("digits", None, Request(changes))
        assert (choice.recipe, choice.grade, choice.recipe_name) == (Recipe(), None, None)


@pytest.mark.usefixtures("recipes", "few_digits")
def test_the_record_keeps_the_grade_and_the_settings_give_the_same_bytes() -> None:
    run = fovea.train("digits", **QUICK)
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["record"]["grade"]["name"] == "standard"
    assert config["model"]["layers"] == ["flatten", "dense classes"]
    again = fovea.train(run.path / "config.yaml", **QUICK)
    assert (again.path / "best.safetensors").read_bytes() == (run.path / "best.safetensors").read_bytes()
    study = fovea.train("digits", grade="fast", seeds=2, **QUICK)
    for each in study.runs:
        assert read_record(each.path / "config.yaml")["grade"]["name"] == "fast"


def test_other_data_is_trained_for_longer_or_shorter() -> None:
    plans = {grade: begun(bars(150), grade).plan for grade in (None, "fast", "standard", "best")}
    epochs = {grade: plan.recipe.training.epochs for grade, plan in plans.items()}
    assert epochs == {None: 40, "fast": 20, "standard": 40, "best": 160}
    assert topic(begun(bars(150), "best"), "grade") == "best: 160 epochs, 4 times those of the general defaults"
    assert topic(begun(bars(150)), "grade") == ""
    assert begun(bars(150), "best", epochs=3).plan.recipe.training.epochs == 3
    study = fovea.train(bars(40), grade="fast", seeds=2, steps_per_epoch=1, **QUICK)
    assert [len(run.history["lr"]) for run in study.runs] == [20, 20]


def test_the_shipped_recipes_say_what_to_expect() -> None:
    for name, path in named_recipes().items():
        assert {"expected", "program"} & read_record(path).keys(), f"{name} does not say what to expect"
        assert expectation(read_record(path))


MISTAKES = [
    (["digits", "--grade", "fats"], "Unknown grade 'fats'. Did you mean 'fast'? Choices: best, fast, standard."),
    (["digits", "--grade", "fast", "--model", "lenet5"], "--grade fast chooses a recipe with its own net"),
    (["digits", "--grade", "fast", "--set", "layers=[flatten]"], "--grade fast chooses a recipe with its own net"),
    (["digits-fast", "--grade", "best"], "digits-fast is one: leave one of them out"),
    (["x/config.yaml", "--grade", "best"], "x/config.yaml is one: leave one of them out"),
    (["digits", "--budget", "soon"], "--budget 'soon' is no span of time"),
    (["digits", "--budget", "9h", "--epochs", "3"], "--budget and --epochs contradict each other"),
    (["digits", "--budget", "9h", "--set", "training.epochs=3"], "--budget and --epochs contradict each other"),
    (["digits", "--budget", "9h", "--set", "budget_seconds=9"], "--budget and budget_seconds are one setting"),
    (["digits", "--budget", "9h", "--seeds", "3"], "--budget is for one run: leave out --seeds"),
    (["digits", "--set", "budget_seconds=9", "--seeds", "3"], "has a budget of time, which is for one run"),
    (
        ["digits", "--set", "source=mnist"],
        "source=mnist is for recipes: DATA says already where the images are, digits",
    ),
    (["digits", "--set", "budget=9"], "budget is no setting of a recipe"),
    (["--resume", "runs/x", "--budget", "9h", "--grade", "fast"], "leave out grade, budget"),
]


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_one_message_and_exit_code_2(arguments: list[str], words: str) -> None:
    result = shell("train", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert not Path("runs").exists()


@pytest.mark.usefixtures("recipes")
def test_a_grade_that_a_data_set_has_no_recipe_for_names_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea import grades

    fewer = {name: path for name, path in grades.named_recipes().items() if name != "digits-best"}
    monkeypatch.setattr("fovea.grades.named_recipes", lambda: fewer)
    with pytest.raises(SettingsError, match=r"no recipe of the grade 'best'\. Its grades: fast, standard\."):
        begun(grade="best")


@pytest.mark.usefixtures("few_digits")
def test_a_recipe_without_data_takes_what_is_set_as_its_source() -> None:
    Path("kaggle.yaml").write_text(f"{DENSE}\ntraining: {{epochs: 1}}\n")
    result = shell("train", "kaggle.yaml")
    assert result.exit_code == 2
    assert "say where it is with --set source=..." in result.stderr
    result = shell("train", "kaggle.yaml", "--set", "source=digits", "--set", "report=false", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["run"] == "runs/digits-layers"


# Seconds of a step -> the grade whose whole training 41 steps an epoch make fit into a minute.
FITTING: list[tuple[float, str]] = [(0.01, "best"), (0.3, "standard"), (1.0, "fast"), (1.4, "fast")]


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(("step", "grade"), FITTING)
def test_a_budget_takes_the_largest_grade_that_fits_whole_else_the_smallest(
    step: float, grade: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    machine.pace = lambda _: step
    beginning = begun(budget=Budget(60, machine.time))
    assert beginning.plan.record["grade"]["name"] == grade
    assert ("the smallest" if grade == "fast" else "the largest") in topic(beginning, "grade")
    ((_, total),) = beginning.plan.recipe.training.plan or ()
    assert beginning.plan.recipe.training.budget_seconds == 60
    assert (total < 41) == (step == 1.4)
    named = begun(grade="standard", budget=Budget(60, machine.time))
    assert named.plan.record["grade"]["name"] == "standard"
