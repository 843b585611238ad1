"""Which way a weight gradient is computed: by the shipped table, by measurement, by what config.yaml says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.conftest import bars

import fovea
from fovea.errors import SettingsError
from fovea.models.build import build_net
from fovea.recipefile import read_recipe
from fovea.settings import ModelSettings, Recipe, TrainingSettings, with_settings
from fovea.training import kernels
from fovea.training.hardware import choose_hardware
from fovea.training.kernels import ConvolutionShape, convolution_shapes, shipped_table, table_kernels, tuned_kernels
from fovea.training.weight_gradients import WEIGHT_GRADIENTS

WIDE_ON_A_SMALL_MAP = ConvolutionShape(64, 256, 256, 3, 3, (3, 3), (1, 1), (1, 1))
NARROW = ConvolutionShape(64, 16, 16, 3, 3, (3, 3), (1, 1), (1, 1))
LAYERS = ["conv 128 3x3 same relu", "maxpool 4", "conv 128 3x3 same relu", "flatten", "dense classes"]


def bf16() -> TrainingSettings:
    return TrainingSettings(precision="bf16")


def test_every_row_of_the_table_names_what_it_holds_for() -> None:
    for rule in shipped_table():
        assert set(rule) == {"feature", "precision", "threads", "way", "largest_map", "fewest_channels"}
        assert rule["way"] in WEIGHT_GRADIENTS
        assert rule["feature"] in {"avx512_bf16", "amx_bf16"}


def test_the_table_answers_for_the_shapes_of_its_own_cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"wide": WIDE_ON_A_SMALL_MAP, "narrow": NARROW}
    monkeypatch.setattr(kernels, "cpu_has_bf16", lambda: "avx512_bf16")
    found, lines = table_kernels(shapes, bf16())
    assert found == {"wide": "im2col"}
    assert lines == [
        "weight gradient by im2col of 1 of 2 convolutions (256>256 3x3 on 3x3): by the shipped table for avx512_bf16 "
        "and 2 threads"
    ]
    monkeypatch.setattr(kernels, "cpu_has_bf16", lambda: "amx_bf16")
    assert table_kernels(shapes, bf16())[0] == {"wide": "strips"}
    strided = replace(WIDE_ON_A_SMALL_MAP, stride=(2, 2))
    assert table_kernels({"strided": strided}, bf16())[0] == {}
    assert table_kernels(shapes, TrainingSettings(precision="fp32"))[0] == {}
    monkeypatch.setattr(kernels, "cpu_has_bf16", lambda: None)
    assert table_kernels(shapes, bf16()) == ({}, [])


def test_the_nearest_number_of_threads_that_was_measured_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "cpu_has_bf16", lambda: "amx_bf16")
    row = {"feature": "amx_bf16", "precision": "bf16", "largest_map": 8, "fewest_channels": 32}
    rows = [{**row, "threads": 1, "way": "im2col"}, {**row, "threads": 4, "way": "strips"}]
    monkeypatch.setattr(kernels, "shipped_table", lambda: rows)
    for threads, way in ((1, "im2col"), (2, "im2col"), (3, "strips"), (16, "strips")):
        found, lines = table_kernels({"wide": WIDE_ON_A_SMALL_MAP}, bf16().model_copy(update={"threads": threads}))
        assert found == {"wide": way}
        assert lines[0].endswith("for amx_bf16 and " + ("1 thread" if way == "im2col" else "4 threads"))


def test_the_shapes_of_a_net_are_those_of_its_maps() -> None:
    layers = ["conv 4 5x5 same relu", "maxpool 2", "conv 6 3x3 stride 2", "flatten", "dense classes"]
    net = build_net(ModelSettings(name="layers", layers=layers), (12, 10, 3), 2, seed=0)
    found = convolution_shapes(net, (12, 10, 3), batch=7)
    assert found == {
        "0": ConvolutionShape(7, 3, 4, 12, 10, (5, 5), (1, 1), (2, 2)),
        "3": ConvolutionShape(7, 4, 6, 2, 2, (3, 3), (2, 2), (0, 0)),
    }


def test_measuring_takes_the_faster_way_and_shows_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {WIDE_ON_A_SMALL_MAP: {"torch": 0.004, "im2col": 0.001}, NARROW: {"torch": 0.001, "im2col": 0.00098}}
    monkeypatch.setattr(kernels, "time_kernels", lambda shape, precision: times[shape])
    found, lines = tuned_kernels({"wide": WIDE_ON_A_SMALL_MAP, "narrow": NARROW}, bf16())
    assert found == {"wide": "im2col"}  # 2 % are not told apart from noise
    assert "autotune 256>256 3x3 on 3x3: weight gradient torch 4.00 ms, im2col 1.00 ms" in lines


def test_timing_a_shape_really_runs_both_ways() -> None:
    found = kernels.time_kernels(ConvolutionShape(2, 3, 4, 5, 4, (3, 2), (2, 1), (1, 0)), "fp32", repeats=1)
    assert set(found) == {"torch", "im2col"}  # strips need a stride of 1
    assert min(found.values()) > 0


def test_autotune_measures_with_the_threads_that_train(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def timed(*_: object) -> dict[str, float]:
        threads.append(torch.get_num_threads())
        return {"torch": 1.0}

    monkeypatch.setattr(kernels, "time_kernels", timed)
    for asked in (1, 2):
        fovea.train(bars(90), model=LAYERS, epochs=1, fast_ops="on", verbose=False, autotune=True, threads=asked)
    assert set(threads[: len(threads) // 2]) == {1}
    assert set(threads[len(threads) // 2 :]) == {2}


def test_what_was_measured_stands_in_config_and_gives_the_same_bytes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "time_kernels", lambda *_: {"torch": 2.0, "im2col": 1.0})
    settings = {"model": LAYERS, "epochs": 1, "fast_ops": "on", "verbose": False}
    tuned = fovea.train(bars(90), autotune=True, name="tuned", **settings)
    assert tuned.recipe.training.kernels == {"0": "im2col", "3": "im2col"}
    assert read_recipe(tuned.path / "config.yaml").training.kernels == tuned.recipe.training.kernels
    monkeypatch.setattr(kernels, "time_kernels", lambda *_: pytest.fail("measured again"))
    again = fovea.train(bars(90), name="again", **settings, kernels=tuned.recipe.training.kernels)
    assert (again.path / "best.safetensors").read_bytes() == (tuned.path / "best.safetensors").read_bytes()


def test_autotune_without_fast_ops_says_that_there_is_nothing_to_choose() -> None:
    with pytest.raises(SettingsError, match="--autotune has nothing to choose from"):
        fovea.train(bars(90), autotune=True, fast_ops="off", verbose=False)


@pytest.mark.parametrize(
    ("settings", "value", "reason"),
    [
        ({}, "on", "train faster"),
        ({"precision": "fp32"}, "off", "as plain as they are"),
        ({"precision": "fp32", "fast_ops": "on"}, "on", "as asked"),
        ({"fast_ops": "off"}, "off", "as asked"),
    ],
)
def test_fp32_as_asked_is_the_plain_path(settings: dict[str, str], value: str, reason: str) -> None:
    chosen = choose_hardware(TrainingSettings.model_validate({"device": "cpu", **settings})).fast_ops
    assert chosen.value == value
    assert reason in chosen.reason


def test_another_net_or_batch_size_is_looked_up_again() -> None:
    recipe = Recipe(training=TrainingSettings(kernels={"3": "im2col"}, fast_ops="on"))
    assert with_settings(recipe, {"epochs": 3}).training.kernels == {"3": "im2col"}
    for change in ({"model": "p1"}, {"batch_size": 32}, {"precision": "fp32"}, {"image_size": 20}, {"threads": 7}):
        assert with_settings(recipe, change).training.kernels is None
