"""best.safetensors: it holds all that is needed to use it, and a damaged one is refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tests.conftest import bars

import fovea
from fovea.runview import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fovea.train(bars(150), epochs=4, threads=1, report=False, verbose=False, out=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def model_file(trained: Run, tmp_path: Path) -> Path:
    """The model file alone, without its run folder."""
    return Path(shutil.copy(trained.path / "best.safetensors", tmp_path / "alone.safetensors"))


def test_the_file_alone_predicts_what_the_run_predicts(trained: Run, model_file: Path) -> None:
    predictor = fovea.load_model(model_file)
    images, labels = bars(60, seed=1)
    found = predictor.predict(images)
    assert np.array_equal(found.logits, trained.predict(images).logits)
    assert (found.predicted == labels).mean() > 0.9
    assert predictor.classes == ("0", "1", "2")
    assert "3 classes, 8x8x1 images" in repr(predictor)


def test_the_card_says_how_good_the_weights_are_and_what_they_were_trained_on(trained: Run) -> None:
    card = fovea.load_model(trained.path).card
    assert card.metrics is not None
    assert trained.test_accuracy is not None
    assert card.metrics["test"]["accuracy"] == trained.test_accuracy.as_json()
    assert card.metrics["epoch"] == trained.result["best_epoch"]
    assert card.data["fingerprints"] == trained.record["fingerprints"]
    assert card.data["images"] == {"train": 108, "val": 12, "test": 30}
    assert card.profile.sizes == ((8, 8),)


def test_every_flipped_bit_is_found(model_file: Path) -> None:
    whole = model_file.read_bytes()
    for place in np.linspace(8, len(whole) - 1, 150).astype(int).tolist():
        model_file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(fovea.UserError) as found:
            fovea.load_model(model_file)
        assert str(model_file) in str(found.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(model_file: Path, share: float) -> None:
    model_file.write_bytes(model_file.read_bytes()[: int(model_file.stat().st_size * share)])
    with pytest.raises(fovea.DataError, match="cannot be read"):
        fovea.load_model(model_file)


def with_header(path: Path, change: dict[str, Any]) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(json.loads(file.read(size))["__metadata__"]["fovea"])
    save_file(load_file(path), path, {"fovea": json.dumps({**header, **change})})


def test_a_later_format_and_a_strangers_file_are_refused_with_what_to_do(model_file: Path) -> None:
    with_header(model_file, {"format_version": 99})
    with pytest.raises(fovea.DataError, match="has the format 99, this Fovea reads 2: install a newer Fovea"):
        fovea.load_model(model_file)
    with_header(model_file, {"format_version": math.inf})
    with pytest.raises(fovea.DataError, match="was not written by Fovea, or is damaged"):
        fovea.load_model(model_file)
    save_file(load_file(model_file), model_file)
    with pytest.raises(fovea.DataError, match="was not written by Fovea"):
        fovea.load_model(model_file)


def test_a_changed_card_is_refused(model_file: Path) -> None:
    with_header(model_file, {"classes": ["2", "1", "0"]})
    with pytest.raises(fovea.DataError, match="is damaged"):
        fovea.load_model(model_file)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "There is no model"),
        (lambda folder: folder.mkdir(), "no run folder with a model"),
    ],
)
def test_what_holds_no_model_is_refused(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "place")
    with pytest.raises(fovea.DataError, match=words):
        fovea.load_model(tmp_path / "place")


def test_a_run_folder_of_a_later_version_is_refused(trained: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.path, tmp_path / "later"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format_version": 2}))
    for load in (fovea.load_model, fovea.load_run):
        with pytest.raises(fovea.DataError, match="has the format 2, this Fovea reads 1: install a newer"):
            load(folder)


def test_inverted_images_raise_a_warning_that_adapting_answers(trained: Run) -> None:
    images, labels = bars(60, seed=1)
    predictor = fovea.load_model(trained.path)
    for predict in (predictor.predict, trained.predict):
        with pytest.warns(fovea.InputWarning, match="60 of 60 images look inverted") as caught:
            wrong = predict(255 - images)
        assert caught[0].filename == __file__
        assert (wrong.predicted == labels).mean() < 0.9
        right = predict(255 - images, adapt=True)
        assert np.array_equal(right.logits, predict(images).logits)


def test_a_fresh_process_predicts_without_training_code(model_file: Path) -> None:
    code = (
        "import sys, numpy as np, fovea\n"
        f"found = fovea.load_model({str(model_file)!r}).predict(np.zeros((1, 8, 8), np.uint8) + 30)\n"
        "strangers = ('fovea.training', 'fovea.studies', 'fovea.reporting', 'fovea.api', 'matplotlib', 'sklearn')\n"
        "print([name for name in sys.modules if name.startswith(strangers)], len(found))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"
