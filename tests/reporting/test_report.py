"""report.html: one page that needs nothing else, whatever the classes and files are called."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import fovea
from fovea.cli import app
from fovea.files import file_digest
from fovea.runfolder import read_manifest
from fovea.runview import Run
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


def test_many_classes_of_large_noisy_photos_stay_under_three_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
    run = fovea.train((images, np.arange(400) % 100), model="p4-dense", epochs=1, verbose=False, out=tmp_path)
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


@pytest.mark.parametrize("gone", ["predictions-test.npz", "examples.npz", "metrics.csv", "environment.json"])
def test_a_missing_piece_is_named(pair: tuple[Run, Run], tmp_path: Path, gone: str) -> None:
    folder = Path(shutil.copytree(pair[1].path, tmp_path / "torn"))
    (folder / gone).unlink()
    result = shell("report", str(folder))
    if gone == "predictions-test.npz":  # then validation is all there is
        assert result.exit_code == 0
        return
    assert result.exit_code == 2
    assert gone in result.stderr


def test_a_page_that_cannot_be_written_is_exit_1_and_leaves_nothing(pair: tuple[Run, Run], tmp_path: Path) -> None:
    result = shell("report", str(pair[1].path), "--output", str(tmp_path / "nowhere" / "page.html"))
    assert result.exit_code == 1
    assert "could not be written" in result.stderr
    assert not list(tmp_path.rglob("*.html"))


def test_two_runs_are_held_against_each_other_on_the_same_images(pair: tuple[Run, Run], tmp_path: Path) -> None:
    bad, good = pair
    result = shell("report", str(bad.path), str(good.path), "--json")
    (path,) = json.loads(result.stdout)["written"]
    assert Path(path) == bad.path.parent / "compare-bad-good.html"
    page = Page(Path(path))
    assert "On such images good is better (exact McNemar test, p" in page.text
    first, second = bad.predictions(), good.predictions()
    points = (second.correct.mean() - first.correct.mean()) * 100
    assert f"{points:+.2f} points" in page.text
    assert "training.epochs" in page.text
    assert "optimizer.lr" in page.text
    assert "callbacks.patience" not in page.text


def test_equal_runs_cannot_be_told_apart_and_other_images_are_not_compared(
    pair: tuple[Run, Run], tmp_path: Path
) -> None:
    good = pair[1]
    twin = Path(shutil.copytree(good.path, tmp_path / "twin"))
    shell("report", str(good.path), str(twin), "--output", str(tmp_path / "page.html"))
    assert "The two cannot be told apart" in Page(tmp_path / "page.html").text
    other = fovea.train(bars(90, seed=5), epochs=1, verbose=False, out=tmp_path, name="other")
    shell("report", str(good.path), str(other.path), "--output", str(tmp_path / "page.html"))
    page = Page(tmp_path / "page.html")
    assert "cannot be held against each other" in page.text
    assert "McNemar" not in page.text


def test_a_run_is_not_compared_with_itself(pair: tuple[Run, Run]) -> None:
    result = shell("report", str(pair[0].path), str(pair[0].path))
    assert result.exit_code == 2
    assert "named twice" in result.stderr


def test_a_study_of_seeds_has_a_page_with_its_mean(tmp_path: Path) -> None:
    study = fovea.train(bars(150), seeds=2, epochs=2, verbose=False, out=tmp_path)
    assert study.test_accuracy is not None
    page = Page(study.path / "report.html")
    assert f"{study.test_accuracy.value:.2%}" in page.text
    assert "seed 0" in page.text
    assert shell("report", str(study.path)).exit_code == 0
    assert "_repr_html_" in dir(study)
    assert "mean" in study._repr_html_()


def test_a_run_without_test_says_what_it_is_judged_by(tmp_path: Path) -> None:
    run = fovea.train(bars(150), test=False, epochs=1, verbose=False, out=tmp_path)
    text = Page(run.path / "report.html").text
    assert "validation images rightly" in text
    assert "the test stayed closed" in text


def test_the_call_that_the_page_names_for_arrays_trains_the_same_weights_again(pair: tuple[Run, Run]) -> None:
    good = pair[1]
    call = next(line for line in Page(good.path / "report.html").text.splitlines() if "fovea.train(" in line)
    images, labels = bars(150)
    again = eval(call, {"fovea": fovea, "images": images, "labels": labels})
    assert (again.path / "best.safetensors").read_bytes() == (good.path / "best.safetensors").read_bytes()


def test_notebooks_show_runs_scores_and_data_with_their_names_escaped(evil: Run) -> None:
    assert evil.test_accuracy is not None
    sets = fovea.load_data((*bars(60),))
    for shown in (evil._repr_html_(), evil.test_accuracy._repr_html_(), sets._repr_html_()):
        assert "<script" not in shown
    named = fovea.ImageSet(np.zeros((2, 3, 3, 1), np.uint8), np.array([0, 1]), EVIL[:2], np.arange(2))
    shown = named._repr_html_()
    assert "&lt;script&gt;" in shown
    assert re.search(r'<img alt="2 of the images" src="data:image/png;base64,', shown)
