"""Test-time augmentation: the views, who is looked at again, and that all who answer, answer alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from tests.conftest import bars
from torch import nn
from typer.testing import CliRunner

import fovea
from fovea.cli import app
from fovea.data.imageset import ImageSet
from fovea.data.load import read_raw
from fovea.data.preprocess import Preprocessor, fit_preprocessor
from fovea.evaluation.modelfile import card_from_json, model_as_bytes
from fovea.evaluation.predictions import Device, look_again, predict
from fovea.evaluation.views import PLAIN, VIEWS, Views, fit_views, margins, views_from_json
from fovea.reporting.comparison import comparison_report
from fovea.reporting.console import result_lines
from fovea.reporting.sections import run_report
from fovea.runview import Run
from fovea.settings import EvaluationSettings, PreprocessingSettings, Recipe, with_settings
from fovea.training.plan import plan_run

SHAPES = [(8, 8, 1), (7, 10, 3), (1, 6, 1), (5, 1, 3)]


def moved(images: torch.Tensor, down: int) -> torch.Tensor:
    """Shifted by one pixel, row by row and column by column."""
    out = torch.empty_like(images)
    height, width = images.shape[2:]

    def source(place: int, side: int) -> int:
        place -= down
        if side == 1 or min(height, width) == 1:
            return min(max(place, 0), side - 1)
        return -place if place < 0 else 2 * (side - 1) - place if place >= side else place

    for row in range(height):
        for column in range(width):
            out[:, :, row, column] = images[:, :, source(row, height), source(column, width)]
    return out


def airbench(net: nn.Module, inputs: torch.Tensor, name: str) -> torch.Tensor:
    """The averages as the paper words them: plain and mirrored, half of the weight on what is not shifted."""

    def look(images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = net(images)
        return 0.5 * out + 0.5 * net(images.flip(-1)) if "flip" in name else out

    if "shift" not in name:
        return look(inputs)
    return 0.5 * look(inputs) + 0.5 * (look(moved(inputs, -1)) + look(moved(inputs, 1))) / 2


def set_and_net(shape: tuple[int, int, int], count: int = 40) -> tuple[ImageSet, Preprocessor, nn.Module]:
    """Random images and a net in which every pixel counts for itself."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    images = ImageSet(pixels, np.arange(count) % 3, ("a", "b", "c"), np.arange(count))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 16), nn.ReLU(), nn.Linear(16, 3))
    return images, fit_preprocessor(pixels, PreprocessingSettings(), None), net


def as_inputs(images: ImageSet, preprocessor: Preprocessor) -> torch.Tensor:
    return preprocessor.to_input(torch.from_numpy(images.images).permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["flip", "shift", "flip+shift"])
def test_answers_are_the_average_over_the_views_of_airbench(shape: tuple[int, int, int], name: str) -> None:
    images, preprocessor, net = set_and_net(shape)
    found = predict(net, images, preprocessor, Device(), 16, Views(name))
    with torch.inference_mode():
        expected = airbench(net, as_inputs(images, preprocessor), name).numpy()
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)
    if (name, shape[1]) != ("flip", 1):  # one column is its own mirror image
        assert not np.allclose(found.logits, predict(net, images, preprocessor, Device()).logits, atol=1e-3)


def test_a_shift_is_a_crop_of_the_reflected_image() -> None:
    image = torch.arange(30.0).view(1, 1, 5, 6)
    padded = F.pad(image, (1, 1, 1, 1), "reflect")
    assert torch.equal(VIEWS["shift"][1].of(image), padded[:, :, 2:, 2:])  # up and to the left
    assert torch.equal(VIEWS["shift"][2].of(image), padded[:, :, :5, :6])  # down and to the right
    assert VIEWS["shift"][1].of(image)[0, 0, 0, 0] == image[0, 0, 1, 1]


@pytest.mark.parametrize("name", list(VIEWS))
def test_the_weights_of_the_views_sum_to_one_and_the_first_is_the_image_as_it_is(name: str) -> None:
    views = VIEWS[name]
    assert sum(view.weight for view in views) == 1
    assert (views[0].shift, views[0].mirrored) == (0, False)


def test_a_whitened_net_sees_views_of_the_image_and_not_of_what_whitening_made_of_it() -> None:
    images, _, net = set_and_net((6, 6, 1))
    preprocessor = fit_preprocessor(images.images, PreprocessingSettings(zca_whitening=True, zca_epsilon=0.01), None)
    mirrored = ImageSet(images.images[:, :, ::-1].copy(), images.labels, images.classes, images.ids)
    found, plain, other = (
        predict(net, each, preprocessor, Device(), views=views).logits
        for each, views in ((images, Views("flip")), (images, PLAIN), (mirrored, PLAIN))
    )
    np.testing.assert_allclose(found, (plain + other) / 2, atol=1e-5)


def fitted(fraction: float) -> tuple[ImageSet, Preprocessor, nn.Module, Views]:
    images, preprocessor, net = set_and_net((8, 8, 1))
    plain = predict(net, images, preprocessor, Device())
    views = fit_views(EvaluationSettings(tta="flip+shift", tta_fraction=fraction), plain.logits)
    return images, preprocessor, net, views


def test_only_the_least_sure_share_is_looked_at_again_and_the_others_keep_their_plain_answer() -> None:
    images, preprocessor, net, views = fitted(0.25)
    plain = predict(net, images, preprocessor, Device()).logits
    every = predict(net, images, preprocessor, Device(), views=Views("flip+shift")).logits
    found = predict(net, images, preprocessor, Device(), views=views).logits
    again = views.unsure(plain)
    assert sorted(again) == sorted(np.argsort(margins(plain))[:10])
    sure = np.setdiff1d(np.arange(40), again)
    assert np.array_equal(found[sure], plain[sure])
    np.testing.assert_allclose(found[again], every[again], atol=1e-6)


def test_a_threshold_above_every_margin_equals_looking_at_all_again() -> None:
    images, preprocessor, net, views = fitted(1)
    assert views == Views("flip+shift")
    every = predict(net, images, preprocessor, Device(), views=views).logits
    high = predict(net, images, preprocessor, Device(), views=Views("flip+shift", 0.5, margin=1e9)).logits
    assert np.array_equal(every, high)


def test_an_answer_does_not_depend_on_the_images_beside_it() -> None:
    images, preprocessor, net, views = fitted(0.3)
    whole = predict(net, images, preprocessor, Device(), views=views).logits
    for size in (1, 7):
        parts = [images.take(np.arange(start, min(start + size, 40))) for start in range(0, 40, size)]
        found = [predict(net, part, preprocessor, Device(), views=views).logits for part in parts]
        np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-6)
    backwards = predict(net, images.take(np.arange(40)[::-1]), preprocessor, Device(), views=views).logits
    np.testing.assert_allclose(backwards[::-1], whole, atol=1e-6)


def leads(*values: float) -> NDArray[np.float32]:
    """Logits of three classes with these margins."""
    return np.array([[0, -1, value] for value in values], np.float32)


def test_the_threshold_stands_half_way_to_the_next_margin_and_equal_margins_stay_together() -> None:
    settings = EvaluationSettings(tta="shift", tta_fraction=0.4)
    assert fit_views(settings, leads(1, 2, 4, 8, 16)).margin == 3
    assert fit_views(settings, leads(1, 2, 2, 2, 16)).margin == 9
    assert fit_views(settings, leads(5, 5, 5, 5, 5)).margin == 5
    tiny = EvaluationSettings(tta="shift", tta_fraction=1e-9)
    assert fit_views(tiny, leads(1, 2, 4)).margin == 1.5
    assert fit_views(EvaluationSettings(tta_fraction=0.4), leads(1, 2)) == PLAIN


def test_looking_again_leaves_the_plain_predictions_as_they_are() -> None:
    images, preprocessor, net, views = fitted(0.5)
    plain = predict(net, images, preprocessor, Device())
    before = plain.logits.copy()
    assert not np.array_equal(look_again(net, images, preprocessor, Device(), 7, views, plain).logits, before)
    assert np.array_equal(plain.logits, before)


def test_views_survive_json() -> None:
    for views in (PLAIN, Views("flip"), Views("flip+shift", 0.1, 1 / 3)):
        assert views_from_json(json.loads(json.dumps(views.as_json()))) == views


# --- in a run --------------------------------------------------------------------------------------------------------


def train(folder: Path, **settings: object) -> Run:
    found = fovea.train(bars(150), epochs=2, threads=1, report=False, verbose=False, out=folder, **settings)
    assert isinstance(found, Run)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("runs"), tta="shift", tta_fraction=0.5)


def raw_images(run: Run, split: str) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = bars(150)[0][run.predictions(split).ids]
    return images


def test_the_model_file_alone_answers_as_the_run_did(trained: Run, tmp_path: Path) -> None:
    alone = fovea.load_model(shutil.copy(trained.path / "best.safetensors", tmp_path / "alone.safetensors"))
    assert alone.card.views == trained.views
    assert trained.views.margin is not None
    stored = trained.predictions("test").logits
    images = raw_images(trained, "test")
    assert np.array_equal(alone.predict(images).logits, stored)
    assert np.array_equal(fovea.load_run(trained.path).predict(images).logits, stored)
    assert "test-time augmentation shift" in repr(alone)
    one_by_one = np.concatenate([alone.predict(image).logits for image in images])
    np.testing.assert_allclose(one_by_one, stored, atol=0.05)  # bf16 where the CPU has it


def test_about_the_share_of_validation_that_was_asked_for_is_looked_at_again(trained: Run) -> None:
    plain = fovea.load_model(trained.path).model
    images = ImageSet(raw_images(trained, "val")[..., None], trained.predictions("val").labels, trained.classes, None)
    found = predict(plain.net, images, plain.preprocessor, trained.device)
    again = trained.views.unsure(found.logits)
    assert len(images) / 2 <= len(again) < len(images)
    same = (trained.predictions("val").logits == found.logits).all(axis=1)
    assert set(np.flatnonzero(~same)) <= set(again)


def test_epochs_are_measured_and_chosen_without_it(trained: Run, tmp_path: Path) -> None:
    plain = train(tmp_path)
    assert (plain.path / "metrics.csv").read_bytes() == (trained.path / "metrics.csv").read_bytes()
    ours, theirs = (load_file(run.path / "best.safetensors") for run in (trained, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert plain.result["tta"] is None
    assert not np.array_equal(plain.predictions("test").logits, trained.predictions("test").logits)


def test_the_final_figures_say_that_they_were_measured_with_it(trained: Run, tmp_path: Path) -> None:
    words = "test-time augmentation shift for the least sure 50% of the answers"
    assert f"measured with {words}, which the figures of the epochs are without" in result_lines(trained)
    assert trained.as_json()["tta"] == {"views": "shift", "fraction": 0.5, "margin": trained.views.margin}
    assert words in repr(trained)
    assert words in trained._repr_html_()


@pytest.mark.usefixtures("undrawn")
def test_the_report_says_it_beside_the_verdict_the_curves_and_the_settings(trained: Run) -> None:
    report = run_report(trained)
    assert "It answered with test-time augmentation shift" in report.sentence
    texts = {section.id: str(section.blocks) for section in report.sections}
    assert "All curves are without test-time augmentation shift" in texts["curves"]
    assert "Answers with test-time augmentation shift" in texts["settings"]
    scores = comparison_report({"one": trained, "other": trained}).sections[0]
    assert "other answers with test-time augmentation shift" in str(scores.blocks)


def test_evaluating_again_gives_the_same_figure_and_says_how(tmp_path: Path) -> None:
    images, labels = bars(150)
    np.savez(tmp_path / "bars.npz", x=images, y=labels)
    run = fovea.train(
        "bars.npz", epochs=1, threads=1, report=False, verbose=False, out=tmp_path, tta="flip+shift", tta_fraction=0.3
    )
    done = CliRunner().invoke(app, ["evaluate", str(run.path), "--json"])
    found = json.loads(done.stdout)
    assert found["test_accuracy"] == run.test_accuracy.as_json()
    assert found["tta"] == run.result["tta"]
    assert "measured with test-time" in CliRunner().invoke(app, ["evaluate", str(run.path)]).stdout


def test_a_module_of_ones_own_and_a_study_answer_with_it_too(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    run = train(tmp_path, model=net, tta="shift")
    images = raw_images(run, "test")
    assert np.array_equal(fovea.load_model(run.path, net).predict(images).logits, run.predictions("test").logits)
    study = fovea.train(bars(150), epochs=1, seeds=2, threads=1, report=False, verbose=False, out=tmp_path, tta="shift")
    assert study.as_json()["tta"] == {"views": "shift", "fraction": 1}
    assert "measured with test-time augmentation shift" in result_lines(study)


def test_a_model_file_that_knows_nothing_of_it_answers_plainly(trained: Run, tmp_path: Path) -> None:
    model = fovea.load_model(trained.path)
    header = model.card.as_json()
    del header["tta"]
    old = tmp_path / "old.safetensors"
    card = card_from_json(header)
    assert card.views == PLAIN
    old.write_bytes(model_as_bytes(load_file(trained.path / "best.safetensors"), card))
    images = raw_images(trained, "test")
    found = fovea.load_model(old).predict(images).logits
    assert not np.array_equal(found, trained.predictions("test").logits)


def test_views_that_this_version_does_not_know_are_refused(trained: Run) -> None:
    header = fovea.load_model(trained.path).card.as_json()
    for strange in ({"views": "crops", "margin": None, "fraction": 1}, {"views": "flip"}, ["flip"]):
        with pytest.raises(fovea.DataError):
            card_from_json({**header, "tta": strange})


# --- settings --------------------------------------------------------------------------------------------------------


def lines_of(**settings: object) -> str:
    return "\n".join(plan_run(with_settings(Recipe(), {"epochs": 1, **settings}), read_raw(bars(150))).lines)


def test_mirroring_what_the_training_never_mirrors_is_warned_of() -> None:
    warning = "mirrors images, which the training never does"
    assert warning in lines_of(tta="flip")
    assert warning in lines_of(tta="flip+shift", augmentation="none")
    assert warning not in lines_of(tta="shift")
    assert warning not in lines_of(tta="flip", augmentation="photos")


def test_the_lines_before_training_say_what_it_will_do() -> None:
    assert "the final answers average 3 views of each image" in lines_of(tta="shift")
    assert "average 6 views of the least sure 25%" in lines_of(tta="flip+shift", tta_fraction=0.25)
    assert "tta_fraction has no effect while tta is none" in lines_of(tta_fraction=0.5)
    assert "tta" not in lines_of()


@pytest.mark.parametrize("bad", [{"tta": "flips"}, {"tta_fraction": 0}, {"tta_fraction": 1.5}])
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(fovea.SettingsError, match=next(iter(bad))):
        with_settings(Recipe(), bad)
