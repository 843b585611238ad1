"""Stopped anywhere and gone on with, a run leaves the bytes of an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from tests.conftest import bars
from torch import nn

import fovea
from fovea import faults
from fovea.data.load import read_raw
from fovea.files import read_json_lines
from fovea.recipefile import read_recipe
from fovea.runview import Run
from fovea.training.callbacks import Callback, Metrics, TrainingState
from fovea.training.plan import plan_run

# Two epochs of five batches; every mechanism that carries something from step to step is in one of these.
BASE: dict[str, Any] = {"epochs": 2, "batch_size": 22, "threads": 1, "device": "cpu"}
DROPOUT = ["conv 8 3x3 same relu", "batchnorm", "maxpool 2", "dropout .3", "flatten", "dense classes"]
KINDS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "muon, batch norm, augmentation, cosine": (
        {"layers": DROPOUT, "optimizer": "muon", "augmentation": "digits"},
        list(range(1, 11)),
    ),
    "rmsprop, dropout, plateau": (
        {
            "layers": DROPOUT,
            "optimizer": "rmsprop",
            "schedule": "plateau",
            "plateau_patience": 0,
            "plateau_min_delta": 1.0,
            "epochs": 3,
        },
        [2, 5, 7, 10, 12],
    ),
    "sgd, moving average, clipped": (
        {"optimizer": "sgd", "ema_decay": 0.8, "clip_norm": 1.0, "schedule": "step", "layers": DROPOUT},
        [1, 5, 7],
    ),
    "adamw, float32, one cycle": (
        {"optimizer": "adamw", "precision": "fp32", "schedule": "onecycle", "layers": DROPOUT},
        [2, 6, 10],
    ),
}
QUICK = {"layers": DROPOUT, "augmentation": "none"}
BYTES = ("best.safetensors", "metrics.csv", "predictions-test.npz", "split.json")


def content(folder: Path) -> dict[str, bytes]:
    """What must be the same to the byte, by name."""
    files = [folder / name for name in BYTES] + sorted(path for path in (folder / "last").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def train(name: str, data: Any = None, **settings: Any) -> Path:
    return fovea.train(data or bars(150), name=name, verbose=False, **{**BASE, **settings}).path


def resume(folder: Path, **options: Any) -> Run:
    return fovea.train(bars(150), resume=folder, verbose=False, **options)


def order(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    faults.forget()
    monkeypatch.setenv(faults.VARIABLE, fault)


def stopped(monkeypatch: pytest.MonkeyPatch, fault: str, name: str = "stopped", **settings: Any) -> Path:
    """A run, or with `seeds` a study, that a signal has stopped at a point."""
    order(monkeypatch, fault)
    with pytest.raises(KeyboardInterrupt):
        train(name, **settings)
    monkeypatch.delenv(faults.VARIABLE)
    return Path("runs") / name


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in read_json_lines(folder / "log.jsonl") if entry["event"] == kind]


@pytest.fixture(scope="module")
def whole_quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of the run of QUICK that nothing stopped."""
    return content(train("whole", out=tmp_path_factory.mktemp("runs"), report=False, **QUICK))


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "last").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_at_any_batch_leaves_the_same_bytes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, steps = KINDS[kind]
    whole = content(train("whole", **settings))
    assert len([name for name in whole if name.startswith("last/")]) == 2 * 3
    for step in steps:
        folder = stopped(monkeypatch, f"SIGINT@step#{step}", f"stopped-{step}", **settings)
        epochs, batches = divmod(step, 5) if step % 5 else (step // 5 - 1, 5)
        assert f"epoch-{epochs:04d}-batch-{batches:04d}" in states(folder)
        assert content(resume(folder).path) == whole, f"stopped after step {step}"


def test_a_run_stopped_again_and_again_leaves_the_same_bytes(
    whole_quick: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", **QUICK)
    for fault in ("SIGINT@step#1", "SIGINT@epoch written", "SIGINT@step#2", "SIGINT@step#3", "SIGINT@predicted"):
        order(monkeypatch, fault)
        with pytest.raises(KeyboardInterrupt):
            resume(folder)
    monkeypatch.delenv(faults.VARIABLE)
    run = resume(folder)
    assert content(run.path) == whole_quick
    assert [entry["step"] for entry in events(folder, "resume")] == [3, 4, 5, 7, 10, 10]
    assert [entry["epoch"] for entry in events(folder, "epoch")] == [1, 2]
    assert len(run.history["time"]) == 2
    assert run.history["time"] == sorted(run.history["time"])
    assert len(Path("runs/test_ledger.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("way", "kind"), [("im2col", "Im2colConv2d"), ("strips", "StripsConv2d")])
def test_with_every_fast_op_on_two_runs_and_a_resumed_one_have_the_same_bytes(
    way: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [
        "whiten 2x2 relu",
        "maxpool 2",
        "conv 8 3x3 same relu",
        "maxpool 2",
        "dropout .3",
        "flatten",
        "dense classes",
    ]
    fast = {"layers": layers, "optimizer": "rmsprop", "fast_ops": "on", "kernels": {"3": way}, "epochs": 2}
    moved = {"width_shift_range": 2, "horizontal_flip": "alternating", "augmentation": "none"}
    whole = train("whole", **fast, **moved)
    assert [type(module).__name__ for module in plan_of(whole).modules()].count(kind) == 1
    assert content(train("again", **fast, **moved)) == content(whole)
    folder = stopped(monkeypatch, "SIGINT@step#3", **fast, **moved)
    assert content(resume(folder).path) == content(whole)


def plan_of(folder: Path) -> nn.Module:
    """The net that a run's settings train."""
    return plan_run(read_recipe(folder / "config.yaml"), read_raw(bars(150))).net


def test_the_best_weights_so_far_are_kept_when_no_later_epoch_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**QUICK, "epochs": 3, "monitor": "val_loss", "optimizer": "sgd", "lr": 5.0, "schedule": "constant"}
    whole = train("whole", **settings)
    assert json.loads((whole / "result.json").read_text())["best_epoch"] == 1
    folder = stopped(monkeypatch, "SIGINT@step#7", **settings)
    assert content(resume(folder).path) == content(whole)


def test_early_stopping_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**QUICK, "epochs": 9, "patience": 2, "min_delta": 0.9}
    whole = train("whole", **settings)
    assert json.loads((whole / "result.json").read_text())["epochs"] == 3
    folder = stopped(monkeypatch, "SIGINT@step#12", **settings)
    assert content(resume(folder).path) == content(whole)


def test_states_saved_at_every_step_leave_the_same_two_in_the_end() -> None:
    often, seldom = train("often", save_seconds=0, **QUICK), train("seldom", **QUICK)
    assert len(events(often, "saved")) == 10
    assert content(often) == content(seldom)
    assert states(often) == ["epoch-0001", "epoch-0002"]


def test_where_data_lies_has_no_part_in_the_bytes_and_data_that_moved_is_named_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, labels = bars(150)
    np.savez("one.npz", x_train=images, y_train=labels)
    folder = stopped(monkeypatch, "SIGINT@step#4", data="one.npz", **QUICK)
    Path("one.npz").rename("two.npz")
    with pytest.raises(fovea.DataError, match=r"one\.npz does not exist"):
        fovea.train(resume=folder, verbose=False)
    run = fovea.train("two.npz", resume=folder, verbose=False)
    assert content(run.path) == content(fovea.train("two.npz", name="whole", verbose=False, **BASE, **QUICK).path)


def test_a_kill_between_a_new_state_and_the_removal_of_the_older_leaves_no_trace(
    whole_quick: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for point in ("folder renamed", "state proven"):
        order(monkeypatch, f"EIO@{point}#13")  # the thirteenth state is that of the second epoch's end
        with pytest.raises((OSError, fovea.RunFailedError)):
            train(f"at {point}", save_seconds=0, **QUICK)
        monkeypatch.delenv(faults.VARIABLE)
        folder = Path("runs") / f"at {point}"
        assert states(folder) == ["epoch-0001", "epoch-0001-batch-0005", "epoch-0002"]
        assert content(resume(folder).path) == whole_quick


def test_a_damaged_state_is_skipped_with_its_reason_and_the_bytes_are_the_same(
    whole_quick: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("tensors.safetensors", "state.json", "manifest.json")):
        folder = stopped(monkeypatch, "SIGINT@step#8", f"stopped-{number}", **QUICK)
        assert states(folder) == ["epoch-0001", "epoch-0001-batch-0003"]
        flip(folder / "last" / "epoch-0001-batch-0003" / name, offset=40)
        fovea.train(bars(150), resume=folder)
        text = " ".join(capsys.readouterr().err.split())
        assert f"epoch-0001-batch-0003/{name} is damaged" in text
        assert "going on after epoch 1 (step 5)" in text
        assert content(folder) == whole_quick
        assert name in events(folder, "resume")[0]["skipped"][0]


def test_where_no_state_can_be_used_the_message_says_how_to_train_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#8", **QUICK)
    for state in (folder / "last").iterdir():
        (state / "state.json").write_bytes(b"")
    with pytest.raises(fovea.DataError, match=r"No state .* can be used.*fovea train runs.stopped.config\.yaml"):
        resume(folder)
    shutil.rmtree(folder / "last")
    with pytest.raises(fovea.DataError, match="although epochs have ended"):
        resume(folder)


def test_the_order_of_states_is_told_by_their_names_whatever_the_clock_says(
    whole_quick: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#8", **QUICK)
    os.utime(folder / "last" / "epoch-0001-batch-0003", (1e9, 1e9))
    monkeypatch.setattr("fovea.training.records.now_utc", lambda: "1999-01-01T00:00:00Z")
    assert content(resume(folder).path) == whole_quick
    assert events(folder, "resume")[0]["step"] == 8


def test_what_comes_after_the_state_is_dropped_and_what_was_half_written_swept(
    whole_quick: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#5", **QUICK)
    with (folder / "metrics.csv").open("a") as file:
        file.write("2,0.1,0.9,0.1,0.9,0.")
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"event": "epoch", "step": 10, "epoch": 2, "seconds": 9.0}\n{"event": "ep')
    left = [folder / ".curves.png.partial", folder / "last" / ".epoch-0009.partial" / "tensors.safetensors"]
    of_the_end = [folder / "result.json", folder / "profile.json"]  # which the state does not reach
    for path in of_the_end:
        path.write_text("{}")
    left[1].parent.mkdir()
    for path in left:
        path.write_bytes(b"half")
    order(monkeypatch, "EIO@epoch written")
    with pytest.raises(OSError):
        resume(folder)
    monkeypatch.delenv(faults.VARIABLE)
    assert not [path for path in [*left, *of_the_end] if path.exists()]
    resume(folder)
    assert content(folder) == whole_quick
    lines = (folder / "log.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds == ["start", "saved", "stopped", "failed", "resume", "epoch", "epoch", "end"]


def edit_environment(folder: Path) -> None:
    path = folder / "environment.json"
    values = json.loads(path.read_text())
    values["packages"]["torch"] = "2.0.1"
    path.write_text(json.dumps(values))


def edit_settings(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("  label_smoothing: 0.0", "  label_smoothing: 0.1"))


CHANGES: list[tuple[Callable[[Path], None], dict[str, Any], str]] = [
    (edit_environment, {}, "torch was 2.0.1, now it is"),
    (lambda _: None, {"threads": 2}, "threads was 1, now it is 2 (--set threads=1 keeps 1)"),
    (lambda _: None, {"precision": "fp32"}, "precision was bf16, now it is fp32"),
]


@pytest.mark.parametrize(("change", "given", "words"), CHANGES, ids=[words[:24] for *_, words in CHANGES])
def test_what_would_change_the_bytes_is_refused_unless_forced(
    change: Callable[[Path], None],
    given: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", precision="bf16", **QUICK)
    change(folder)
    before = content_of_all(folder)
    with pytest.raises(fovea.SettingsError, match="cannot go on as it began") as caught:
        resume(folder, **given)
    assert words in str(caught.value)
    assert "--force" in str(caught.value)
    assert content_of_all(folder) == before
    run = fovea.train(bars(150), resume=folder, force=True, **given)
    text = " ".join(capsys.readouterr().err.split())
    assert f"forced {words}" in text
    assert "the bytes may differ" in text
    assert words in run.result["changed_on_the_way"][0]


def content_of_all(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in found}


def test_settings_that_were_edited_are_refused_forced_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", **QUICK)
    edit_settings(folder)
    for force in (False, True):
        with pytest.raises(fovea.SettingsError, match=r"was edited after .*begin a new run: fovea train runs.stopped"):
            resume(folder, force=force)


def test_what_is_asked_for_again_or_has_no_part_in_the_bytes_is_no_change(
    whole_quick: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", **QUICK)
    run = resume(folder, device="auto", threads=1, save_seconds=5)
    assert content(run.path) == whole_quick
    assert "changed_on_the_way" not in run.result


def test_changed_data_is_refused_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", **QUICK)
    images, labels = bars(150)
    images[:, 0, 0] ^= 1
    with pytest.raises(fovea.SettingsError, match="the training, validation, test images have changed"):
        fovea.train((images, labels), resume=folder, verbose=False)
    run = fovea.train((images, labels), resume=folder, force=True, verbose=False)
    tested = fovea.load_data((images, labels))["train"].take(run.predictions().ids)
    assert run.record["fingerprints"]["test"] == tested.fingerprint  # or evaluating the run would refuse them
    assert run.result["changed_on_the_way"] == ["the training, validation, test images have changed"]
    with pytest.raises(fovea.SettingsError, match="names no data"):
        fovea.train(resume=stopped(monkeypatch, "SIGINT@step#3", "arrays", **QUICK), verbose=False)


def test_threads_that_were_derived_are_compared_with_what_would_be_derived_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    folder = stopped(monkeypatch, "SIGINT@step#3", threads=None, **QUICK)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(fovea.SettingsError, match="threads was 2, now it is 1"):
        resume(folder)
    run = resume(folder, threads=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert content(run.path) == content(train("whole", threads=None, **QUICK))


def test_another_processor_gets_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#3", **QUICK)
    monkeypatch.setattr("fovea.runfolder.processor_name", lambda: "Abacus 1")
    fovea.train(bars(150), resume=folder)
    assert "now it is Abacus 1: the bytes may differ" in " ".join(capsys.readouterr().err.split())


class Counter(Callback):
    """A user's callback with something to remember: it stops training at its seventh step."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, state: TrainingState) -> None:
        self.steps += 1
        if self.steps == 7:
            state.stop("seven")

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def test_an_attempt_to_go_on_that_came_to_nothing_leaves_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#6", callbacks=[Counter()], **QUICK)
    images, labels = bars(150)
    images[:, 0, 0] ^= 1
    with pytest.raises(fovea.SettingsError, match="pass those of your own again"):
        fovea.train((images, labels), resume=folder, force=True, verbose=False)
    run = resume(folder, callbacks=[Counter()])
    assert "changed_on_the_way" not in run.result
    assert content(run.path) == content(train("whole", callbacks=[Counter()], **QUICK))


def test_a_users_callbacks_count_on_and_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(state: TrainingState, metrics: Metrics) -> None:
        """Nothing to remember."""

    whole = train("whole", callbacks=[Counter(), watch], **QUICK)
    assert json.loads((whole / "result.json").read_text())["stop_reason"] == "seven"
    folder = stopped(monkeypatch, "SIGINT@step#6", callbacks=[Counter(), watch], **QUICK)
    with pytest.raises(fovea.SettingsError, match=r"callbacks Counter, watch; now they are none: pass those"):
        resume(folder)
    assert content(resume(folder, callbacks=[Counter(), watch]).path) == content(whole)


def test_what_a_callback_changes_in_the_state_and_the_optimizers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(state: TrainingState, metrics: Metrics) -> None:
        state.base_lr, state.epochs, state.lr_scale = 0.5, 3, 0.7
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["base_lr"], group["betas"] = group["base_lr"] * 0.5, (0.5, 0.9)

    settings = {**QUICK, "optimizer": "adam"}
    whole = content(train("whole", callbacks=change, **settings))
    folder = stopped(monkeypatch, "SIGINT@step#8", callbacks=change, **settings)
    assert content(resume(folder, callbacks=change).path) == whole


def test_a_stop_at_the_step_where_a_callback_stops_training_is_no_lost_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("whole", callbacks=[Counter()], **QUICK)
    folder = stopped(monkeypatch, "SIGINT@step#7", callbacks=[Counter()], **QUICK)
    assert content(resume(folder, callbacks=[Counter()]).path) == content(whole)


def test_a_callback_whose_state_is_not_plain_is_refused_by_name() -> None:
    class Bad(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"best": torch.zeros(1)}

    class Altered(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"by epoch": {1: 0.5}}  # JSON would make the key a text

    for callback in (Bad(), Altered()):
        with pytest.raises(fovea.SettingsError, match=f"state_dict of the callback {callback.name} cannot be saved"):
            train("bad", callbacks=[callback], **QUICK)
    assert not Path("runs").exists()


class Tied(nn.Module):
    """A net of the user's own with a weight that is used twice, and no gradient for one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.second(torch.relu(self.first(x.flatten(1))))
        out: torch.Tensor = self.head(nn.functional.dropout(hidden, 0.3, self.training))
        return out


def test_a_module_of_the_users_own_goes_on_and_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("whole", model=Tied())
    folder = stopped(monkeypatch, "SIGINT@step#4", model=Tied())
    with pytest.raises(fovea.SettingsError, match=r"a module of your own \(Tied\): pass it again"):
        resume(folder)
    with pytest.raises(fovea.SettingsError, match="with the model Tied, not with a Linear"):
        resume(folder, model=nn.Linear(64, 3))
    assert content(resume(folder, model=Tied()).path) == content(whole)


def brighter(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.minimum(image * 1.5, 255)


def test_a_preprocessing_function_is_asked_for_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("whole", preprocessing_function=brighter, **QUICK)
    folder = stopped(monkeypatch, "SIGINT@step#4", preprocessing_function=brighter, **QUICK)
    with pytest.raises(fovea.SettingsError, match=r"test_resume\.brighter, which YAML cannot hold: pass it in Python"):
        resume(folder)
    with pytest.raises(fovea.ModelError, match=r"brighter, not with the preprocessing_function numpy\.sqrt"):
        resume(folder, preprocessing_function=np.sqrt)
    assert content(resume(folder, preprocessing_function=brighter).path) == content(whole)


def test_a_study_of_seeds_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fovea.train(bars(150), name="whole", seeds=3, verbose=False, **BASE, **QUICK)
    folder = stopped(monkeypatch, "SIGINT@step#17", "study", seeds=3, **QUICK)
    assert sorted(path.name for path in folder.glob("seed-*")) == ["seed-0", "seed-1"]
    first = (folder / "seed-0" / "manifest.json").stat().st_mtime_ns
    study = fovea.train(bars(150), resume=folder, verbose=False)
    assert isinstance(study, fovea.SeedStudy)
    assert (folder / "seed-0" / "manifest.json").stat().st_mtime_ns == first
    assert events(folder / "seed-1", "resume")[0]["step"] == 7
    for seed in range(3):
        assert content(folder / f"seed-{seed}") == content(whole.path / f"seed-{seed}")
    assert study.test_accuracy == whole.test_accuracy
    again = fovea.train(resume=folder, verbose=False)
    assert isinstance(again, fovea.SeedStudy)
    assert again.accuracies("test") == study.accuracies("test")


def test_a_study_whose_settings_were_edited_is_refused_and_each_seed_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#17", "study", seeds=2, **QUICK)
    good = (folder / "config.yaml").read_text()
    edit_settings(folder)
    with pytest.raises(fovea.SettingsError, match="was edited after the training had begun"):
        fovea.train(bars(150), resume=folder, verbose=False)
    (folder / "config.yaml").write_text(good)
    edit_settings(folder / "seed-1")
    with pytest.raises(fovea.SettingsError, match=r"seed-1.config\.yaml was edited"):
        fovea.train(bars(150), resume=folder, verbose=False)
    (folder / "seed-1" / "config.yaml").unlink()
    with pytest.raises(fovea.SettingsError, match=r"seed-1 has no config\.yaml, but other files: move it away"):
        fovea.train(bars(150), resume=folder, verbose=False)
    assert (folder / "seed-1" / "last").is_dir()


def test_a_callbacks_counts_begin_anew_with_every_seed() -> None:
    study = fovea.train(bars(150), name="study", seeds=2, verbose=False, callbacks=[Counter()], **BASE, **QUICK)
    assert [run.result["stop_reason"] for run in study.runs] == ["seven", "seven"]


def test_new_seeds_of_a_study_that_was_forced_bear_the_change_and_keep_the_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = stopped(monkeypatch, "SIGINT@step#7", "study", seeds=2, **QUICK)
    edit_environment(folder)
    study = fovea.train(bars(150), resume=folder, force=True, verbose=False)
    assert isinstance(study, fovea.SeedStudy)
    for run in study.runs:
        assert "torch was 2.0.1" in run.result["changed_on_the_way"][0]
    assert len({(run.path / "split.json").read_bytes() for run in study.runs}) == 1


def test_a_run_finished_by_another_process_meanwhile_is_not_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train("done", **QUICK)
    before = content_of_all(folder)
    answers = iter([False, True, True, True])
    monkeypatch.setattr("fovea.runs.is_finished", lambda _: next(answers))
    assert resume(folder).path == folder
    assert content_of_all(folder) == before
    (folder / "result.json").unlink()
    monkeypatch.setattr("fovea.runs.is_finished", lambda _: True)
    with pytest.raises(fovea.DataError, match=r"was finished, but result\.json has been removed since"):
        resume(folder)


def test_data_that_moved_is_written_down_for_those_who_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = bars(150)
    np.savez("one.npz", x_train=images, y_train=labels)
    folder = stopped(monkeypatch, "SIGINT@step#4", data="one.npz", **QUICK)
    Path("one.npz").rename("two.npz")
    run = fovea.train("two.npz", resume=folder, verbose=False)
    assert run.recipe.data.source == str(Path("two.npz").resolve())
    assert run.record["hardware"]["threads"].startswith("1: ")


def test_a_seed_that_was_stopped_before_its_settings_were_written_is_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order(monkeypatch, "EIO@config.yaml#3")  # of the study, of seed 0, of seed 1
    with pytest.raises(fovea.RunFailedError, match=r"seed-1.config\.yaml could not be written"):
        fovea.train(bars(150), name="study", seeds=2, verbose=False, **BASE, **QUICK)
    monkeypatch.delenv(faults.VARIABLE)
    study = fovea.train(bars(150), resume="runs/study", verbose=False)
    assert sorted(path.name for path in study.path.glob("seed-*")) == ["seed-0", "seed-1"]


def test_the_settings_of_a_study_are_those_of_every_seed() -> None:
    fovea.train(bars(150), name="study", seeds=2, verbose=False, **BASE, **QUICK)
    study, seed = (yaml.safe_load(Path(f"runs/study/{place}config.yaml").read_text()) for place in ("", "seed-0/"))
    assert study == seed
