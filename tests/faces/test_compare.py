"""`fovea compare`: runs on the same images, recipes over paired seeds, refusals that say why."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import bars, shell

import fovea
from fovea import sidebyside
from fovea.evaluation.ledger import read_looks
from fovea.evaluation.paired import mcnemar, paired_over_seeds
from fovea.evaluation.predictions import predictions_as_npz
from fovea.files import write_bytes
from fovea.reporting.compared import comparison_lines
from fovea.runfolder import write_manifest
from fovea.runs import Given
from fovea.runview import Run
from fovea.settings import LAST_EPOCH, Recipe, with_settings

OPTIONS: dict[str, Any] = {"threads": 1, "verbose": False, "report": False, "model": "p4-dense"}
SMALL = ["--set", "model=p4-dense", "--set", "threads=1", "--set", "report=false"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A bad and a good run on the same images."""
    out = tmp_path_factory.mktemp("pair")
    bad = fovea.train(bars(300), epochs=1, lr=1e-6, name="bad", out=out, **OPTIONS)
    return bad, fovea.train(bars(300), epochs=6, name="good", out=out, **OPTIONS)


def changed(run: Run, folder: Path, **changes: Any) -> Run:
    """A copy of a run whose test predictions are others."""
    copy = Path(shutil.copytree(run.path, folder))
    found = run.predictions("test")
    given = {"logits": found.logits, "labels": found.labels, "ids": found.ids, "classes": found.classes} | changes
    write_bytes(copy / "predictions-test.npz", predictions_as_npz(fovea.Predictions(**given)))
    write_manifest(copy)
    return fovea.load_run(copy)


def test_two_runs_get_a_verdict_in_a_sentence_and_who_changed_sides(pair: tuple[Run, Run], tmp_path: Path) -> None:
    bad, good = pair
    found = fovea.compare(bad, good)
    expected = mcnemar(bad.predictions(), good.predictions())
    assert isinstance(found.pairs[0].test, type(expected))
    assert found.pairs[0].test == expected
    assert found.verdict == "better"
    assert fovea.compare(good, bad).verdict == "worse"
    assert found.sentence.startswith("good is better than bad: ")
    gained = [image for image in found.pairs[0].changed if image.is_gained]
    assert (len(gained), len(found.pairs[0].changed)) == (
        expected.only_second,
        expected.only_first + expected.only_second,
    )
    result = shell("compare", str(bad.path), str(good.path), "--out", str(tmp_path / "o"))
    assert result.exit_code == 0, result.stderr
    assert "good is better than bad" in result.stdout
    with (tmp_path / "o" / "compare-bad-good.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["right"] == "second" for row in rows) == expected.only_second
    assert {row["id"] for row in rows} == {image.id for image in found.pairs[0].changed}
    assert "Images that changed sides" in (tmp_path / "o" / "compare-bad-good.html").read_text()


def test_json_is_one_object_and_the_text_fits_sixty_columns(
    pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [str(run.path) for run in pair]
    value = json.loads(shell("compare", *folders, "--json").stdout)
    (one,) = value["comparisons"]
    assert set(one["difference"]) == {"value", "low", "high", "count"}
    assert one["verdict"] == "better"
    assert one["p_value"] >= one["mid_p_value"]
    assert len(one["changed"]) == one["only_first"] + one["only_second"]
    assert value["test_set"]["looks"] == 2
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, shell("compare", *folders).stdout.splitlines())) <= 60


def test_equal_answers_are_said_to_be_equal_and_near_ones_need_more_images(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    good = pair[1]
    same = changed(good, tmp_path / "same")
    found = fovea.compare(good, same)
    assert found.verdict == "cannot be told apart"
    assert "same answer to each" in found.sentence
    assert found.pairs[0].needed is None
    logits = good.predictions().logits.copy()
    right = np.flatnonzero(good.predictions().correct)[:2]
    logits[right] = -logits[right]
    near = fovea.compare(good, changed(good, tmp_path / "near", logits=logits))
    assert near.pairs[0].test.only_first == 2
    assert "more such images" in near.sentence
    assert near.verdict == "cannot be told apart"


def test_other_images_other_classes_and_one_run_are_refused(pair: tuple[Run, Run], tmp_path: Path) -> None:
    good = pair[1]
    other = fovea.train(bars(300, seed=5), epochs=1, split_seed=4, out=tmp_path, name="other", **OPTIONS)
    result = shell("compare", str(good.path), str(other.path))
    assert result.exit_code == 2
    assert "good and other cannot be compared" in result.stderr
    assert "ids are common to both" in result.stderr
    renamed = changed(good, tmp_path / "renamed", classes=("0", "1", "x"))
    assert "other classes" in shell("compare", str(good.path), str(renamed.path)).stderr
    for arguments, message in (
        ([str(good.path)], "nothing to be compared with"),
        ([str(good.path), str(good.path)], "named twice"),
        ([str(good.path), "demo"], "Only things of one kind"),
        ([str(good.path), str(other.path), "--seeds", "3"], "--seeds belongs to recipes"),
        ([str(good.path), str(other.path), "--set", "epochs=3"], "belong to recipes"),
    ):
        result = shell("compare", *arguments)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_a_few_images_a_missing_class_and_a_single_class_are_said(pair: tuple[Run, Run], tmp_path: Path) -> None:
    good = pair[1]
    found = good.predictions()

    def only(rows: Any, name: str) -> Run:
        given = {"logits": found.logits[rows], "labels": found.labels[rows], "ids": found.ids[rows]}
        return changed(good, tmp_path / name, **given)

    twenty = fovea.compare(only(np.arange(20), "twenty"), only(np.arange(20), "again"))
    assert "20 images can show no difference under 30 points." in twenty.notes
    two = np.flatnonzero(found.labels != 1)
    assert "No image is of the class '1': nothing is said about it." in fovea.compare(only(two, "two"), good).notes
    one = np.flatnonzero(found.labels == 0)
    assert any("All images are of the class '0'" in note for note in fovea.compare(only(one, "one"), good).notes)


def test_several_runs_are_held_against_the_first_and_adjusted(pair: tuple[Run, Run], tmp_path: Path) -> None:
    bad, good = pair
    same = changed(bad, tmp_path / "same")
    found = fovea.compare(bad, good, same)
    assert [each.second_name for each in found.pairs] == ["good", "same"]
    assert found.pairs[0].adjusted_p == pytest.approx(min(2 * found.pairs[0].test.p_value, 1))
    assert found.pairs[1].adjusted_p == 1.0
    assert ["bad or good" in found.limits[0], "bad or same" in found.limits[1]] == [True, True]  # each pair its own


def test_evaluate_says_who_has_looked_and_what_the_images_cannot_show(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=bars(150)[0], y=bars(150)[1])
    for epochs in (1, 2):
        fovea.train(tmp_path / "set.npz", epochs=epochs, out=tmp_path, name=f"e{epochs}", **OPTIONS)
    value = json.loads(shell("evaluate", str(tmp_path / "e1"), "--json").stdout)
    assert (value["looks"], value["settings"]) == (3, 2)
    assert value["test_limits"]["smallest_difference"] > 0
    text = shell("evaluate", str(tmp_path / "e1")).stdout
    assert "was opened 4 times from this folder; 2 different settings looked at it" in text
    assert "test images cannot show a difference under" in text


def test_runs_whose_test_stayed_closed_are_compared_on_validation(tmp_path: Path) -> None:
    runs = [
        fovea.train(bars(150), epochs=1, seed=seed, test=False, out=tmp_path, name=f"r{seed}", **OPTIONS)
        for seed in (0, 1)
    ]
    found = fovea.compare(*runs)
    assert found.split == "val"
    assert "compared on validation images, which chose the epochs." in found.notes[0]
    for run in found.runs.values():
        run.result["chosen_by"] = LAST_EPOCH
    assert found.notes[0].endswith("compared on validation images.")
    assert found.looks is None


# recipes -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One epoch against six, four seeds."""
    out = tmp_path_factory.mktemp("varied")
    return fovea.compare(bars(300), seeds=4, vary={"epochs": [1, 6]}, out=out, **OPTIONS)


def test_paired_seeds_share_all_but_what_is_compared(varied: Any) -> None:
    first, second = varied.arms
    for one, other in zip(first.runs, second.runs, strict=True):
        assert one.split.fingerprint == other.split.fingerprint
        assert one.recipe.training.seed == other.recipe.training.seed
    assert len({run.split.fingerprint for run in first.runs}) == 4
    assert len({run.record["fingerprints"]["test"] for run in (*first.runs, *second.runs)}) == 1
    assert len({run.record["fingerprints"]["val"] for run in first.runs}) == 4


def test_the_figures_are_those_of_the_runs(varied: Any) -> None:
    columns = [[run.test_accuracy.value for run in arm.runs] for arm in varied.arms]
    expected = paired_over_seeds(*columns)
    assert varied.pairs[0].test == expected
    assert varied.means[1].value == pytest.approx(np.mean(columns[1]))
    wins = sum(b > a for a, b in zip(*columns, strict=True))
    assert varied.pairs[0].probability.count == 4
    assert varied.verdict == ("better" if expected.is_sure and wins == 4 else "cannot be told apart")
    assert all(len(line) <= 60 for line in comparison_lines(varied, 60).splitlines() if line != str(varied.path))
    value = json.loads(json.dumps(varied.as_json()))
    assert value["kind"] == "recipes"
    assert value["recipes"][1]["standard_deviation"] == pytest.approx(np.std(columns[1], ddof=1))
    assert not any("best" in key for key in value)


def test_the_same_call_reads_back_and_more_seeds_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    begin = sidebyside.new_run

    def counting(plan: Any, raw: Any, folder: Path, given: Any) -> Run:
        trained.append(folder.name)
        return begin(plan, raw, folder, given)

    monkeypatch.setattr(sidebyside, "new_run", counting)
    call: dict[str, Any] = {"vary": {"epochs": [1, 2]}, "out": tmp_path, **OPTIONS}
    two = fovea.compare(bars(90), seeds=2, **call)
    assert trained == [f"epochs={epochs}-seed-{seed}" for seed in (0, 1) for epochs in (1, 2)]
    again = fovea.compare(bars(90), seeds=2, **call)
    assert (len(trained), again.path, again.pairs[0].test) == (4, two.path, two.pairs[0].test)
    three = fovea.compare(bars(90), seeds=3, **call)
    assert trained[4:] == ["epochs=1-seed-2", "epochs=2-seed-2"]
    assert three.path == two.path
    assert fovea.compare(bars(90), seeds=2, **call).seeds == (0, 1)
    assert fovea.compare(three.path).seeds == (0, 1, 2)
    other = fovea.compare(bars(120), seeds=2, **call)
    assert other.path == tmp_path / "compare-arrays-epochs-2"


class Stop(fovea.Callback):
    """Ctrl-C after an epoch."""

    def on_epoch(self, state: Any, metrics: Any) -> None:
        raise KeyboardInterrupt


def test_a_comparison_that_is_broken_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, count = sidebyside.new_run, 0

    def third_breaks(plan: Any, raw: Any, folder: Path, given: Any) -> Run:
        nonlocal count
        count += 1
        if count == 3:
            given = Given(verbose=False, watch=lambda plan, folder: [Stop()])
        return begin(plan, raw, folder, given)

    call: dict[str, Any] = {"seeds": 2, "vary": {"epochs": [2, 3]}, **OPTIONS}
    whole = fovea.compare(bars(90), out=tmp_path / "whole", **call)
    monkeypatch.setattr(sidebyside, "new_run", third_breaks)
    with pytest.raises(KeyboardInterrupt):
        fovea.compare(bars(90), out=tmp_path / "broken", **call)
    folder = tmp_path / "broken" / "compare-arrays-epochs"
    with pytest.raises(fovea.DataError, match="To go on: type the fovea compare command again"):
        fovea.compare(folder / "epochs=2-seed-0", folder / "epochs=2-seed-1")
    assert "the command that began it goes on" in shell("train", "--resume", str(folder)).stderr
    with pytest.raises(fovea.DataError, match="was broken off before its end"):
        fovea.compare(folder)
    found = fovea.compare(bars(90), out=tmp_path / "broken", **call)
    assert count == 4  # the third was gone on with, not begun again
    for one, other in zip(whole.arms, found.arms, strict=True):
        for mine, theirs in zip(one.runs, other.runs, strict=True):
            assert (mine.path / "best.safetensors").read_bytes() == (theirs.path / "best.safetensors").read_bytes()
    assert len(read_looks(found.arms[0].runs[0])) == 4  # the ledger lies beside the comparison


@pytest.mark.parametrize(
    ("happens", "raised", "words"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "type the fovea compare command again"),
        (SystemExit(143), SystemExit, "type the fovea compare command again"),
        (BrokenProcessPool("a child died"), fovea.RunFailedError, "type the fovea compare command again"),
        (fovea.DataError("no such file"), fovea.DataError, ""),
    ],
)
def test_trainings_side_by_side_are_asked_to_stop_when_one_of_them_or_their_parent_is(
    happens: BaseException,
    raised: type[BaseException],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Any] = []

    class Pool:
        def __init__(self, jobs: int, context: Any, begin: Any, given: Any) -> None:
            asked.extend([given[0], False])

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, work: Any, cell: Any) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(happens)
            return future

        def shutdown(self, wait: bool, cancel_futures: bool) -> None:
            asked[1] = asked[0].is_set() and wait and cancel_futures

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Pool)
    np.savez(tmp_path / "set.npz", x=bars(90)[0], y=bars(90)[1])
    options = OPTIONS | {"verbose": True}
    with pytest.raises(raised):
        fovea.compare(tmp_path / "set.npz", vary={"epochs": [1, 2]}, seeds=2, jobs=2, out=tmp_path, **options)
    assert asked[1]
    told = capsys.readouterr().err
    assert words in told
    assert ("to go on" in told) == bool(words)


def test_a_training_beside_others_saves_its_state_when_its_parent_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked:
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > 2  # before it begins, after the first step

    np.savez(tmp_path / "set.npz", x=bars(90)[0], y=bars(90)[1])
    settings = {"source": str(tmp_path / "set.npz"), "model": "p4-dense", "threads": 1, "batch_size": 20}
    cell = sidebyside.Cell(with_settings(Recipe(), settings), tmp_path / "one")
    asked = Asked()
    monkeypatch.setattr(sidebyside, "_asked_to_stop", asked)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with pytest.raises(SystemExit):
            sidebyside.train_alone(cell)
        looks = asked.looks
        with pytest.raises(SystemExit):  # one that waited for its turn does not begin
            sidebyside.train_alone(cell)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (looks, asked.looks) == (3, 4)
    assert json.loads((tmp_path / "one" / "log.jsonl").read_text().splitlines()[-1])["step"] == 2
    assert (tmp_path / "one" / "last" / "epoch-0000-batch-0002").is_dir()


def test_a_process_that_trains_beside_others_does_not_outlive_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Parent:
        def join(self) -> None:
            seen.append("the parent has ended")

    def leave(code: int) -> None:
        seen.append((code, asked.is_set(), sidebyside._turn.locked()))

    asked = threading.Event()
    monkeypatch.setattr("os._exit", leave)
    thread = threading.Thread(target=sidebyside._end_with, args=(Parent(), asked))
    with sidebyside._turn:  # while something is trained
        thread.start()
        assert asked.wait(5)
        assert seen == ["the parent has ended"]
    thread.join()
    assert seen[1:] == [(143, True, True)]


@pytest.mark.slow
def test_side_by_side_gives_the_same_bytes_as_one_after_another(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=bars(90)[0], y=bars(90)[1])
    arguments = ["compare", str(tmp_path / "set.npz"), "--vary", "epochs=1,2", "--seeds", "2", *SMALL]
    folders = []
    for jobs in ("1", "2"):
        result = shell(*arguments, "--jobs", jobs, "--out", str(tmp_path / jobs), "--json")
        assert result.exit_code == 0, result.stderr
        folders.append(Path(json.loads(result.stdout)["run"]))
    names = [sorted(path.name for path in folder.glob("*-seed-*")) for folder in folders]
    assert names[0] == names[1]
    assert len(names[0]) == 4
    for name in names[0]:
        assert (folders[0] / name / "best.safetensors").read_bytes() == (
            folders[1] / name / "best.safetensors"
        ).read_bytes()


def test_studies_of_seeds_are_compared_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    studies = [
        fovea.train(bars(150), seeds=seeds, epochs=epochs, out=tmp_path, name=f"e{epochs}", **OPTIONS)
        for seeds, epochs in ((3, 1), (2, 4))
    ]
    found = fovea.compare(*studies)
    assert found.seeds == (0, 1)
    assert any("The validation split is the same in all" in note for note in found.notes)
    assert any("2 seeds can call no recipe better" in note for note in found.notes)
    assert found.verdict == "cannot be told apart"


@pytest.mark.usefixtures("undrawn")
def test_the_page_of_runs_on_images_in_another_order_shows_who_changed_sides(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    bad, found = pair[0], pair[1].predictions()
    rows = np.arange(len(found))[::-1][:40]
    part = changed(
        pair[1], tmp_path / "part", logits=found.logits[rows], labels=found.labels[rows], ids=found.ids[rows]
    )
    result = shell("compare", str(bad.path), str(part.path), "--out", "o")
    assert result.exit_code == 0, result.stderr
    assert "the 40 that both have are compared" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo"], "nothing to be compared with"),
        (["demo", "demo"], "named twice"),
        (["demo", "digits-standard", "--seeds", "1"], "needs two seeds"),
        (["digits", "--vary", "epochs=3"], "not of the form"),
        (["digits", "--vary", "epochs=3,3"], "names a value twice"),
        (["digits", "--vary", "epochs=3,4", "--vary", "lr=0.1,0.2,0.3"], "as many for each setting"),
        (["digits", "--vary", "seed=0,1"], "the seeds differ from run to run"),
        (["digits", "demo", "--vary", "epochs=1,2"], "name one"),
        (["digits", "--vary", "epoch=1,2"], "epochs"),
        (["digits", "--vary", "epochs=1,2", "--jobs", "0"], "jobs 0"),
        (["digits", "nosuchrecipe"], "nosuchrecipe"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_nothing_is_written(arguments: list[str], message: str) -> None:
    result = shell("compare", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("runs").exists()


def test_recipes_on_other_test_images_are_refused_before_training() -> None:
    for name, count in (("a", 90), ("b", 120)):
        np.savez(f"{name}.npz", x=bars(count)[0], y=bars(count)[1])
    result = shell("compare", "a.npz", "b.npz", *SMALL)
    assert result.exit_code == 2
    assert "other test images or classes" in result.stderr
    assert not Path("runs").exists()


def test_the_page_of_recipes_says_the_verdict_and_every_seed(varied: Any) -> None:
    assert shell("report", str(varied.path)).exit_code == 0
    text = (varied.path / "report.html").read_text()
    assert f"{varied.pairs[0].test.difference.value * 100:+.2f} points" in text
    assert all(f"{value:.2%}" in text for arm in varied.arms for value in arm.accuracies("test"))
    settings = text.split("Settings that differ")[-1].split("</table>")[0]
    assert "training.epochs" in settings
    assert "training.seed" not in settings
