"""The run folder: where a run's files lie, and how they get there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fovea.errors import DataError, RunFailedError, SettingsError

MANIFEST = "manifest.json"
LEDGER = "test_ledger.jsonl"


def create_run_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`; a taken name gets -2, -3 ...; nothing is ever overwritten.

    Raises:
        SettingsError: when the name is no plain folder name or the folder cannot be made there.
    """
    if not name or name in {".", ".."} or Path(name).name != name:
        raise SettingsError(f"The run name {name!r} is not a plain folder name; use --out for the folder above it.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            return folder
    except OSError as error:
        raise SettingsError(
            f"No run folder can be made in {parent} ({error.strerror}). Name a writable folder with --out."
        ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises:
        RunFailedError: when the disk is full or the folder is gone; what was written in part is removed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:  # a signal too must leave nothing half-written
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise RunFailedError(
            f"{path} ({len(content):,} bytes) could not be written: {error.strerror}. "
            "What was written before it stands; free the disk or choose another --out."
        ) from None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder to sync it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, as UTF-8; the bytes of a file name that is not UTF-8 are written as \\udcXX."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a JSON value; keys stay in their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        DataError: when it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): is {path.parent} a whole run folder?") from None
    except ValueError:
        raise DataError(f"{path} is damaged: it holds no valid JSON.") from None


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one line to a .jsonl file in a single write.

    Raises:
        RunFailedError: when the line could not be written.
    """
    line = json.dumps(dict(value)) + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunFailedError(f"A line could not be added to {path}: {error.strerror}.") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl file; a missing file has none and a torn last line is left out."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def csv_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV text with a header line; cells that hold commas, quotes or line ends are quoted."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def write_manifest(folder: Path) -> None:
    """Write manifest.json: the sha256 of every file in the run folder but itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
    write_json(folder / MANIFEST, {"sha256": digests})


def file_digest(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def record_test_look(parent: Path, test_fingerprint: str, entry: Mapping[str, Any]) -> int:
    """Write one look at a test split into the ledger beside the runs.

    Returns:
        How often this test set has been looked at from this folder, this look included.
    """
    ledger = parent / LEDGER
    append_json_line(ledger, {"time": now_utc(), "test_fingerprint": test_fingerprint, **entry})
    return sum(line.get("test_fingerprint") == test_fingerprint for line in read_json_lines(ledger))
