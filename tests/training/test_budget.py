"""A budget of time, on a machine whose clock runs only while it computes: no test asserts a real time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import bars
from tests.machine import Machine

import fovea
from fovea import faults
from fovea.budget import Budget, clock, parse_seconds, process_began, show_seconds
from fovea.errors import SettingsError
from fovea.files import read_json_lines
from fovea.grades import Request, begin
from fovea.runview import Run
from fovea.settings import Recipe, ScheduleSettings, with_settings
from fovea.training.schedules import learning_rate_factor, place_in_first_plan

# 108 training images make 27 steps an epoch.
QUICK: dict[str, Any] = {
    "layers": ["conv 4 3x3 same relu", "maxpool 4", "dropout .3", "flatten", "dense classes"],
    "batch_size": 4,
    "threads": 1,
    "device": "cpu",
    "optimizer": "sgd",
    "lr": 0.1,
    "report": False,
    "verbose": False,
}
BUDGET = 20.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def train(**settings: Any) -> Run:
    return fovea.train(bars(150), **{**QUICK, **settings})


def plan_of(folder: Path) -> list[list[int]]:
    found: list[list[int]] = yaml.safe_load((folder / "config.yaml").read_text())["training"]["plan"]
    return found


def used_seconds(run: Run) -> float:
    return float(run.result["budget_used_seconds"])


def content(folder: Path) -> dict[str, bytes]:
    files = [folder / "best.safetensors", folder / "metrics.csv", *sorted((folder / "last").rglob("*.*"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def again(run: Run) -> dict[str, bytes]:
    """The bytes of a run that follows the settings of another one, its plan among them."""
    return content(fovea.train(bars(150), **{**run.settings, "verbose": False, "report": False}).path)


def assert_annealed(run: Run) -> None:
    assert run.history["lr"][-1] < 0.02 * QUICK["lr"]


# Seconds since the beginning -> seconds of a step; how early training may end.
PACES: dict[str, tuple[Callable[[float], float], float]] = {
    "steady": (lambda _: 0.2, 1),
    "half as fast from the middle on": (lambda now: 0.2 if now < 10 else 0.4, 1),
    "twice as fast from the middle on": (lambda now: 0.2 if now < 10 else 0.1, 1),
    "slow while it is measured": (lambda now: 0.6 if now < 3 else 0.2, 1),
    "uneven": (lambda now: 0.1 + 0.2 * (now % 3 > 1.5), 3),
}


@pytest.mark.parametrize("name", PACES)
def test_training_ends_inside_its_budget_with_the_rate_fallen(name: str, machine: Machine) -> None:
    machine.pace, early = PACES[name]
    run = train(budget=BUDGET)
    assert BUDGET - early <= used_seconds(run) <= BUDGET + 0.2
    assert used_seconds(run) == pytest.approx(machine.time - machine.began)
    assert_annealed(run)
    plan = plan_of(run.path)
    assert len(plan) <= (2 if name == "steady" else 30)
    assert [entry["step"] for entry in read_json_lines(run.path / "log.jsonl") if entry["event"] == "plan"] == [
        at for at, _ in plan[1:]
    ]


def test_looking_at_the_data_is_part_of_the_budget(machine: Machine) -> None:
    machine.audit_seconds = 6.0
    run = train(budget=BUDGET)
    assert BUDGET - 1 <= used_seconds(run) <= BUDGET + 0.2
    assert len(plan_of(run.path)) <= 2
    machine.began = machine.time
    with pytest.raises(SettingsError, match=r"The budget of 6 s is too short: 6\.\d+ s are used up"):
        train(budget=6, name="short")


def test_a_run_that_was_stopped_before_its_first_step_counts_its_look_at_the_data(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.audit_seconds = 6.0
    folder = stopped(monkeypatch, "SIGINT@step#2", KeyboardInterrupt)
    before = machine.time - machine.began
    assert before > 6
    machine.began = machine.time = 5000.0
    fovea.train(bars(150), resume=folder, verbose=False)
    assert 0.95 * BUDGET <= before + machine.time - machine.began <= 1.01 * BUDGET


def test_the_plan_alone_gives_the_same_bytes_and_measures_nothing(machine: Machine) -> None:
    machine.pace, _ = PACES["half as fast from the middle on"]
    run = train(budget="20s")
    assert len(plan_of(run.path)) > 1
    total, machine.steps = plan_of(run.path)[-1][1], 0
    machine.pace = lambda _: 9.0
    assert again(run) == content(run.path)
    assert machine.steps == total


def stopped(monkeypatch: pytest.MonkeyPatch, fault: str, error: type[BaseException], name: str = "stopped") -> Path:
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, fault)
    with pytest.raises(error):
        train(budget=BUDGET, name=name)
    monkeypatch.delenv(faults.VARIABLE)
    return Path("runs") / name


def test_a_run_that_was_stopped_goes_on_with_the_rest_of_its_budget(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#40", KeyboardInterrupt)
    before = machine.time - machine.began
    machine.began = machine.time = 5000.0  # another process, at another time
    machine.pace = lambda _: 0.3
    run = fovea.train(bars(150), resume=folder, verbose=False)
    assert 0.95 * BUDGET <= before + machine.time - machine.began <= 1.01 * BUDGET
    assert len(plan_of(folder)) > 1
    assert_annealed(run)
    assert again(run) == content(folder)


def test_a_plan_written_down_before_a_kill_takes_effect_when_the_run_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.pace, _ = PACES["half as fast from the middle on"]
    folder = stopped(monkeypatch, "EIO@plan written", OSError)
    at = plan_of(folder)[-1][0]
    state = max(path.name for path in (folder / "last").iterdir())
    assert json.loads((folder / "last" / state / "state.json").read_text())["step"] < at
    machine.pace = lambda _: 0.4
    machine.began = machine.time
    run = fovea.train(bars(150), resume=folder, verbose=False)
    assert plan_of(folder)[0][0] == 0
    assert again(run) == content(folder)
    assert_annealed(run)


def test_an_edited_plan_is_refused_when_the_run_goes_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#12", KeyboardInterrupt)
    total = plan_of(folder)[0][1]
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace(f"    - {total}\n", f"    - {total + 1}\n"))
    with pytest.raises(SettingsError, match=r"plan in .* was edited"):
        fovea.train(bars(150), resume=folder, verbose=False)


def test_a_resumed_run_whose_budget_is_used_up_anneals_in_a_few_steps(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#30", KeyboardInterrupt)
    machine.pace = lambda _: 3.0
    run = fovea.train(bars(150), resume=folder, verbose=False)
    assert plan_of(folder)[-1][1] < 45
    assert_annealed(run)
    assert again(run) == content(folder)


def test_a_budget_below_one_epoch_trains_a_part_of_it_and_says_so(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(budget=6, verbose=True)
    ((_, total),) = plan_of(run.path)
    assert 10 <= total < 27
    assert len(run.history["lr"]) == 1
    assert "too short for one epoch" in " ".join(capsys.readouterr().err.split())
    assert again(run) == content(run.path)


def test_a_budget_longer_than_useful_is_not_used_up(machine: Machine) -> None:
    settings = {name: value for name, value in QUICK.items() if name != "verbose"}
    plan = begin(bars(150), None, Request(settings, budget=Budget(3600, machine.time))).plan
    assert plan.recipe.training.plan == ((0, 4 * 40 * 27),)
    assert "longer than useful: 4 times the usual epochs" in dict(plan.topics)["budget"]


@pytest.mark.parametrize(
    ("budget", "step", "words"),
    [
        ("3s", 0.2, "and 10 steps with their evaluation end after about"),
        ("4s", 60.0, "a step takes 1 min, and 10 steps"),
    ],
)
def test_a_budget_too_short_is_refused_before_anything_is_written(
    machine: Machine, budget: str, step: float, words: str
) -> None:
    machine.pace = lambda _: step
    with pytest.raises(SettingsError, match=f"The budget of {budget[0]} s is too short: .*{words}"):
        train(budget=budget)
    assert not Path("runs").exists()


def test_a_budget_that_reading_has_used_up_is_refused(machine: Machine) -> None:
    with pytest.raises(SettingsError, match="starting and reading the data took 7 s of it"):
        train(budget=Budget(5, machine.time - 7))
    assert machine.steps == 0


def test_spans_of_time_are_read_and_shown() -> None:
    spans = {"90s": 90, "5m": 300, "1h": 3600, "1.5h": 5400, "45": 45, " 2 M ": 120, ".5m": 30}
    assert {text: parse_seconds(text) for text in spans} == spans
    assert (parse_seconds(12), parse_seconds(2.5)) == (12, 2.5)
    assert [show_seconds(x) for x in (0.0555, 12, 60, 90, 3600, 7500)] == [
        "55.5 ms", "12 s", "1 min", "1 min 30 s", "1 h", "2 h 5 min",
    ]  # fmt: skip
    for bad in ("", "fast", "0s", "-5s", "5x", "5 m 3 s", "nan", "inf", 0, -1, float("nan"), True, "1e3s"):
        with pytest.raises(SettingsError, match=r"is no span of time: write 90s, 5m, 1\.5h"):
            parse_seconds(bad)


def test_the_process_began_before_this_test() -> None:
    assert 0 < clock() - process_began() < 1e6


def test_a_plan_moves_the_schedule_without_a_jump_and_to_its_end() -> None:
    plan = ((0, 100), (40, 60), (55, 90))
    places = [place_in_first_plan(plan, step) for step in range(91)]
    assert places[:41] == list(range(41))
    assert places[41] == 43  # three times as fast
    assert places[55] == 85
    assert places[90] == 100
    assert places == sorted(places)


def test_averaged_views_of_the_last_predictions_are_part_of_the_costs(machine: Machine) -> None:
    def end_seconds(tta: str) -> float:
        changes = {name: value for name, value in QUICK.items() if name != "verbose"}
        pace = begin(bars(150), None, Request({**changes, "tta": tta}, budget=Budget(BUDGET, clock()))).plan.pace
        assert pace is not None
        return pace.costs.end

    reading = 1.5 * end_seconds("none") - 0.5 * end_seconds("shift")  # three looks an image instead of one
    assert reading == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["cosine", "linear", "onecycle", "step", "constant"])
def test_a_plan_of_one_line_gives_the_bits_of_a_fixed_length(name: str) -> None:
    schedule = ScheduleSettings(name=name, warmup_fraction=0.1)
    for step in range(97):
        factor = learning_rate_factor(schedule, step, 97, 10)
        assert learning_rate_factor(schedule, step, 5, 10, ((0, 97),)) == factor


@pytest.mark.parametrize("plan", [[], [[1, 5]], [[0, 5], [5, 9]], [[0, 5], [3, 3]], [[0, 9], [4, 8], [4, 9]], [[0]], 7])
def test_a_plan_that_is_none_is_refused(plan: Any) -> None:
    with pytest.raises(SettingsError, match=r"training\.plan"):
        with_settings(Recipe(), {"plan": plan})


def test_a_changed_setting_takes_back_a_plan_that_it_makes_meaningless() -> None:
    planned = with_settings(Recipe(), {"budget_seconds": 9.0, "plan": [[0, 50]], "epochs": 3})
    assert (planned.training.plan, planned.training.budget_seconds) == (((0, 50),), 9.0)
    assert with_settings(planned, {"seed": 4}).training.plan == ((0, 50),)
    for changes in ({"batch_size": 9}, {"model": "lenet5"}, {"val_split": 0.2}, {"budget_seconds": 8.0}):
        assert with_settings(planned, changes).training.plan is None
    longer = with_settings(planned, {"epochs": 4}).training
    assert (longer.plan, longer.budget_seconds) == (None, None)
