"""Where the time goes: nothing is left out, every layer is named, nothing that is computed changes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import Arrays, bars
from torch import nn
from torch.nn.modules import module as torch_module
from typer.testing import CliRunner

import fovea
from fovea.cli import app
from fovea.errors import DataError, SettingsError
from fovea.evaluation.timeprofile import PHASES, TIME_PROFILE, TimePart, TimeProfile, time_profile_from_json
from fovea.training.layertimes import timed_backward, timed_forward
from fovea.training.stopwatch import Stopwatch, each, phase, running, wait_for

FAST: dict[str, Any] = {"epochs": 2, "threads": 1, "verbose": False}
RESIDUAL = [
    "conv 4 3x3 same",
    {"residual": ["conv 4 3x3 same nobias", "batchnorm", "relu", "dropout .1"], "shortcut": ["conv 4 1x1"]},
    "maxpool 2", "flatten", "linear", "dense classes",
]  # fmt: skip


class OwnNet(nn.Module):
    """What a user writes: an activation in place, a layer that runs twice, functions between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv(x))
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits * 2


def own_net() -> OwnNet:
    torch.manual_seed(7)
    return OwnNet()


def train_both(toy: Arrays, **options: Any) -> tuple[fovea.Run, fovea.Run]:
    """The same run without a profile and with one."""
    if options.get("model") is OwnNet:
        return tuple(  # type: ignore[return-value]
            fovea.train(toy, profile=asked, **{**FAST, **options, "model": own_net()}) for asked in (False, True)
        )
    plain = fovea.train(toy, **FAST, **options)
    return plain, fovea.train(toy, profile=True, **FAST, **options)


def layers(profile: TimeProfile, way: str) -> dict[str, TimePart]:
    parts = profile.phase(way).parts
    return {f"{number} {part.name} {part.output}".strip(): part for number, part in enumerate(parts)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": RESIDUAL, "precision": "bf16", "augmentation": "digits"},
        {"model": OwnNet},
        {"model": RESIDUAL, "ema_decay": 0.9, "clip_norm": 1.0, "save_seconds": 0.001},
    ],
    ids=["small", "residual in bf16", "a module of the user's own", "averaged, clipped, saved often"],
)
def test_a_profile_leaves_no_gap_and_changes_no_byte(toy: Arrays, options: dict[str, Any]) -> None:
    plain, profiled = train_both(toy, **options)
    for name in ("best.safetensors", "metrics.csv", "predictions-test.npz"):
        assert (plain.path / name).read_bytes() == (profiled.path / name).read_bytes()
    assert plain.profile is None
    assert "profile" not in plain.as_json()
    profile = profiled.profile
    assert profile is not None
    values = profile.as_json()
    assert [entry["name"] for entry in values["phases"]] == list(PHASES)
    assert sum(entry["share"] for entry in values["phases"]) == pytest.approx(1)
    for entry in values["phases"]:
        assert entry["seconds"] > 0
        assert entry["calls"] > 0
        if "parts" in entry:
            assert sum(part["seconds"] for part in entry["parts"]) == pytest.approx(entry["seconds"])
    assert TIME_PROFILE in json.loads((profiled.path / "manifest.json").read_text())["sha256"]
    assert json.loads((profiled.path / TIME_PROFILE).read_text()) == values


def test_layers_are_named_as_the_summary_names_them_in_its_order(toy: Arrays) -> None:
    _, run = train_both(toy)
    assert run.profile is not None
    rows = fovea.summary(run.model.net, (8, 8, 1), 3).rows
    expected = [f"{number} {row.layer} {row.output}" for number, row in enumerate(rows)]
    for way in ("forward", "backward"):
        found = layers(run.profile, way)
        assert list(found) == [*expected, f"{len(rows)} between layers"]
        steps = run.profile.phase(way).calls
        assert all(part.seconds > 0 and part.calls == steps for part in list(found.values())[:-1])


def test_a_residual_net_counts_both_its_ways_and_what_does_no_work_has_no_backward(toy: Arrays) -> None:
    run = fovea.train(toy, model=RESIDUAL, profile=True, **FAST)
    assert run.profile is not None
    forward, backward = layers(run.profile, "forward"), layers(run.profile, "backward")
    assert list(forward) == [
        "0 Conv2d 3x3 8x8x4", "1 Conv2d 3x3 8x8x4", "2 BatchNorm2d 8x8x4", "3 ReLU 8x8x4", "4 Dropout 0.1 8x8x4",
        "5 Conv2d 1x1 8x8x4", "6 MaxPool2d 2x2 4x4x4", "7 Flatten 64 numbers", "8 Identity 64 numbers",
        "9 Linear 3 numbers", "10 between layers",
    ]  # fmt: skip
    steps = run.profile.phase("backward").calls
    assert {name: part.calls for name, part in backward.items() if part.calls != steps} == {"8 Identity 64 numbers": 0}
    assert backward["10 between layers"].seconds > 0  # of the addition


def test_a_users_module_runs_twice_and_is_one_line(toy: Arrays) -> None:
    run = fovea.train(toy, model=own_net(), profile=True, **FAST)
    assert run.profile is not None
    forward, backward = layers(run.profile, "forward"), layers(run.profile, "backward")
    names = ["0 Conv2d 3x3 8x8x4", "1 ReLU 8x8x4", "2 Conv2d 3x3 8x8x4", "3 Linear 3 numbers", "4 between layers"]
    assert list(forward) == list(backward) == names
    steps = run.profile.phase("forward").calls
    for found in (forward, backward):
        assert [found[name].calls for name in names[:4]] == [steps, steps, 2 * steps, steps]
        assert all(part.seconds > 0 for part in found.values())


CLOCK = SimpleNamespace(now=0.0, perf_counter=lambda: CLOCK.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stopwatch reads an imagined clock, which a test moves by hand."""
    monkeypatch.setattr("fovea.training.stopwatch.time", CLOCK)
    return CLOCK


class Slow(torch.autograd.Function):
    """Passes on what it gets; backward takes 20 seconds of the imagined clock, forward 5."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        CLOCK.now += 5
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        CLOCK.now += 20
        return gradients[0]


class SlowLayer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Slow.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def one_step(net: nn.Module, inputs: torch.Tensor) -> TimeProfile:
    stopwatch = Stopwatch()
    with running(stopwatch):
        with timed_forward(net):
            out = net(inputs)
        with timed_backward():
            out.sum().backward()
    return stopwatch.profile()


@pytest.mark.usefixtures("clock")
def test_time_stands_where_it_was_spent() -> None:
    profile = one_step(nn.Sequential(nn.Linear(2, 2), SlowLayer(), nn.Tanh()), torch.ones(1, 2))
    forward, backward = ({part.name: part.seconds for part in profile.phase(way).parts} for way in PHASES[1:4:2])
    assert (forward.pop("SlowLayer"), backward.pop("SlowLayer")) == (5, 20)
    assert {*forward.values(), *backward.values()} == {0}


@pytest.mark.usefixtures("clock")
def test_between_layers_is_what_a_net_does_itself_and_the_loss_ends_where_the_net_begins() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Slow.apply(self.last(Slow.apply(self.first(x))))  # type: ignore[no-any-return, no-untyped-call]

    profile = one_step(Between(), torch.ones(1, 2))
    first, last, between = profile.phase("backward").parts
    assert (first.seconds, last.seconds, between.seconds, profile.phase("loss").seconds) == (0, 0, 40, 0)


def test_no_hook_stays_behind_when_a_forward_pass_fails() -> None:
    net = nn.Linear(2, 2)
    stopwatch = Stopwatch()
    with running(stopwatch), pytest.raises(RuntimeError), timed_forward(net):
        net(torch.ones(1, 3))
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert stopwatch.current == ("rest", "other")


def test_a_net_that_torch_compiled_is_left_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    net[0]._compiled_call_impl = lambda x: net[0].forward(x)
    profile = one_step(net, torch.ones(1, 2))
    assert profile.phase("forward").parts == ()
    assert profile.phase("forward").seconds > 0


def test_without_a_stopwatch_a_phase_does_nothing_and_inside_another_it_interrupts_it(clock: SimpleNamespace) -> None:
    with phase("saving"):
        assert list(each([1, 2], "augmentation")) == [1, 2]
    stopwatch = Stopwatch()
    with running(stopwatch):
        with phase("saving", "states"), phase("loss"):
            clock.now += 2
        assert list(each([1, 2], "augmentation")) == [1, 2]
        wait_for("cpu")
    assert stopwatch.wait is None
    assert (stopwatch.seconds["saving", "states"], stopwatch.seconds["loss", ""]) == (0, 2)
    assert stopwatch.calls["loss", ""] == 1


def test_a_table_keeps_within_60_columns() -> None:
    name = "ALayerWithAVeryLongNameThatSomebodyGaveIt"
    part = TimePart(name, 999.0, 3, "1000x1000x1000")
    phases = [TimePart(name, 1e4, 1, parts=(part,) if "ward" in name else ()) for name in PHASES]
    lines = str(TimeProfile(tuple(phases))).splitlines()
    assert max(map(len, lines)) <= 59
    assert lines[0].split() == ["where", "the", "time", "went", "80000.0", "s"]
    assert lines[-2].split() == ["by", "layer", "forward", "backward"]
    assert lines[-1].endswith("...     1.2 %     1.2 %")


def test_the_shell_shows_it_after_the_result_and_the_path_stays_last(tmp_path: Path) -> None:
    images, labels = bars(150)
    np.savez(tmp_path / "set.npz", x=images, y=labels)
    arguments = ["train", str(tmp_path / "set.npz"), "--epochs", "1", "--set", "threads=1", "--profile"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "60"})
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("where the time went"))
    assert lines[0].startswith("test accuracy")
    assert start > 1
    assert lines[-1] == "runs/set-small"
    for name in (*PHASES, "importing", "reading data", "final predictions", "measuring itself"):
        assert any(line.split("  ")[-1] and line.strip().startswith(name) for line in lines[start:]), name
    assert all(len(line) <= 60 for line in lines[start:])
    shown = CliRunner().invoke(app, [*arguments, "--json"])
    profile = json.loads(shown.stdout)["profile"]
    assert profile == json.loads(Path("runs/set-small-2/profile.json").read_text())
    shares = {entry["name"]: entry["share"] for entry in profile["phases"]}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("options", [{"seeds": 2}, {"resume": "runs/nothing"}])
def test_a_profile_is_of_one_run_from_its_beginning(toy: Arrays, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="profile measures one run from its beginning"):
        fovea.train(toy, profile=True, **options)


def test_a_damaged_profile_is_refused() -> None:
    good = one_step(nn.Linear(2, 2), torch.ones(1, 2)).as_json()
    assert time_profile_from_json(good).as_json() == good
    for bad in ({}, {"phases": []}, {"phases": [1]}, {"phases": [{**good["phases"][0], "seconds": "x"}]}):
        with pytest.raises(DataError, match=r"profile\.json is damaged"):
            time_profile_from_json(bad)
