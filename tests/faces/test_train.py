"""fovea.train and fovea train, end to end on images that take a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.sparse import csr_matrix
from tests.conftest import bars, shell
from torch import nn

import fovea
from fovea.evaluation.modelfile import read_model
from fovea.files import file_digest
from fovea.listing import AUGMENTATION_KEYS
from fovea.runview import Run
from fovea.settings import AugmentationSettings

FAST: dict[str, Any] = {"epochs": 2, "threads": 1, "verbose": False}
FILES = {
    "config.yaml",
    "split.json",
    "classes.json",
    "preprocess.json",
    "environment.json",
    "metrics.csv",
    "log.jsonl",
    "best.safetensors",
    "predictions-val.npz",
    "predictions-test.npz",
    "predictions-test.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "curves.png",
    "class_accuracy.png",
    "class_counts.png",
    "mistakes.png",
    "samples.png",
    "augmented.png",
    "calibration.json",
    "calibration.png",
    "coverage.png",
    "slices.json",
    "audit.json",
    "audit-pairs.npz",
    "examples.npz",
    "input_profile.json",
    "report.html",
    "findings.json",
    "result.json",
    "manifest.json",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One finished run on arrays, read by many tests."""
    return fovea.train(bars(150), out=tmp_path_factory.mktemp("runs"), **{**FAST, "epochs": 4})


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A Keras archive on disk, for the shell."""
    images, labels = bars(150)
    test_images, test_labels = bars(60, seed=1)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=test_images, y_test=test_labels)
    return str(tmp_path / "set.npz")


QUICK = ("--epochs", "2", "--set", "threads=1")


def test_a_run_leaves_every_file_with_its_digest(trained: Run) -> None:
    files = {path.relative_to(trained.path).as_posix() for path in trained.path.rglob("*") if path.is_file()}
    states = {
        f"last/epoch-{epoch:04d}/{name}"
        for epoch in (3, 4)
        for name in ("tensors.safetensors", "state.json", "manifest.json")
    }
    assert files == FILES | states
    manifest = json.loads((trained.path / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    assert manifest == {name: file_digest(trained.path / name) for name in files - {"manifest.json"}}


def test_the_run_in_python(trained: Run) -> None:
    assert trained.path.name == "arrays-small"
    assert len(trained.history["val_accuracy"]) == 4
    assert trained.history["val_acc"] == trained.history["val_accuracy"]
    assert trained.history["loss"] == trained.history["train_loss"]
    assert trained.test_accuracy is not None
    assert trained.test_accuracy.count == 30
    assert trained.confusion_matrix.sum() == 30
    assert trained.classes == ("0", "1", "2")
    assert "test accuracy" in repr(trained)
    with pytest.raises(fovea.SettingsError, match="Did you mean 'val_accuracy'"):
        trained.history["val_acuracy"]


def test_predict_takes_raw_images_of_any_form(trained: Run) -> None:
    images, labels = bars(30, seed=5)
    found = trained.predict(images)
    assert (found.predicted == labels).mean() > 0.9
    assert np.allclose(found.probabilities.sum(axis=1), 1)
    assert found.names[0] in trained.classes
    one = trained.predict(images[0])
    assert np.allclose(one.logits[0], found.logits[0], atol=0.05)
    assert np.array_equal(trained.predict(images[..., None] / 255).predicted, found.predicted)


def test_a_fresh_process_predicts_the_same_logits(trained: Run) -> None:
    """Nothing but the folder is handed over."""
    script = (
        "import sys, numpy as np, torch, fovea\n"
        "torch.set_num_threads(1)\n"
        "run = fovea.load_run(sys.argv[1])\n"
        "stored = run.predictions('test')\n"
        "images = np.load(sys.argv[2])[stored.ids]\n"
        "assert np.array_equal(run.predict(images).logits, stored.logits)\n"
        "print('same')"
    )
    np.save("images.npy", bars(150)[0])
    done = subprocess.run(
        [sys.executable, "-c", script, str(trained.path), "images.npy"], capture_output=True, text=True
    )
    assert done.stdout == "same\n", done.stderr


def test_the_same_call_twice_gives_the_same_bytes_and_never_overwrites(trained: Run) -> None:
    images, labels = bars(150)
    again = fovea.train((images, labels), out=trained.path.parent, **{**FAST, "epochs": 4})
    assert again.path.name == "arrays-small-2"
    for name in ("best.safetensors", "predictions-test.npz", "split.json", "preprocess.json"):
        assert (again.path / name).read_bytes() == (trained.path / name).read_bytes()


def test_the_settings_written_down_train_the_same_weights_again(archive: str) -> None:
    first = shell("train", archive, *QUICK, "--set", "dropout_is_no_setting=1")
    assert first.exit_code == 2
    assert shell("train", archive, *QUICK, "--augmentation", "digits", "--name", "one").exit_code == 0
    assert shell("train", "runs/one/config.yaml", "--name", "two").exit_code == 0
    assert Path("runs/two/best.safetensors").read_bytes() == Path("runs/one/best.safetensors").read_bytes()
    one, two = (yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text()) for name in ("one", "two"))
    assert {key: value for key, value in one.items() if key != "record"} == {
        key: value for key, value in two.items() if key != "record"
    }


def test_json_is_one_object_to_the_letter_and_nothing_else(archive: str) -> None:
    result = shell("train", archive, *QUICK, "--json")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["run"] == "runs/set-small"
    for name in ("test_accuracy", "val_accuracy"):
        assert set(value[name]) == {"value", "low", "high", "count"}
    assert value["test_accuracy"]["count"] == 60
    assert value["findings"] == [] or set(value["findings"][0]) >= {"id", "severity"}


def test_the_terminal_shows_the_path_first_and_last(archive: str) -> None:
    result = shell("train", archive, *QUICK)
    assert result.stderr.splitlines()[0].split() == ["run", "runs/set-small"]
    assert result.stdout.splitlines()[-1] == "runs/set-small"
    assert result.stdout.startswith("test accuracy")
    assert "(60 images)" in result.stdout
    for reason in ("precision", "memory", "threads", "allocator"):
        assert any(line.startswith(reason) for line in result.stderr.splitlines())


@pytest.mark.parametrize("columns", [60, 100])
def test_no_line_is_wider_than_the_terminal(archive: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = shell("train", archive, *QUICK)
    assert max(map(len, [*result.stderr.splitlines(), *result.stdout.splitlines()])) <= columns
    assert "test accuracy  " in result.stdout
    assert max(map(len, shell("evaluate", "runs/set-small").stdout.splitlines())) <= columns
    assert "\x1b" not in result.stderr + result.stdout
    assert "\r" not in result.stderr
    assert " best" in result.stderr


def test_no_test_leaves_the_test_split_closed(archive: str) -> None:
    result = shell("train", archive, *QUICK, "--no-test", "--json")
    assert json.loads(result.stdout)["test_accuracy"] is None
    assert not Path("runs/test_ledger.jsonl").exists()
    assert not list(Path("runs/set-small").glob("*test*"))


def test_each_look_at_a_test_set_is_counted_and_shown(archive: str) -> None:
    assert "opened for" not in shell("train", archive, *QUICK).stderr
    assert "opened for the 2nd time" in shell("train", archive, *QUICK, "--seed", "1").stderr
    result = shell("evaluate", "runs/set-small", "--json")
    assert json.loads(result.stdout)["looks"] == 3
    lines = [json.loads(line) for line in Path("runs/test_ledger.jsonl").read_text().splitlines()]
    assert [line["purpose"] for line in lines] == ["train", "train", "evaluate"]
    assert len({line["test_fingerprint"] for line in lines}) == 1


def test_evaluate_repeats_the_stored_figure_and_takes_other_data(archive: str) -> None:
    shell("train", archive, *QUICK)
    stored = fovea.load_run("runs/set-small").test_accuracy
    assert stored is not None
    again = json.loads(shell("evaluate", "runs/set-small", "--json").stdout)["test_accuracy"]
    assert again == stored.as_json()
    images, labels = bars(20, side=11, seed=3)
    np.savez("other.npz", x_train=images, y_train=labels)
    other = json.loads(shell("evaluate", "runs/set-small", "--data", "other.npz", "--json").stdout)
    assert other["test_accuracy"]["count"] == 20
    assert "test accuracy" in shell("evaluate", "runs/set-small").stdout


def test_evaluate_gives_the_interval_that_the_run_gave(archive: str) -> None:
    shell("train", archive, *QUICK, "--set", "confidence=.8")
    stored = fovea.load_run("runs/set-small").test_accuracy
    assert stored is not None
    assert json.loads(shell("evaluate", "runs/set-small", "--json").stdout)["test_accuracy"] == stored.as_json()
    assert f"{stored}, 80% interval" in shell("evaluate", "runs/set-small").stdout


def test_evaluate_notices_that_the_data_has_changed(archive: str) -> None:
    shell("train", archive, *QUICK)
    images, labels = bars(150)
    np.savez(archive, x_train=images, y_train=labels, x_test=images[::-1], y_test=labels[::-1])
    result = shell("evaluate", "runs/set-small")
    assert result.exit_code == 2
    assert "have changed since the run" in result.stderr


def test_several_seeds_report_mean_and_spread_on_one_split(archive: str) -> None:
    result = shell("train", archive, *QUICK, "--seeds", "3", "--json")
    value = json.loads(result.stdout)
    assert value["run"] == "runs/set-small-seeds"
    assert value["test_accuracy"]["count"] == 3
    each = [seed["test_accuracy"]["value"] for seed in value["seeds"]]
    assert value["test_accuracy"]["value"] == pytest.approx(np.mean(each))
    assert value["standard_deviation"] == pytest.approx(np.std(each, ddof=1))
    splits = {Path(seed["run"], "split.json").read_bytes() for seed in value["seeds"]}
    weights = {Path(seed["run"], "best.safetensors").read_bytes() for seed in value["seeds"]}
    assert (len(splits), len(weights)) == (1, 3)
    assert len(Path("runs/test_ledger.jsonl").read_text().splitlines()) == 3


def test_a_module_of_the_users_own_is_trained_and_loaded_again() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))

    run = fovea.train(bars(150), model=make(), **FAST)
    assert run.path.name == "arrays-Sequential"
    again = fovea.load_run(run.path, model=make())
    images, _ = bars(10, seed=2)
    assert np.array_equal(again.predict(images).logits, run.predict(images).logits)
    with pytest.raises(fovea.ModelError, match="module of your own"):
        fovea.load_run(run.path).predict(images)


def test_a_layer_list_and_callbacks_from_python() -> None:
    seen: list[float] = []
    run = fovea.train(
        bars(150),
        model=["conv 8 3x3 same relu", "maxpool 2", "flatten", "dense classes softmax"],
        callbacks=[lambda state, metrics: seen.append(metrics["val_accuracy"])],
        **FAST,
    )
    assert seen == run.history["val_accuracy"]
    assert run.path.name == "arrays-layers"


def test_validation_and_test_data_of_their_own() -> None:
    run = fovea.train(bars(90), val_data=bars(30, seed=1), test_data=bars(45, seed=2), **FAST)
    assert (run.val_accuracy.count, run.test_accuracy and run.test_accuracy.count) == (30, 45)


def test_an_image_folder_trains_from_the_shell() -> None:
    images, labels = bars(90)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = Path("parts") / ("gut", "kratzer", "Öse ü")[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    result = shell("train", "parts", *QUICK)
    assert result.exit_code == 0, result.stderr
    rows = Path("runs/parts-small/predictions-test.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "id,true,predicted,probability"
    assert rows[1].split(",")[0].endswith(".png")
    assert json.loads(Path("runs/parts-small/classes.json").read_text(encoding="utf-8"))[2] == "Öse ü"


def test_a_batch_larger_than_the_train_split_is_used_whole_with_a_line(archive: str) -> None:
    result = shell("train", archive, *QUICK, "-b", "4096")
    assert "batch_size 4,096 is larger than the train split: all 135 images make one batch" in " ".join(
        result.stderr.split()
    )
    assert result.exit_code == 0


BAD = [
    (["minst"], "Unknown data set or recipe 'minst'. Did you mean 'mnist'"),
    (["./nowhere"], "./nowhere does not exist"),
    (["{npz}", "--model", "lenet"], "Unknown model 'lenet'. Did you mean 'lenet5'"),
    (["{npz}", "--epochs", "0"], "training.epochs = 0"),
    (["{npz}", "--set", "epoch=3"], "Unknown setting 'epoch'. Did you mean 'epochs'"),
    (["{npz}", "--set", "optimizer=adm"], "Unknown optimizer 'adm'. Did you mean 'adam'"),
    (["{npz}", "--set", "schedule=cosin"], "Unknown schedule 'cosin'. Did you mean 'cosine'"),
    (["{npz}", "--set", "monitor=val_acuracy"], "callbacks.monitor"),
    (["{npz}", "--augmentation", "digit"], "Did you mean 'digits'"),
    (["{npz}", "--set", "layers=[dense 3]"], "it needs a flat input"),
    (["{npz}", "--set", "steps_per_epoch=99"], "steps_per_epoch 99 is more than"),
    (["{npz}", "--seeds", "1"], "a spread needs two seeds or more"),
    (["{npz}", "--name", "a/b"], "plain folder name"),
    (["{npz}", "--val-data", "digits"], "differ in"),
    (["gone.yaml"], "gone.yaml cannot be read"),
    ([""], "DATA is empty"),
    (["{npz}", "--set", "out=x"], "out is no setting"),
    (["{npz}", "--set", "model=lenet"], "Did you mean 'lenet5'"),
    (["{npz}", "--device", "meta"], "Unknown device 'meta'"),
    (["{npz}", "-b", "1"], "batch_size 1 leaves a batch norm nothing to compute from"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[words[:40] for _, words in BAD])
def test_a_users_mistake_gets_one_message_exit_code_2_and_nothing_written(
    archive: str, arguments: list[str], words: str
) -> None:
    arguments = [argument.format(npz=archive) for argument in arguments]
    if words == "differ in":
        images, labels = bars(30, side=9)
        np.savez("nine.npz", x_train=images, y_train=labels)
        arguments[-1] = "nine.npz"
    result = shell("train", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert not list(Path().glob("runs/*"))


ARRAYS = [
    ((np.zeros((4, 8, 8)), [0, 1, 0]), "4 images but 3 labels"),
    ((np.zeros((4, 8, 8)), map(int, "0101")), "The labels of the arrays are one map: expected an array or a list"),
    (((image for image in np.zeros((4, 8, 8))), [0, 1, 0, 1]), "The images of the arrays are one generator"),
    ((csr_matrix((4, 64)), [0, 1, 0, 1]), "The images of the arrays are one csr_matrix"),
    (([np.zeros((8, 8)), np.zeros((7, 8))], [0, 1]), "unequal size"),
    ((np.full((40, 8, 8), np.nan), [0, 1] * 20), "NaN"),
    ((np.zeros((40, 8, 8)), np.linspace(0, 1, 40)), "must be classes"),
    ((np.zeros((40, 8, 8)), [1] * 40), "one class only"),
    ((np.zeros((0, 8, 8)), []), "holds no images"),
]


@pytest.mark.parametrize(("data", "words"), ARRAYS, ids=[words for _, words in ARRAYS])
def test_arrays_that_cannot_be_used_are_refused_before_anything_is_written(data: Any, words: str) -> None:
    with pytest.raises(fovea.DataError, match=words):
        fovea.train(data, **FAST)
    assert not Path("runs").exists()


@pytest.mark.parametrize("options", [{"name": 5}, {"name": "a\0b"}, {"callbacks": 5}], ids=str)
def test_what_is_of_another_kind_is_refused_before_anything_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(fovea.SettingsError, match=r"is not a plain folder name|type int cannot be called"):
        fovea.train(bars(40), **FAST, **options)
    assert not Path("runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a working folder cannot be removed there")
def test_a_working_folder_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = shell("train", "digits")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: The working folder is not there any more")


def test_what_is_broken_off_before_training_leaves_nothing_or_says_how_to_go_on(
    archive: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fovea.training.run.recipe_as_yaml", interrupt)  # of config.yaml, the last of the first files
        for several in ({}, {"seeds": 2}):
            with pytest.raises(KeyboardInterrupt):
                fovea.train(archive, **FAST, **several)
    assert list(Path("runs").iterdir()) == []
    monkeypatch.setattr("fovea.runs.plan_run", interrupt)  # of the first seed
    with pytest.raises(KeyboardInterrupt):
        fovea.train(archive, seeds=2, **FAST | {"verbose": True})
    assert "fovea train --resume runs/set-small-seeds" in capsys.readouterr().err


def test_a_run_that_is_broken_off_leaves_its_best_weights_and_says_so(archive: str) -> None:
    def interrupt(state: fovea.Callback, metrics: object) -> None:
        if state.epoch == 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fovea.train(archive, callbacks=interrupt, **FAST)
    assert "KeyboardInterrupt" in Path("runs/set-small/log.jsonl").read_text().splitlines()[-1]
    assert read_model(Path("runs/set-small/best.safetensors")).classes == ("0", "1", "2")
    with pytest.raises(fovea.DataError, match="was broken off"):
        fovea.load_run("runs/set-small")


def test_images_of_zeros_and_ones_are_predicted_as_they_were_tested() -> None:
    images, labels = bars(150)
    binary = (images > 100).astype(np.int64)
    run = fovea.train((binary, labels), **{**FAST, "epochs": 6})
    stored = run.predictions("test")
    assert np.array_equal(run.predict(binary[stored.ids]).logits, stored.logits)


@pytest.mark.usefixtures("few_digits")
def test_a_runs_own_data_is_evaluated_on_its_test_split_alone() -> None:
    assert shell("train", "digits", *QUICK, "--name", "d").exit_code == 0
    found = json.loads(shell("evaluate", "runs/d", "--data", "digits", "--json").stdout)
    assert found["test_accuracy"] == fovea.load_run("runs/d").test_accuracy.as_json()  # type: ignore[union-attr]


@pytest.mark.usefixtures("few_digits")
def test_a_recipe_whose_validation_was_an_array_asks_for_it_again() -> None:
    with pytest.raises(fovea.DataError, match=r"range from 0 to 2\d\d, but the model was trained on 0\.\.16"):
        fovea.train("digits", test_data=bars(30), **FAST)
    val, test = ((images // 16, labels) for images, labels in (bars(30), bars(30, seed=1)))
    run = fovea.train("digits", val_data=val, test_data=test, **FAST)
    assert run.recipe.data.val_data == "<arrays>"
    result = shell("train", str(run.path / "config.yaml"))
    assert result.exit_code == 2
    assert "were arrays: pass them again in Python" in result.stderr


def test_a_folder_of_seeds_is_told_from_a_run(archive: str) -> None:
    study = fovea.train(archive, seeds=2, **FAST)
    with pytest.raises(fovea.DataError, match="one run a seed or fold: name one of them"):
        fovea.load_run(study.path)


def test_the_fit_does_not_depend_on_the_threads_of_the_process(archive: str) -> None:
    contents = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        run = fovea.train(archive, **FAST)
        contents.add((run.path / "best.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_run_that_diverges_exits_1_and_leaves_a_log(archive: str) -> None:
    result = shell("train", archive, *QUICK, "--lr", "1e38", "--set", "optimizer=sgd", "--model", "p4-dense")
    assert result.exit_code == 1
    assert "Likely cause" in result.stderr
    last = json.loads(Path("runs/set-p4-dense/log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "failed"


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_that_is_no_run_is_refused(path: str) -> None:
    result = shell("evaluate", path)
    assert result.exit_code == 2
    assert "is no run folder" in result.stderr


def test_a_damaged_model_file_is_refused(archive: str) -> None:
    shell("train", archive, *QUICK)
    path = Path("runs/set-small/best.safetensors")
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]):
        path.write_bytes(damaged)
        result = shell("evaluate", "runs/set-small")
        assert result.exit_code == 2
        assert "best.safetensors is not the file that the run wrote" in result.stderr


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("datasets", ["digits", "mnist", "fashion-mnist"]),
        ("models", ["small", "lenet5", "p1", "resnet20"]),
        ("recipes", ["demo"]),
        ("augmentations", ["auto", "none", "digits", "photos"]),
    ],
)
def test_list_shows_every_name_with_a_line_about_it(kind: str, names: list[str]) -> None:
    lines = shell("list", kind).stdout.splitlines()
    for name in names:
        assert any(line.split()[0] == name and len(line.split()) > 1 for line in lines)
    assert set(names) <= set(json.loads(shell("list", kind, "--json").stdout))


def test_list_augmentations_names_every_key_of_the_section() -> None:
    assert set(AUGMENTATION_KEYS) == set(AugmentationSettings.model_fields) - {"preset"}


def test_the_summary_of_a_name_a_list_and_a_module() -> None:
    assert fovea.summary("p3").parameters == 35_445_522
    assert "14x14x6" in str(fovea.summary("lenet5"))
    assert fovea.summary(["flatten", "dense classes"], (4, 4, 1), 2).parameters == 34
    assert fovea.summary(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))).parameters == 7850
    with pytest.raises(fovea.ModelError, match="whose input is"):
        fovea.summary(["dense 10"])
