"""The run folder: its name, its lock, its manifest, where it was made, and the ledger beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fovea.errors import DataError, RunFailedError, SettingsError
from fovea.files import (
    append_json_line,
    check_writable,
    file_digest,
    read_json,
    read_json_lines,
    sync_folder,
    write_json,
)

MANIFEST = "manifest.json"
REPORT = "report.html"
FORMAT_VERSION = 1  # of the run folder; a later one is refused
LEDGER = "test_ledger.jsonl"
SEEDS = "seeds.json"  # what makes a folder of runs a study of several seeds
COMPARISON = "comparison.json"  # what makes it a comparison of recipes
INPUT_PROFILE = "input_profile.json"
DIAGNOSIS = "diagnosis.json"  # what the doctor has found in a finished run
PROGRAM = "program.json"  # what makes it the reproduction of a published program
LOCK = ".lock"
AGAIN = "type the fovea {} command again"  # where that, and no --resume, goes on


def create_run_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`; a taken name gets -2, -3 ...; nothing is ever overwritten.

    Raises:
        SettingsError: when the name is no plain folder name or the folder cannot be made there.
    """
    if not isinstance(name, str) or name in {"", ".", ".."} or "\0" in name or Path(name).name != name:
        raise SettingsError(f"The run name {name!r} is not a plain folder name; use --out for the folder above it.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = _numbered(parent, name, number)
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            sync_folder(parent)
            return folder
    except OSError as error:
        raise SettingsError(
            f"No run folder can be made in {parent} ({error.strerror}). Name a writable folder with --out."
        ) from None


def folders_of_name(parent: Path, name: str) -> Iterator[Path]:
    """What `create_run_folder` has made of a name, from the first on: name, name-2, name-3 ... up to a gap."""
    return itertools.takewhile(Path.exists, (_numbered(parent, name, number) for number in itertools.count(1)))


def _numbered(parent: Path, name: str, number: int) -> Path:
    return parent / (name if number == 1 else f"{name}-{number}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder alone; the lock ends with the process, however that ends (where the file system knows locks).

    Raises:
        SettingsError: when another process holds it.
        RunFailedError: when the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingsError(
            f"{folder} is being trained by another process: wait until it has ended, or stop it first."
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunFailedError(f"{folder} cannot be written to, so that no run can go on in it: {reason}.") from None
    try:
        yield
    finally:
        if is_finished(folder):  # nobody will write here again
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
        lock.release()


def is_finished(folder: Path) -> bool:
    """Whether a run was carried to its end: the manifest is written last."""
    return (folder / MANIFEST).is_file()


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds a run, or a study, that can be gone on with."""
    return (folder / "config.yaml").is_file() and not is_finished(folder)


def is_husk(folder: Path) -> bool:
    """Whether a run folder was left before config.yaml, the last of what is written before training, was in it."""
    first = {"split.json", "classes.json", "preprocess.json", INPUT_PROFILE, "environment.json"}
    first |= {"log.jsonl", SEEDS, PROGRAM}
    return folder.is_dir() and all(path.name in first or path.name.startswith(".") for path in folder.iterdir())


def remove_husk(folder: Path) -> None:
    """Make room for a run whose folder was left before its settings were written; without a folder there is nothing.

    Raises:
        SettingsError: when the folder holds other files.
        RunFailedError: when it cannot be removed.
    """
    if not folder.exists():
        return
    if not is_husk(folder):
        raise SettingsError(f"{folder} has no config.yaml, but other files: move it away to go on.")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise RunFailedError(f"{folder}, which was stopped before it began, cannot be removed.")


def resume_command(folder: Path) -> str:
    """What to type to go on with an unfinished run, or with the study, comparison or reproduction around it."""
    if (folder.parent / COMPARISON).is_file():
        return AGAIN.format("compare")
    if (folder / PROGRAM).is_file() or (folder.parent / PROGRAM).is_file():
        return AGAIN.format("reproduce")
    study = (folder.parent / SEEDS).is_file()
    return f"fovea train --resume {shlex.quote(str(folder.parent if study else folder))}"


def ledger_folder(folder: Path) -> Path:
    """The folder of test_ledger.jsonl: beside the run, or beside the study or comparison that the run belongs to."""
    parent = folder.resolve().parent
    return parent.parent if (parent / SEEDS).exists() or (parent / COMPARISON).exists() else parent


def write_manifest(folder: Path) -> None:
    """Write manifest.json, the sha256 of every other file of a run: from here on the run is finished."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    try:
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    except OSError as error:
        raise RunFailedError(
            f"{error.filename} cannot be read, so that its run cannot be finished: {error.strerror}."
        ) from None
    digests.pop(MANIFEST, None)
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "sha256": digests})


def read_manifest(folder: Path) -> dict[str, str]:
    """File name -> its sha256 (hex), as a finished run wrote them.

    Raises:
        DataError: when the manifest is damaged or of another version.
    """
    manifest = read_json(folder / MANIFEST)
    try:
        version, digests = int(manifest.get("format_version", 0)), dict(manifest["sha256"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"{folder / MANIFEST} is damaged: it does not hold the sha256 of the run's files.") from None
    if version != FORMAT_VERSION:
        remedy = "install a newer Fovea" if version > FORMAT_VERSION else "train it again"
        raise DataError(f"The run {folder} has the format {version}, this Fovea reads {FORMAT_VERSION}: {remedy}.")
    return digests


def check_file(folder: Path, name: str) -> None:
    """Hold a file of a finished run against its manifest; of an unfinished run there is none.

    Raises:
        DataError: when it is not the file that the run wrote.
    """
    if is_finished(folder) and read_manifest(folder).get(name) != file_digest(folder / name):
        raise DataError(f"{folder / name} is not the file that the run wrote: its sha256 is not that of {MANIFEST}.")


def update_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of files that were made anew into the manifest of a finished run; the others stay."""
    if is_finished(folder):
        digests = read_manifest(folder) | {name: file_digest(folder / name) for name in names}
        ordered = {name: digests[name] for name in sorted(digests)}
        write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "sha256": ordered})


def now_utc() -> str:
    """The time as an ISO 8601 text in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe_environment() -> dict[str, Any]:
    """Versions, processor and command of this process: what environment.json holds."""
    packages = ["fovea-vision", "torch", "numpy", "scipy", "scikit-learn", "Pillow", "safetensors"]
    return {
        "time": now_utc(),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
    }


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """The processor's name as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def record_test_look(
    parent: Path, test_fingerprint: str, entry: Mapping[str, Any], details: Mapping[str, Any] | None = None
) -> int:
    """Write one look at a test split into the ledger beside the runs.

    Args:
        entry: what the line holds besides. Where it has a run_id and the same line is there already, a run that was
            killed while it looked looks again with the same weights: that is no second look.
        details: what the line holds that has no part in telling looks apart.

    Returns:
        How often this test set had been looked at from this folder, this look included.
    """
    ledger = parent / LEDGER
    looks = [line for line in read_json_lines(ledger) if line.get("test_fingerprint") == test_fingerprint]
    for number, line in enumerate(looks, 1):
        if "run_id" in entry and all(line.get(name) == value for name, value in entry.items()):
            return number
    append_json_line(ledger, {"time": now_utc(), "test_fingerprint": test_fingerprint, **entry, **(details or {})})
    return len(looks) + 1


def check_target(path: Path, taken: Sequence[Path] = ()) -> Path:
    """Where a file that the user named is to be written, links followed.

    Args:
        taken: files that must not be written over.

    Raises:
        SettingsError: when no file can be written there, or one of those, or one of a run, would be lost.
    """
    try:
        target = path.resolve()
        if target.is_dir() or (target.exists() and not target.is_file()):
            raise SettingsError(f"{path} is {'a folder' if target.is_dir() else 'no file'}: name a file to write.")
        if not target.parent.is_dir():
            raise SettingsError(f"{path} cannot be written: the folder {target.parent} does not exist.")
        if any(target == other.resolve() for other in taken):
            raise SettingsError(f"{path} is read from and would be lost: name another file to write.")
        if target.exists() and target.name != REPORT and (target.parent / "config.yaml").is_file():
            raise SettingsError(f"{path} is a file of a run and would be lost: name another file to write.")
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"{path} cannot be written: {error}.") from None
    check_writable(target.parent)
    return target
