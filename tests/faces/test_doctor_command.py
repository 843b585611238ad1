"""`fovea doctor`: runs, data, programs; what it says, how it ends, and what it does where pieces are missing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import bars
from tests.diagnosis.records import with_broken_rule
from typer.testing import CliRunner, Result

import fovea
from fovea.cli import app
from fovea.diagnosis.examine import examine
from fovea.diagnosis.record import Mention, Record, SplitFacts
from fovea.diagnosis.telling import Diagnosis, diagnosis_lines
from fovea.evaluation.findings import Finding, finding_from_json
from fovea.reporting.console import result_lines

NET = ["conv 8 3x3 same relu", "maxpool 2", "flatten", "dense classes"]


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments, "--no-verify"])


def write_data() -> Path:
    x, y = bars(420)
    np.savez("bars.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return Path("bars.npz")


@pytest.fixture
def data() -> Path:
    return write_data()


def train(name: str, **settings: object) -> fovea.Run:
    options: dict[str, object] = {
        "layers": NET, "optimizer": "sgd", "epochs": 5, "batch_size": 16, "augmentation": "none", "verbose": False,
    }  # fmt: skip
    return fovea.train("bars.npz", name=name, **(options | settings))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        write_data()
        return train("good", lr=0.05, report=False).path.absolute()


@pytest.fixture
def good(trained: Path) -> Path:
    """The healthy run, in a working folder of its own."""
    return Path(shutil.copytree(trained, "runs/good"))


def test_a_healthy_run_is_one_line_and_exit_0(good: Path) -> None:
    shown = doctor("runs/good")
    assert shown.exit_code == 0, shown.stdout
    assert shown.stdout.startswith("good: nothing wrong found. Looked at ")
    assert json.loads(Path("runs/good/findings.json").read_text()) == []


def test_a_faulty_run_names_the_setting_and_exits_3(data: Path) -> None:
    run = train("wild", lr=1e-7)
    assert next(finding["id"] for finding in run.findings) == "learning-rate-too-low"  # told by train itself
    shown = doctor("runs/wild", "--json")
    assert shown.exit_code == 3
    found = json.loads(shown.stdout)
    first = found["findings"][0]
    assert (first["id"], first["severity"], first["status"]) == ("learning-rate-too-low", "severe", "suspected")
    assert first["evidence"]["lr"] == 1e-7
    assert first["remedy"] == {"lr": 0.05}
    assert "line" not in first
    assert found["kind"] == "run"
    assert "single batches" in found["checked"]
    assert "--set lr=0.05" in doctor("runs/wild").stdout


def test_a_rule_or_a_record_that_fails_costs_a_finished_training_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train("whole", lr=1e-7)
    capsys.readouterr()
    monkeypatch.setattr("fovea.diagnosis.examine.RULES", with_broken_rule("overfitting"))
    run = train("broken", lr=1e-7, verbose=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "The rule overfitting could not be judged (ZeroDivisionError: no luck); the others were." in said
    assert [found["id"] for found in run.findings] == [found["id"] for found in whole.findings]
    assert run.test_accuracy == whole.test_accuracy
    assert (run.path / "manifest.json").is_file()
    assert "The rule overfitting could not be judged" in " ".join(doctor("runs/broken").stdout.split())

    def no_record(*_: object) -> Record:
        raise AttributeError("no such fact")

    monkeypatch.setattr("fovea.diagnosis.ourrun.record_of_run", no_record)
    other = train("unread", lr=1e-7, verbose=True)
    assert "could not be judged (AttributeError: no such fact); its results are whole" in " ".join(
        capsys.readouterr().err.split()
    )
    assert other.test_accuracy == whole.test_accuracy
    assert json.loads((other.path / "findings.json").read_text()) is not None


def test_what_the_doctor_found_is_kept_and_shown(data: Path) -> None:
    run = train("wild", lr=1e-7)
    remedy = {"lr": 0.05}
    trial = {
        "changes": remedy, "before": 0.33, "after": 0.99, "seeds": 3, "size": "300 images, 5 epochs",
        "difference": {"value": 0.66, "low": 0.61, "high": 0.71, "count": 3}, "p_value": 0.001, "share_of_steps": 1.0,
    }  # fmt: skip
    assert "confirmed" not in result_lines(run)
    assert doctor("runs/wild").exit_code == 3
    kept = json.loads(Path("runs/wild/diagnosis.json").read_text())
    assert kept["findings"][0]["status"] == "suspected"
    kept["findings"][0] |= {"status": "confirmed", "trial": trial}
    kept["withdrawn"] = [kept["findings"][0] | {"id": "underfitting", "status": "withdrawn", "trial": trial}]
    Path("runs/wild/diagnosis.json").write_text(json.dumps(kept))
    again = fovea.load_run("runs/wild")
    assert "severe, confirmed: " in result_lines(again)
    assert "+66.0 points [+61.0, +71.0], 3 seeds" in result_lines(again)
    page = again.write_report().read_text(encoding="utf-8")
    for text in (
        "learning-rate-too-low",
        "severe, confirmed",
        "--set lr=0.05",
        "+66.0 points [+61.0, +71.0]",
        "1 suspicion withdrawn after a trial",
    ):
        assert text in page, text
    later = json.loads(doctor("runs/wild", "--json").stdout)  # nothing is tried: what was tried before still holds
    assert later["findings"][0]["status"] == "confirmed"
    assert later["findings"][0]["trial"] == trial
    Path("runs/wild/diagnosis.json").write_text("{")
    with pytest.raises(fovea.DataError, match=r"diagnosis\.json"):
        assert fovea.load_run("runs/wild").findings
    assert doctor("runs/wild").exit_code == 3  # and is whole again
    assert fovea.load_run("runs/wild").findings


def test_a_run_with_leaked_images_is_told_so_twice(data: Path) -> None:
    x, y = bars(420)
    x[300:340] = x[:40]
    np.savez("leaky.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    run = fovea.train("leaky.npz", name="leaky", layers=NET, epochs=5, batch_size=16, lr=0.05, optimizer="sgd",
                      augmentation="none", verbose=False)  # fmt: skip
    assert "leakage-duplicates" in {found["id"] for found in run.findings}
    found = json.loads(doctor("runs/leaky", "--json").stdout)["findings"]
    assert "leakage-duplicates" in {finding["id"] for finding in found}


def test_missing_pieces_are_named_and_the_rest_is_judged(data: Path) -> None:
    train("wild", lr=1e-7)
    for name in ("best.safetensors", "metrics.csv", "result.json", "predictions-val.npz"):
        (Path("runs/wild") / name).unlink()
    data.unlink()
    found = json.loads(doctor("runs/wild", "--json").stdout)
    assert found["findings"][0]["id"] == "learning-rate-too-low"
    unseen = " ".join(found["unseen"])
    assert all(what in unseen for what in ("metrics.csv", "result.json", "the images of the run"))
    Path("runs/wild/split.json").write_text("{")
    assert doctor("runs/wild").exit_code == 3


def test_a_run_that_broke_off_is_a_patient(data: Path) -> None:
    with pytest.raises(fovea.NonFiniteLossError):
        train("broken", lr=1e30)
    shown = doctor("runs/broken", "--json")
    assert shown.exit_code == 3
    assert json.loads(shown.stdout)["findings"][0]["id"] in ("learning-rate-too-high", "loss-not-finite")


def test_data_alone_is_looked_at_with_a_short_training(data: Path) -> None:
    shown = doctor("bars.npz", "--set", "optimizer=adam")
    assert shown.exit_code == 0, shown.stdout
    assert "nothing wrong found" in shown.stdout
    assert not Path("runs").exists()  # nothing is written, no look at the test split is taken


def test_labels_that_do_not_belong_to_the_images_are_noticed() -> None:
    x, y = bars(420)
    np.savez("wrong.npz", x=x, y=np.random.default_rng(0).permutation(y))
    shown = doctor("wrong.npz", "--json", "--set", f"layers={json.dumps(NET)}")
    found = json.loads(shown.stdout)["findings"]
    assert {finding["id"] for finding in found} & {"not-learning", "no-better-than-constant", "input-ignored"}


def test_a_study_is_looked_at_with_all_its_seeds(good: Path) -> None:
    for seed in range(3):
        shutil.copytree("runs/good", f"runs/study/seed-{seed}")
    Path("runs/study/seeds.json").write_text("{}")
    found = fovea.diagnose("runs/study", verify=False)
    assert found.record.evaluation.seed_accuracies is not None
    assert len(found.record.evaluation.seed_accuracies) == 3
    assert not found.is_severe


def test_a_program_is_told_with_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("train.py").write_text("model.fit(x, y)\n")
    record = Record(
        "script", "train.py", mentions=(Mention("removed-argument:lr", 12, "SGD(lr=.1)", "SGD(learning_rate=.1)"),),
        splits={"train": SplitFacts(minimum=0, maximum=255)}, lines={"splits.train.maximum": 7},
        unseen=("line 3: Python 2",),
    )  # fmt: skip
    monkeypatch.setattr("fovea.doctor._read_program", lambda path: (record, examine(record)))
    shown = CliRunner().invoke(app, ["doctor", "train.py"])
    assert shown.exit_code == 3
    assert "1. inputs-not-scaled: severe, suspected, line 7" in shown.stdout
    assert "2. removed-in-keras: warning, suspected, line 12" in shown.stdout
    assert "Not seen: line 3: Python 2" in shown.stdout
    assert "read, not run" in shown.stdout
    found = json.loads(doctor("train.py", "--json").stdout)
    assert [finding["line"] for finding in found["findings"]] == [7, 12]


def test_what_is_no_patient_exits_2(good: Path) -> None:
    for name in ("nobody.py", "no-such-set", "missing.npz", " "):
        shown = doctor(name)
        assert shown.exit_code == 2, name
        assert shown.stderr.startswith("error: ")
    assert "Settings belong to data" in doctor("runs/good", "--set", "epochs=3").stderr


@pytest.mark.parametrize("width", [60, 100])
def test_the_text_fits_the_terminal(width: int) -> None:
    trial = {
        "changes": {"lr": 0.01}, "before": 0.1, "after": 0.95, "seeds": 3, "size": "1,000 images, 4 epochs",
        "difference": {"value": 0.85, "low": 0.8, "high": 0.9, "count": 3},
    }  # fmt: skip
    one = Finding("not-learning", "severe", {}, "Nothing is learned. " * 6, "Change it. " * 9, "confirmed", 3,
                  {"lr": 1 / 255}, trial)  # fmt: skip
    findings = (one, *(Finding(f"other-{n}", "note", {}, "a", "b") for n in range(7)),
                Finding("gone", "severe", {}, "a", "b", "withdrawn", trial={"problem": "no time"}))  # fmt: skip
    diagnosis = Diagnosis(Record("run", "some-run", unseen=("that " * 30,) * 5), findings, ("A note.",))
    text = diagnosis_lines(diagnosis, width)
    assert max(map(len, text.splitlines())) < width
    assert "accuracy 10.0% as it is, 95.0% with the change" in " ".join(text.split())
    assert "withdrawn after a trial: gone" in " ".join(text.split())
    assert "3 lesser findings are left out" in " ".join(text.split())
    assert "... and 2 more" in text
    assert diagnosis.is_severe
    assert not Diagnosis(diagnosis.record, findings[-1:]).is_severe


def test_findings_of_older_runs_are_still_read() -> None:
    old = {"id": "a", "severity": "note", "evidence": {}, "cause": "c", "cure": "d", "confirmed": True}
    assert finding_from_json(old).status == "confirmed"
    assert finding_from_json({**old, "confirmed": None}).status == "suspected"
    new = Finding("a", "note", {"x": math.pi}, "c", "d", "withdrawn", 4)
    assert finding_from_json(json.loads(json.dumps(new.as_json()))) == new
