"""The doctor's bench: its own arithmetic, and that faults and patients fit together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fovea.diagnosis.rules import RULES

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "doctor"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other by their bare names, which must not stay for other tests."""
    if not FOLDER.exists():
        pytest.skip("benchmarks/ is not here: this is no clone")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("patients", "faults", "healthy", "run"):
        sys.modules.pop(name, None)


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_every_rule_that_a_fault_names_exists_and_has_a_cure() -> None:
    faults = module("faults")
    named = {rule for fault in faults.FAULTS for rule in fault.rules} | set(faults.CURES)
    assert named <= set(RULES)
    for fault in faults.FAULTS:
        assert set(fault.rules) & set(faults.CURES) or "labels" in fault.name


def test_every_fault_changes_every_patient_that_it_fits_and_its_cure_takes_it_back() -> None:
    faults, patients = module("faults"), module("patients")
    for fault in faults.FAULTS:
        fitting = fault.hosts(list(patients.BASES))
        assert len({base.data for base in fitting}) >= 3
        for base in fitting:
            assert all(change(base) != base for change in fault.strengths)


def test_half_a_hundred_healthy_trainings_are_all_different(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, patients = module("healthy"), module("patients")
    monkeypatch.setattr(healthy, "bases", lambda: list(patients.BASES))
    found = healthy.healthy()
    assert len(found) >= 50
    assert len({patient for _, patient in found}) == len({kind for kind, _ in found}) == len(found)


def test_a_patient_is_a_function_of_its_seed_and_watching_does_not_change_it() -> None:
    patients = module("patients")
    patient = patients.Patient("digits", "mlp", epochs=1, train_images=100)
    one, two = patients.train(patient, 3, watched=False), patients.train(patient, 3)
    assert one.accuracy == two.accuracy
    assert two.record.curves.steps == 4
    assert patients.train(patient, 4, watched=False).accuracy != one.accuracy


def test_train_validation_and_test_share_no_image() -> None:
    patients = module("patients")
    train, val, test = patients.splits_of(patients.Patient("digits"), 0)
    seen = [{image.numpy().tobytes() for image in part[0]} for part in (train, val, test)]
    sizes = [len(part[0]) for part in (train, val, test)]
    assert sizes[1] == 1797 // 8
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_the_end_of_a_net_is_what_the_patient_says() -> None:
    patients = module("patients")
    images = torch.zeros(2, 1, 8, 8)
    shares = patients.net_of(patients.Patient(end="softmax"), (1, 8, 8), 10)(images)
    assert torch.allclose(shares.sum(dim=1), torch.ones(2))
    assert patients.net_of(patients.Patient(extra_outputs=5), (1, 8, 8), 10)(images).shape == (2, 15)


def test_figures_follow_from_the_rows() -> None:
    run = module("run")
    row = {"fault": "a", "said": ["x", "y"], "first_right": True, "any_right": True, "right": 1, "recovered": 0.9}
    row |= {"recovered_by_search": 0.5, "guess_first": False, "guess_any": True}
    other = {**row, "said": ["z"], "first_right": False, "any_right": False, "right": 0, "recovered": 0.1}
    sound = [{"severe": [], "warnings": ["w"]}, {"severe": ["s"], "warnings": []}]
    figures = run.summary([row, row, other], sound)
    assert figures["first_right"] == pytest.approx(2 / 3)
    assert figures["precision"] == pytest.approx(2 / 5)
    assert (figures["severe_false_alarms"], figures["false_warnings"]) == (1, 1)
    assert figures["recovered_median"] == 0.9
    assert figures["first_right_interval"] == pytest.approx([0.208, 0.939], abs=1e-3)  # Wilson, 2 of 3
    text = run.table([row, row, other], figures)
    assert "| a | 3 | 2 | 2 | 90% |" in text
    assert "| severe false alarms | 1 of 2 | warnings at 1 |" in text


def test_what_is_recovered_is_a_share_of_what_was_lost() -> None:
    run = module("run")
    entry = {"healthy": [0.9], "faulty": [0.5]}
    assert run.recovered(entry, 0.7, 0) == pytest.approx(0.5)
    assert run.recovered(entry, 1.0, 0) == 1.05
    assert run.recovered({"healthy": [0.5], "faulty": [0.5]}, 0.1, 0) == 1.0
    assert np.isfinite(run.recovered(entry, 0.0, 0))
