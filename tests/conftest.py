"""Fixtures: small generated images, an empty working folder for every test, and the real data where it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from fovea.cli import app
from fovea.data.imageset import ImageSet

torch.set_num_threads(1)  # the nets here are too small for more to pay
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # no test fails because other programs run beside it

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own, finds no data by accident and sees no user's settings."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FOVEA_OFFLINE", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of what is derived here, and of processes started here
    for name in ("FOVEA_DATA", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _without_waiting_for_the_disk() -> Iterator[None]:
    """A run waits for the disk seventy times; no test takes the power away. What is no open file is still refused."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", os.fstat)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _without_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a run: only tests that are marked `pictures` draw."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr("fovea.runs.draw_run", lambda run: None)
        monkeypatch.setattr("fovea.runs.write_study_report", lambda study: None)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their charts, and runs without figures: for tests of what the words say, and of what is refused."""
    monkeypatch.setattr("fovea.runs.write_figures", lambda run: None)
    drawing = b'<svg width="9" height="9" viewBox="0 0 9 9"></svg>'
    monkeypatch.setattr("fovea.reporting.svg.figure_bytes", lambda figure, form: drawing)


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded digits are their first 360 here: for tests to which it is all one how many are trained on."""
    from sklearn.datasets import load_digits
    from sklearn.utils import Bunch

    whole = load_digits()
    few = Bunch(images=whole.images[:360], target=whole.target[:360])
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)


_REAL = os.environ.get("FOVEA_DATA") or str(Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the real MNIST and Fashion-MNIST, named to Fovea; skips where it is not there."""
    folder = Path(_REAL)
    if not (folder / "mnist").is_dir():
        pytest.skip(f"the real data is not here: set FOVEA_DATA to a folder with mnist/ in it (looked in {folder})")
    monkeypatch.setenv("FOVEA_DATA", str(folder))
    return folder


def shell(*arguments: object) -> Result:
    """What the command `fovea` answers to these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def bars(count: int, side: int = 8, num_classes: int = 3, seed: int = 0) -> Arrays:
    """Noisy grey images with one bright row, whose place is the class: easy to learn, not to confuse."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    images = rng.integers(0, 60, (count, side, side), dtype=np.uint8)
    images[np.arange(count), 1 + labels * 2] += 180
    return images, labels.astype(np.int64)


@pytest.fixture
def toy() -> Arrays:
    return bars(150)


@pytest.fixture
def toy_set() -> ImageSet:
    images, labels = bars(150)
    return ImageSet(images[..., None], labels, ("a", "b", "c"), np.arange(len(labels)))
