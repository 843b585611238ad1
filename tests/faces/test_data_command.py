"""`fovea data`, and training on every format from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import bars, shell
from tests.data.formats import Arrays, pack_zip, pixel_table, write_class_folders, write_idx

import fovea


def test_the_facts_of_a_folder_as_text_and_as_json(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set" / "train", toy)
    write_class_folders(tmp_path / "set" / "test", (toy[0][:30], toy[1][:30]))
    shown = shell("data", "set", "--out", "pictures")
    assert shown.exit_code == 3, shown.stderr  # the test images are training images
    lines = shown.stdout.splitlines()
    assert lines[0] == "set: image folder, set"
    assert "train     150 images, 8x8 grey, uint8, values 0 to 239" in lines
    assert ["a", "50", "10"] in [line.split() for line in lines]
    assert lines[-2:] == ["pictures/data-set.html", "pictures/set-samples.png"]
    assert "Content-Security-Policy" in Path(lines[-2]).read_text(encoding="utf-8")
    with Image.open(lines[-1]) as picture:
        assert picture.width > 800
    found = json.loads(shell("data", "set", "--json").stdout)
    assert found["classes"] == ["a", "b", "c"]
    assert found["parts"]["test"]["class_counts"] == {"a": 10, "b": 10, "c": 10}
    assert found["parts"]["train"]["shape"] == [8, 8, 1]
    assert found["published"] is None
    finding = found["findings"][0]
    assert (finding["id"], finding["severity"]) == ("shared-images", "severe")
    assert finding["evidence"] == {"part": "test", "images": 30, "of": 30}
    assert "30 of 30 test images are training images too" in finding["cause"]


def test_the_embedded_digits_have_nothing_wrong_with_them() -> None:
    found = json.loads(shell("data", "digits", "--json").stdout)
    assert found["parts"]["train"]["count"] == 1797
    assert found["published"] is True
    assert found["findings"] == []


def test_a_table_without_labels_is_shown_without_classes(tmp_path: Path, toy: Arrays) -> None:
    Path("test.csv").write_text(pixel_table(toy, None))
    shown = shell("data", "test.csv")
    assert shown.exit_code == 0
    assert "labels    none" in shown.stdout
    refused = shell("train", "test.csv")
    assert refused.exit_code == 2
    assert "test has no labels" in refused.stderr


@pytest.mark.parametrize("command", ["data", "train"])
def test_bad_data_is_one_message_exit_code_2_and_nothing_written(tmp_path: Path, toy: Arrays, command: str) -> None:
    write_class_folders(tmp_path / "set", toy)
    (tmp_path / "set" / "a" / "000.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    refused = shell(command, "set")
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: 1 image of set cannot be decoded:\n  a/000.png: is empty (0 bytes)")
    assert sorted(tmp_path.rglob("*")) == before
    shown = shell(command, "set", "--skip-bad", *(["--epochs", "1"] if command == "train" else []))
    assert shown.exit_code == 0, shown.stderr
    assert "1 image of set cannot be decoded and is left out" in shown.stdout + shown.stderr


def test_without_a_network_a_named_set_is_one_message() -> None:
    refused = shell("data", "kmnist")
    assert refused.exit_code == 2
    assert "FOVEA_OFFLINE is set" in refused.stderr
    assert "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4" in refused.stderr


def test_a_failed_download_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_OFFLINE", "")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    refused = shell("data", "kmnist")
    assert refused.exit_code == 1
    assert "could not be downloaded" in refused.stderr
    assert "To bring kmnist here by hand" in refused.stderr


def test_every_format_trains_with_one_command_and_the_run_can_be_evaluated_on_another(tmp_path: Path) -> None:
    toy = bars(150)
    write_class_folders(tmp_path / "parts", toy, ".jpg", names="012")
    write_idx(tmp_path / "idx", toy)
    Path("pixels.csv").write_text(pixel_table(toy))
    np.savez("arrays.npz", x=toy[0], y=toy[1])
    pack_zip(tmp_path / "parts", tmp_path / "parts.zip")
    rows = [f"parts/{'012'[label]}/{row:03d}.jpg,{label}" for row, label in enumerate(toy[1])]
    Path("labels.csv").write_text("\n".join(["path,label", *rows]))
    for source in ("pixels.csv", "parts.zip", "labels.csv"):
        done = shell(
            "train", source, "--model", "p4-dense", "--epochs", "20", "--name", source.replace(".", "-"), "--json"
        )
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["test_accuracy"]["value"] > 0.6, source
    for run_name in ("parts-zip", "pixels-csv"):
        for source in ("labels.csv", "idx", "parts.zip"):
            found = shell("evaluate", f"runs/{run_name}", "--data", source, "--json")
            assert found.exit_code in (0, 2), found.stderr
            if found.exit_code == 0:
                assert json.loads(found.stdout)["test_accuracy"]["value"] > 0.6
    (tmp_path / "parts" / "0" / "000.jpg").write_bytes(b"")
    assert shell("evaluate", "runs/parts-zip", "--data", "parts").exit_code == 2
    skipped = shell("evaluate", "runs/parts-zip", "--data", "parts", "--skip-bad", "--json")
    assert json.loads(skipped.stdout)["test_accuracy"]["count"] == len(toy[1]) - 1
    assert "1 image of parts cannot be decoded and is left out" in " ".join(skipped.stderr.split())
    again = shell("evaluate", "runs/parts-zip")
    assert again.exit_code == 0, again.stderr


def test_the_python_face_reads_data_without_training(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    data = fovea.load_data("set", image_size=4)
    assert data["train"].images.shape == (150, 4, 4, 1)
    assert data["train"].class_counts() == {"a": 50, "b": 50, "c": 50}
    trained = fovea.train(fovea.load_data("set"), epochs=1, verbose=False)
    assert trained.model.classes == ("a", "b", "c")
