"""Training that starts from the weights of an earlier run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import bars
from torch import nn

import fovea
from fovea import faults
from fovea.errors import FoveaError
from fovea.recipefile import read_record
from fovea.runview import Run

NET = ["conv 8 3x3 same relu", "maxpool 2", "flatten", "dense classes"]
# One batch an epoch, nothing drawn at random: an epoch is then the same step whatever its number.
PLAIN: dict[str, Any] = {
    "layers": NET, "augmentation": "none", "optimizer": "adam", "schedule": "constant", "warmup_fraction": 0.0,
    "batch_size": 108, "threads": 1, "device": "cpu", "precision": "fp32", "keep": "last", "lr": 0.01,
}  # fmt: skip


def train(data: Any = None, **settings: Any) -> Run:
    return fovea.train(bars(150) if data is None else data, **{**PLAIN, **settings}, verbose=False)


def go_on(run: Run | Path, **settings: Any) -> Run:
    path = run if isinstance(run, Path) else run.path
    given = {name: value for name, value in PLAIN.items() if name != "layers"}
    return fovea.train(bars(150), **{**given, **settings}, start_from=path, verbose=False)


def weights_of(run: Run) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.model.net.state_dict().values()])


def test_two_epochs_and_two_more_with_the_optimizer_gone_on_with_are_four() -> None:
    four, first = train(epochs=4), train(epochs=2)
    continued = go_on(first, epochs=2, start="continued")
    fresh_optimizer = go_on(first, epochs=2)
    assert torch.allclose(weights_of(continued), weights_of(four), atol=1e-5)
    assert (weights_of(fresh_optimizer) - weights_of(four)).abs().max() > 1e-3


def test_a_run_starts_where_the_kept_weights_of_the_earlier_one_stand() -> None:
    first = train(epochs=2)
    second = go_on(first, epochs=1, lr=1e-12)
    assert torch.allclose(weights_of(second), weights_of(first), atol=1e-6)
    assert second.test_accuracy == first.test_accuracy


def test_weights_alone_go_into_the_net_that_is_named() -> None:
    first = train(epochs=1)
    for place in (first.path, first.path / "best.safetensors"):
        second = train(epochs=1, lr=1e-12, weights=str(place))
        assert torch.allclose(weights_of(second), weights_of(first), atol=1e-6)


def test_the_lineage_is_written_down_and_the_settings_give_the_same_bytes_again() -> None:
    first = train(epochs=1)
    second = go_on(first, epochs=1)
    found = read_record(second.path / "config.yaml")["start"]
    assert (found["weights"], found["epoch"]) == (str(first.path.resolve()), 1)
    again = fovea.train(bars(150), verbose=False, **second.settings)
    assert (again.path / "best.safetensors").read_bytes() == (second.path / "best.safetensors").read_bytes()


def test_the_model_file_does_not_tell_where_its_training_started(tmp_path: Path) -> None:
    """Nobody who gets the file has that place, and equal weights have equal bytes."""
    second = go_on(train(epochs=1), epochs=1)
    assert b'weights_sha256": null' in (second.path / "best.safetensors").read_bytes().replace(b"\\", b"")


def test_a_last_layer_for_other_classes_starts_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    first = train(epochs=2)
    given = {name: value for name, value in PLAIN.items() if name != "layers"}
    other = {**given, "epochs": 1, "lr": 1e-12}
    second = fovea.train(bars(150, num_classes=2), start_from=first.path, **other)
    assert "the last layer starts fresh" in " ".join(capsys.readouterr().err.split())
    kernel = [run.model.net.state_dict()["0.weight"] for run in (first, second)]
    assert torch.allclose(*kernel, atol=1e-6)


def test_images_that_the_earlier_run_trained_on_are_counted_among_those_that_judge(tmp_path: Path) -> None:
    images, labels = bars(150)
    np.savez(tmp_path / "bars.npz", x=images, y=labels)
    first = train(tmp_path / "bars.npz", epochs=1)
    given = {name: value for name, value in PLAIN.items() if name != "layers"}
    for split_seed, expected in ((0, 0), (1, 2)):
        second = fovea.train(
            tmp_path / "bars.npz", start_from=first.path, epochs=1, split_seed=split_seed, verbose=False, **given
        )
        earlier, now = first.split, second.split
        found = [finding for finding in second.findings if finding["id"] == "seen-before"]
        assert len(found) == expected
        for name, finding in zip(("validation", "test"), found, strict=False):
            short = {"validation": "val", "test": "test"}[name]
            count = len(set(earlier.indices["train"]) & set(now.indices[short]))
            assert f"{count} of the {len(now.indices[short])} {name} images" in finding["cause"]


def test_images_that_a_run_before_the_earlier_one_trained_on_are_counted_too(tmp_path: Path) -> None:
    images, labels = bars(150)
    np.savez(tmp_path / "bars.npz", x=images, y=labels)
    given = {name: value for name, value in PLAIN.items() if name != "layers"} | {"epochs": 1, "verbose": False}
    first = train(tmp_path / "bars.npz", epochs=1)
    second = fovea.train(tmp_path / "bars.npz", start_from=first.path, split_seed=1, **given)
    third = fovea.train(tmp_path / "bars.npz", start_from=second.path, split_seed=1, **given)
    assert [finding["id"] for finding in third.findings].count("seen-before") == 2


def test_as_many_but_other_classes_let_the_last_layer_start_fresh() -> None:
    images, labels = bars(150)
    first = train((images, np.array(["a", "b", "c"])[labels]), epochs=2)
    second = go_on(first, epochs=1, lr=1e-12)
    heads = [run.model.net.state_dict()["4.weight"] for run in (first, second)]
    assert (heads[0] - heads[1]).abs().max() > 0.01


def test_a_larger_image_is_no_matter_of_classes() -> None:
    first = train(epochs=1)
    with pytest.raises(fovea.ModelError, match=r"do not fit this net \(4.weight\)"):
        fovea.train(bars(150, side=12), start_from=first.path, epochs=1, verbose=False)


def test_the_net_of_a_run_is_given_what_it_was_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    first = train(epochs=1, rescale=1.0, featurewise_std_normalization=False)
    second = go_on(first, epochs=1)
    steps = second.recipe.preprocessing
    assert (steps.rescale, steps.featurewise_center, steps.featurewise_std_normalization) == (1.0, True, False)
    assert go_on(first, epochs=1, rescale=0.5).recipe.preprocessing.rescale == 0.5
    capsys.readouterr()
    fovea.train(bars(150), **PLAIN, epochs=1, weights=str(first.path))
    told = " ".join(capsys.readouterr().err.split())
    assert "preprocessed otherwise: preprocessing.rescale 1.0, here 0.00392" in told


def mistakes(first: Run) -> list[tuple[dict[str, Any], str]]:
    file = first.path / "best.safetensors"
    return [
        ({"start_from": first.path, "model": "small"}, "--from brings its net along"),
        ({"start_from": first.path, "model.name": "p1"}, "--from brings its net along"),
        ({"start_from": "nowhere"}, "There is no nowhere to start from"),
        ({"weights": "nowhere"}, "There are no weights"),
        ({"start": "continued"}, "name the run with --from"),
        ({"start_from": file, "start": "continued"}, "holds no optimizer"),
        (
            {"start_from": first.path, "start": "continued", "optimizer": "rmsprop"},
            "needs the optimizer of",
        ),
        ({"weights": str(first.path), "layers": ["flatten", "dense 9", "dense classes"]}, "do not fit this net"),
        ({"weights": str(first.path), "weights_sha256": "0" * 64}, "sha256 has changed"),
        ({"weights": str(first.path / "log.jsonl")}, "cannot be read"),
        ({"weights": str(first.path), "model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, "module of your own"),
    ]


def test_mistakes_get_one_message_and_leave_nothing_behind(tmp_path: Path) -> None:
    first = train(epochs=1)
    given = {name: value for name, value in PLAIN.items() if name not in ("layers", "optimizer")}
    for options, message in mistakes(first):
        with pytest.raises(FoveaError) as caught:
            fovea.train(bars(150), **{**given, "optimizer": "adam", **options}, out=tmp_path / "bad", verbose=False)
        assert message in str(caught.value), options
        assert caught.value.exit_code == 2
    assert not (tmp_path / "bad").exists()


def test_a_run_that_started_from_others_weights_goes_on_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own states hold all that it needs."""
    first = train(epochs=1)
    whole = go_on(first, epochs=2, name="whole")
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, "SIGINT@epoch written#1")
    with pytest.raises(KeyboardInterrupt):
        go_on(first, epochs=2, name="stopped")
    monkeypatch.delenv(faults.VARIABLE)
    shutil.rmtree(first.path)
    resumed = fovea.train(bars(150), resume=whole.path.parent / "stopped", verbose=False)
    assert (resumed.path / "best.safetensors").read_bytes() == (whole.path / "best.safetensors").read_bytes()
