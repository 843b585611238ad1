"""The figures of a run: one call, one option and a file each, sane with 2, 10 and 100 classes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fovea
from fovea.cli import app
from fovea.evaluation.metrics import class_scores
from fovea.evaluation.predictions import Predictions
from fovea.reporting.classbars import draw_class_accuracy, draw_class_counts
from fovea.reporting.confusion import draw_confusion
from fovea.reporting.curves import draw_curves_of_runs
from fovea.reporting.figures import FIGURES, ON_DEMAND
from fovea.reporting.style import figure_bytes
from fovea.runview import Run
from tests.conftest import bars

pytestmark = pytest.mark.pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fovea.runs.write_run_report", lambda run: None)  # the page is drawn elsewhere
        return fovea.train(bars(150), epochs=2, lr=1e-4, threads=1, verbose=False, out=tmp_path_factory.mktemp("runs"))


def test_every_figure_is_part_of_the_run_and_can_be_drawn_again(run: Run, tmp_path: Path) -> None:
    for name, (file, _) in FIGURES.items():
        assert (run.path / file).is_file() == (name not in ON_DEMAND)
        result = CliRunner().invoke(app, ["report", str(run.path), "--figure", name, "--out", str(tmp_path)])
        assert result.stdout == f"{tmp_path / file}\n"
        again = run.path / file if name not in ON_DEMAND else tmp_path / file
        assert (tmp_path / file).read_bytes() == again.read_bytes()


def test_svg_figures_hold_their_words_as_text(run: Run, tmp_path: Path) -> None:
    arguments = ["report", str(run.path), "--figure", "all", "--format", "svg", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    drawn = ElementTree.parse(tmp_path / "curves.svg")
    words = ["".join(text.itertext()).strip() for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"loss", "accuracy", "epoch", "training", "validation"} <= set(words)
    assert len(list(tmp_path.glob("*.svg"))) == len(FIGURES) - len(ON_DEMAND)


def test_an_unknown_figure_or_format_is_a_users_mistake(run: Run, tmp_path: Path) -> None:
    for arguments, words in (
        (["--figure", "curve"], "Did you mean 'curves'"),
        (["--figure", "curves", "--format", "gif", "--out", str(tmp_path)], "ends in .png or .svg"),
    ):
        result = CliRunner().invoke(app, ["report", str(run.path), *arguments])
        assert result.exit_code == 2
        assert words in result.stderr


def test_the_methods_of_a_run_give_figures_that_notebooks_show(run: Run) -> None:
    methods = [run.plot_history, run.plot_confusion, run.plot_class_accuracy, run.plot_mistakes]
    methods += [run.plot_class_counts, run.plot_samples, run.plot_augmented]
    methods += [run.plot_calibration, run.plot_coverage, run.plot_saliency]
    for method in methods:
        assert method()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_several_runs_stand_in_one_figure_validation_solid_and_training_dashed(run: Run) -> None:
    above, below = run.plot_history(run).axes
    lines = above.get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert np.array_equal(lines[0].get_ydata(), run.history["val_loss"])
    assert np.array_equal(below.get_lines()[3].get_ydata(), run.history["train_accuracy"])
    many = draw_curves_of_runs({str(number): run.history for number in range(20)})
    assert len(many.axes[0].get_lines()) == 40
    assert not many.legends


def test_the_confusion_matrix_shows_shares_on_demand() -> None:
    matrix = np.array([[3, 1], [0, 4]])
    (axes,) = draw_confusion(matrix, ("a", "b"), "title", normalize=True).axes
    assert [text.get_text() for text in axes.texts] == ["75.0", "25.0", "100"]


@pytest.mark.parametrize("count", [2, 10, 100])
def test_class_figures_stay_sane_with_any_number_of_classes(count: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(count * 5) % count
    classes = tuple(f"$class_{number}$" for number in range(count))
    found = Predictions(rng.normal(size=(len(labels), count)).astype(np.float32), labels, labels, classes)
    scores = class_scores(found)
    accuracy = draw_class_accuracy(scores, 0.5, "title")
    counts = draw_class_counts(np.full((3, count), 5), classes)
    for figure in (accuracy, counts):
        width, height = figure.get_size_inches()
        assert width <= 8
        assert height <= 12
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")
    points = [line for line in accuracy.axes[0].get_lines() if line.get_marker() == "o"]
    shown = [float(line.get_xdata()[0]) for line in points]
    assert shown == sorted(score.recall.value for score in scores if score.recall)[:30]


def test_a_class_without_images_is_not_among_the_lowest() -> None:
    labels = np.arange(20) % 2
    found = Predictions(np.eye(3, dtype=np.float32)[labels], labels, labels, ("a", "b", "c"))
    (axes,) = draw_class_accuracy(class_scores(found), 1.0, "title").axes
    assert axes.get_title() == "title\n1 without images"


def test_the_samples_are_in_colour_or_grey_as_the_images_are(run: Run) -> None:
    with Image.open(run.path / "samples.png") as picture:
        assert picture.width == 1200
