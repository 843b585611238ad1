"""The run folder: names, whole files, manifest, ledger."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from fovea.errors import RunFailedError, SettingsError
from fovea.files import (
    append_json_line,
    csv_table,
    file_digest,
    make_out,
    read_json_lines,
    write_bytes,
    write_json,
    write_text,
)
from fovea.registry import Registry
from fovea.runfolder import check_target, create_run_folder, record_test_look, write_manifest


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    names = [create_run_folder(tmp_path / "runs", "x").name for _ in range(3)]
    assert names == ["x", "x-2", "x-3"]


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="plain folder name"):
        create_run_folder(tmp_path, name)


def test_a_place_that_cannot_hold_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--out"):
        create_run_folder(tmp_path / "file", "x")


def test_a_full_disk_leaves_the_older_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailedError, match="No space left"):
        write_bytes(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves is the older file or the new one, whole."""
    synced = []

    def sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_folder, (tmp_path / "state").exists()))

    monkeypatch.setattr(os, "fsync", sync)
    write_bytes(tmp_path / "state", b"content")
    assert synced == [(False, False), (True, True)]


def test_a_signal_while_writing_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "state", b"content")
    assert list(tmp_path.iterdir()) == []


def test_file_names_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xff.png")
    write_text(tmp_path / "a.csv", name)
    write_json(tmp_path / "a.json", [name])
    assert (tmp_path / "a.csv").read_bytes() == b"b\\udcff.png"
    assert json.loads((tmp_path / "a.json").read_text()) == [name]


def test_the_manifest_holds_the_digest_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_bytes(tmp_path / "a" / "b.txt", b"content")
    write_manifest(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == {"format_version": 1, "sha256": {"a/b.txt": file_digest(tmp_path / "a" / "b.txt")}}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"b": ')
    assert read_json_lines(path) == [{"a": 1}]


def test_looks_are_counted_for_each_test_set(tmp_path: Path) -> None:
    looks = [record_test_look(tmp_path, name, {"run": "r"}) for name in ("one", "two", "one")]
    assert looks == [1, 1, 2]


def test_csv_cells_are_quoted_where_needed() -> None:
    assert csv_table(["id", "name"], [[1, 'a,"b"\n']]) == 'id,name\n1,"a,""b""\n"\n'


def test_a_registry_refuses_duplicates_and_offers_the_nearest_name() -> None:
    registry = Registry("model", {"lenet5": 1, "resnet20": 2})
    with pytest.raises(KeyError):
        registry["lenet5"] = 3
    with pytest.raises(
        SettingsError, match=r"Unknown model 'lenet'. Did you mean 'lenet5'\? Choices: lenet5, resnet20"
    ):
        registry["lenet"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here in which nobody can write")
def test_where_nothing_can_be_written_the_folder_is_named() -> None:
    for refused in (lambda: make_out(Path("/proc")), lambda: check_target(Path("/proc/page.html"))):
        with pytest.raises(SettingsError, match=r"Nothing can be written in the folder /proc: .*\. Name another one"):
            refused()
