"""The data audit of a run: kept in its folder, told among its findings and in its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fovea


def leaky() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """16 x 16 pictures of nothing in two classes; 20 of the 60 test images are training images, moved by a pixel."""
    rng = np.random.default_rng(0)
    train, test = (gaussian_filter(rng.normal(size=(count, 16, 16)), (0, 1, 1)) for count in (200, 60))
    test[:20] = np.roll(train[:20], 1, 1)
    images = [np.clip(128 + 150 * found, 0, 255).astype(np.uint8) for found in (train, test)]
    return {"data": (images[0], np.arange(200) % 2), "test_data": (images[1], np.arange(60) % 2)}


def trained(**settings: Any) -> fovea.Run:
    given = leaky() | {"epochs": 1, "model": "p4-dense", "verbose": False, "report": False, **settings}
    return fovea.train(given.pop("data"), **given)


@pytest.mark.usefixtures("undrawn")
def test_what_is_found_is_kept_and_told(tmp_path: Path) -> None:
    run = trained()
    assert run.audit is not None
    assert set(run.audit["splits"]) == {"train", "val", "test"}
    leaks = [found for found in run.audit["findings"] if found["id"] == "near-duplicates-across"]
    assert [(found["evidence"]["part"], found["severity"]) for found in leaks] == [("test", "severe")]
    assert leaks[0]["evidence"]["images"] >= 15
    assert all(found in run.findings for found in run.audit["findings"])
    manifest = json.loads((run.path / "manifest.json").read_text())["sha256"]
    assert {"audit.json", "audit-pairs.npz"} <= set(manifest)
    page = run.write_report().read_text(encoding="utf-8")
    assert '<section id="audit"' in page
    assert "Near-duplicates side by side" in page


@pytest.mark.usefixtures("undrawn")
def test_the_same_run_has_the_same_audit_and_without_it_the_same_weights() -> None:
    one, two, without = trained(name="one"), trained(name="two"), trained(name="without", audit=False)
    for name in ("audit.json", "audit-pairs.npz"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
        assert not (without.path / name).exists()
    assert without.audit is None
    assert without.findings == [found for found in one.findings if found not in (one.audit or {})["findings"]]
    np.testing.assert_array_equal(one.predictions("test").logits, without.predictions("test").logits)
    assert '<section id="audit"' not in without.write_report().read_text(encoding="utf-8")


def test_a_closed_test_split_is_not_looked_at() -> None:
    run = trained(test=False)
    assert run.audit is not None
    assert set(run.audit["splits"]) == {"train", "val"}
    assert not [found for found in run.audit["findings"] if found["evidence"].get("part") == "test"]


def test_the_findings_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    trained(verbose=True)
    assert "near-duplicate among the train images" in " ".join(capsys.readouterr().err.split())
