"""report.html: one page that needs nothing else, whatever the classes and files are called."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

import fovea
from fovea import faults
from fovea.cli import app
from fovea.evaluation.intervals import mean_score
from fovea.files import file_digest
from fovea.reporting.audit_section import audit_sections
from fovea.reporting.console import result_lines
from fovea.reporting.sections import caveat_of, chose_its_epoch, interval_words
from fovea.runfolder import read_manifest, write_manifest
from fovea.runview import Run
from fovea.settings import LAST_EPOCH
from tests.conftest import bars

EVIL = ("<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>", "$x^2 {{ 7 * 7 }} & 龍")

pytestmark = pytest.mark.pictures


def shell(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def evil_folder(root: Path) -> Path:
    """Class folders and files with names that a careless page would run."""
    images, labels = bars(90)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = EVIL[label].replace("/", "∕")
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name / f"<b>{row}.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def _without_figures() -> Iterator[None]:
    """The runs here have a page, which is drawn, and no figure files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fovea.runs.write_figures", lambda run: None)
        yield


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run on the evil folder: it makes mistakes, which are shown with their names."""
    root = tmp_path_factory.mktemp("evil")
    return fovea.train(evil_folder(root / "data"), epochs=1, lr=1e-6, threads=1, verbose=False, out=root / "runs")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A bad and a good run on the same images."""
    out = tmp_path_factory.mktemp("pair")
    options: dict[str, Any] = {"threads": 1, "verbose": False, "out": out}
    bad = fovea.train(bars(150), epochs=1, lr=1e-6, name="bad", **options)
    return bad, fovea.train(bars(150), epochs=8, name="good", **options)


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_begins_with_the_result_and_its_error_bar(pair: tuple[Run, Run]) -> None:
    good = pair[1]
    page = Page(good.path / "report.html")
    score = good.test_accuracy
    assert score is not None
    assert f"{score.value:.2%}" in page.text.split("Learning curves")[0]
    assert f"{score.low:.2%} to {score.high:.2%}" in page.text.split("Learning curves")[0]
    for title in ("Confusion matrix", "Worst mistakes", "Classes", "Data", "Model", "Settings", "Make it again"):
        assert title in page.text
    for value in ("torch 2", "seed", f"{good.result['parameters']:,}", good.record["fingerprints"]["train"]):
        assert value in page.text


def test_names_stay_text(evil: Run) -> None:
    page = Page(evil.path / "report.html")
    assert not page.all("script")
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    for name in evil.classes:
        assert name[:12] in page.text
    assert "<b>" in page.text  # of the file names: no element
    assert not page.all("b")


def test_the_page_needs_no_other_file_and_no_network(evil: Run) -> None:
    page = Page(evil.path / "report.html")
    targets = [attributes.get(key) for _, attributes in page.elements for key in ("src", "href", "xlink:href")]
    assert all(target.startswith(("data:", "#")) for target in targets if target)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not page.all("link")


def test_every_picture_is_described_and_every_id_is_there_once(pair: tuple[Run, Run]) -> None:
    page = Page(pair[0].path / "report.html")
    assert all(image.get("alt") for image in page.all("img"))
    assert all(svg.get("aria-label") for svg in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = [str(a["href"])[1:] for a in page.all("a")]
    assert set(inside) <= set(ids)


@pytest.mark.slow
def test_many_classes_of_large_noisy_photos_stay_under_three_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
    classes = np.arange(400) % 100
    run = fovea.train((images, classes), model="p4-dense", epochs=1, report=False, verbose=False, out=tmp_path)
    run.write_report()
    assert (run.path / "report.html").stat().st_size < 3_000_000
    page = Page(run.path / "report.html")
    assert "Most frequent confusions" in page.text
    assert len(page.all("td")) < 5_000


def test_writing_the_page_again_changes_the_manifest_for_it_alone(pair: tuple[Run, Run], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair[1].path, tmp_path / "again"))
    before = read_manifest(folder)
    (folder / "report.html").unlink()
    assert shell("report", str(folder)).stdout == f"{folder / 'report.html'}\n"
    after = read_manifest(folder)
    assert after["report.html"] == file_digest(folder / "report.html")
    assert {name for name in after if after[name] != before[name]} <= {"report.html"}


READ = (
    "config.yaml", "classes.json", "environment.json", "metrics.csv", "log.jsonl", "best.safetensors", "result.json",
    "predictions-val.npz", "predictions-test.npz", "findings.json", "examples.npz", "calibration.json", "slices.json",
)  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", READ)
def test_a_piece_that_is_missing_or_was_changed_is_named(pair: tuple[Run, Run], tmp_path: Path, name: str) -> None:
    for change in ("remove", "cut", "flip"):
        folder = Path(shutil.copytree(pair[0].path, tmp_path / change))
        whole = (folder / name).read_bytes()
        if change == "remove":
            (folder / name).unlink()
        else:
            half = len(whole) // 2
            changed = whole[:half] if change == "cut" else whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
            (folder / name).write_bytes(changed)
        result = shell("report", str(folder))
        assert result.exit_code == 2, (name, change)
        assert name in result.stderr
        assert "Traceback" not in result.stderr


def test_a_damaged_manifest_and_a_run_that_was_broken_off_are_refused(pair: tuple[Run, Run], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair[0].path, tmp_path / "run"))
    (folder / "manifest.json").write_text("{}")
    result = shell("report", str(folder))
    assert (result.exit_code, "manifest.json is damaged" in result.stderr) == (2, True)
    (folder / "manifest.json").unlink()
    result = shell("report", str(folder))
    assert (result.exit_code, "To go on: fovea train --resume" in result.stderr) == (2, True)


@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_is_exit_1_and_leaves_nothing(
    pair: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.VARIABLE, "ENOSPC@page.html+100")
    faults.forget()
    result = shell("report", str(pair[1].path), "--output", str(tmp_path / "page.html"))
    faults.forget()
    assert result.exit_code == 1
    assert "could not be written" in result.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_of_a_run_and_no_device_is_written_over(pair: tuple[Run, Run], tmp_path: Path) -> None:
    folder = pair[1].path
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for target in (folder / "best.safetensors", folder / "result.json", Path("/dev/null"), tmp_path, tmp_path / "a/b"):
        result = shell("report", str(folder), "--output", str(target))
        assert result.exit_code == 2, target
        assert str(target) in result.stderr
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_two_runs_are_held_against_each_other_on_the_same_images(pair: tuple[Run, Run], tmp_path: Path) -> None:
    bad, good = pair
    result = shell("report", str(bad.path), str(good.path), "--json")
    (path,) = json.loads(result.stdout)["written"]
    assert Path(path) == bad.path.parent / "compare-bad-good.html"
    page = Page(Path(path))
    assert "good is better than bad" in page.text
    assert "exact McNemar p" in page.text
    first, second = bad.predictions(), good.predictions()
    points = (second.correct.mean() - first.correct.mean()) * 100
    assert f"{points:+.2f} points" in page.text
    assert "training.epochs" in page.text
    assert "optimizer.lr" in page.text
    assert "callbacks.patience" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_equal_runs_cannot_be_told_apart_and_other_images_are_not_compared(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    good = pair[1]
    twin = Path(shutil.copytree(good.path, tmp_path / "twin"))
    shell("report", str(good.path), str(twin), "--output", str(tmp_path / "page.html"))
    assert "same answer to each" in Page(tmp_path / "page.html").text
    other = fovea.train(bars(90, seed=5), epochs=1, report=False, verbose=False, out=tmp_path, name="other")
    shell("report", str(good.path), str(other.path), "--output", str(tmp_path / "page.html"))
    page = Page(tmp_path / "page.html")
    assert "cannot be held against each other" in page.text
    assert "McNemar" not in page.text


def test_a_run_is_not_compared_with_itself(pair: tuple[Run, Run]) -> None:
    result = shell("report", str(pair[0].path), str(pair[0].path))
    assert result.exit_code == 2
    assert "named twice" in result.stderr


def test_a_study_of_seeds_has_a_page_with_its_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.runs.draw_run", lambda run: None)  # the pages of its runs are those of any run
    study = fovea.train(bars(150), seeds=2, epochs=2, confidence=0.9, verbose=False, out=tmp_path)
    assert study.test_accuracy is not None
    assert study.test_accuracy == mean_score(study.accuracies("test"), 0.9)
    assert "mean and 90% interval of the mean" in result_lines(study)
    page = Page(study.path / "report.html")
    assert "with its 90% interval" in page.text
    assert interval_words(study.runs[0].test_accuracy) in page.text
    assert "95% interval" not in page.text
    assert f"{study.test_accuracy.value:.2%}" in page.text
    assert "seed 0" in page.text
    assert shell("report", str(study.path)).exit_code == 0
    assert "_repr_html_" in dir(study)
    assert "mean" in study._repr_html_()


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_test_says_what_it_is_judged_by(tmp_path: Path) -> None:
    run = fovea.train(bars(150), test=False, epochs=1, report=False, verbose=False, out=tmp_path)
    run.write_report()
    text = Page(run.path / "report.html").text
    assert "validation images rightly" in text
    assert "the test stayed closed" in text
    assert f"validation accuracy  {run.val_accuracy}, 95% interval" in result_lines(run)


def test_validation_images_are_said_to_choose_the_epoch_only_where_they_did() -> None:
    assert "chose the epoch" in caveat_of("val", 0)
    assert caveat_of("val", 0, None, chose=False) == "The test stayed closed."
    for chosen_by, chose in (("val_accuracy", True), (LAST_EPOCH, False), ("train_loss", False)):
        assert chose_its_epoch(SimpleNamespace(result={"chosen_by": chosen_by})) == chose  # type: ignore[arg-type]


def test_an_audit_that_found_nothing_does_not_deny_what_was_found_before_it() -> None:
    audit = {"findings": [], "splits": ["train", "test"], "near_duplicates": {"looked_up": 0, "count": 0}}
    for findings, words in (
        ([], "Nothing was found."),
        ([{"id": "leakage-duplicates"}], "but what stands above: leak"),
    ):
        (section,) = audit_sections(SimpleNamespace(audit=audit, findings=findings))  # type: ignore[arg-type]
        assert words in str(section.blocks[0])


def test_the_call_that_the_page_names_for_arrays_trains_the_same_weights_again(
    pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fovea.runs.draw_run", lambda run: None)
    good = pair[1]
    call = next(line for line in Page(good.path / "report.html").text.splitlines() if "fovea.train(" in line)
    images, labels = bars(150)
    again = eval(call, {"fovea": fovea, "images": images, "labels": labels})
    assert (again.path / "best.safetensors").read_bytes() == (good.path / "best.safetensors").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_own_modules_and_arrays_for_the_test_are_named_in_the_call_that_trains_again(tmp_path: Path) -> None:
    def module() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))

    test = bars(30, seed=3)
    run = fovea.train(bars(90), test_data=test, model=module(), epochs=2, report=False, verbose=False, out=tmp_path)
    run.write_report()
    text = Page(run.path / "report.html").text
    (call,) = [line for line in text.splitlines() if "fovea.train(" in line]
    images, labels = bars(90)
    known = {"images": images, "labels": labels, "test_images": test[0], "test_labels": test[1], "module": module()}
    again = eval(call, {"fovea": fovea, **known})
    assert (again.path / "best.safetensors").read_bytes() == (run.path / "best.safetensors").read_bytes()
    (answer,) = [line for line in text.splitlines() if "fovea.load_model(" in line]
    assert len(eval(answer, {"fovea": fovea, **known})) == 90


@pytest.mark.usefixtures("undrawn")
def test_what_was_forced_stands_on_the_page(pair: tuple[Run, Run], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair[1].path, tmp_path / "forced"))
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "changed_on_the_way": ["threads were 2, now 1"]}))
    write_manifest(folder)
    shell("report", str(folder))
    text = Page(folder / "report.html").text
    assert "gone on with by force: threads were 2, now 1" in text
    assert "same bytes" not in text


def test_a_names_quotes_and_colours_stay_as_they_are_in_charts(tmp_path: Path) -> None:
    names = np.array(['id="x" url(#y)', "style #0072b2", "plain"])
    images, labels = bars(90)
    run = fovea.train((images, names[labels]), epochs=1, report=False, verbose=False, out=tmp_path)
    run.write_report()
    text = Page(run.path / "report.html").text
    for name in names:
        assert text.count(name) > 3


def test_options_that_belong_to_the_other_kind_of_output_are_refused(pair: tuple[Run, Run]) -> None:
    folder = str(pair[0].path)
    for arguments in (["--format", "svg"], ["--normalize"], ["--out", "x"], ["--figure", "curves", "--output", "x"]):
        assert shell("report", folder, *arguments).exit_code == 2
    assert not Path("x").exists()


def test_curves_of_several_runs_are_one_figure_and_their_others_lie_in_a_folder_each(pair: tuple[Run, Run]) -> None:
    folders = [str(run.path) for run in pair]
    result = shell("report", *folders, "--figure", "curves", "--figure", "confusion", "--out", "figures")
    assert result.stdout.splitlines() == [
        "figures/compare-bad-good-curves.png",
        "figures/bad/confusion_matrix.png",
        "figures/good/confusion_matrix.png",
    ]


def test_notebooks_show_runs_scores_and_data_with_their_names_escaped(evil: Run) -> None:
    assert evil.test_accuracy is not None
    sets = fovea.load_data((*bars(60),))
    for shown in (evil._repr_html_(), evil.test_accuracy._repr_html_(), sets._repr_html_()):
        assert "<script" not in shown
    named = fovea.ImageSet(np.zeros((2, 3, 3, 1), np.uint8), np.array([0, 1]), EVIL[:2], np.arange(2))
    shown = named._repr_html_()
    assert "&lt;script&gt;" in shown
    assert re.search(r'<img alt="2 of the images" src="data:image/png;base64,', shown)
