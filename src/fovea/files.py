"""Files that appear whole or not at all, lines that are added to a file, names for files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from fovea import faults
from fovea.errors import DataError, RunFailedError, SettingsError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises:
        RunFailedError: when the disk is full or the folder is gone; what was written in part is removed.
    """
    partial = _partial(path)
    try:
        write_synced(partial, content, path.name)
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:  # a signal too must leave nothing half-written
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(path, len(content), error) from None


@contextlib.contextmanager
def growing_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Write a file piece by piece so that it appears whole or not at all; one that is there is replaced at the end.

    Two processes may write the same file: whoever ends last leaves his.

    Raises:
        SettingsError: when nothing can be written there at all.
        RunFailedError: when the disk is full or the folder is gone; what was written in part is removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    written = 0

    def write(content: bytes) -> None:
        nonlocal written
        written += len(content)
        faults.write(file, content, path.name)

    try:
        file = partial.open("wb")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _gave_up(path, 0, error) from None
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name a file in another folder.") from None
    try:
        with file:
            yield write
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:  # a signal too must leave nothing half-written
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise _gave_up(path, written, error) from None


def _gave_up(path: Path, written: int, error: OSError) -> RunFailedError:
    return RunFailedError(
        f"{path} could not be written: {error.strerror or error}, after {written:,} bytes. "
        "Nothing of it is left; an older one is as it was."
    )


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def write_synced(path: Path, content: bytes, name: str) -> None:
    """Write a new file through to the disk; `name` is what a fault of a test may be ordered for."""
    with path.open("wb") as file:
        faults.write(file, content, name)
        file.flush()
        os.fsync(file.fileno())


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files so that it appears whole or not at all; the files in their order.

    Raises:
        RunFailedError: as `write_bytes`, and when a folder with anything in it is there already.
    """
    partial = _partial(folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(folder.parent)
        partial.mkdir()
        for name, content in files.items():
            write_synced(partial / name, content, name)
        sync_folder(partial)
        faults.reach("folder written")
        partial.rename(folder)
        sync_folder(folder.parent)
        faults.reach("folder renamed")
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(folder, sum(map(len, files.values())), error) from None


def cannot_write(path: Path, num_bytes: int, error: OSError) -> RunFailedError:
    """The error of a file or folder that could not be written, with what it needs and what is there."""
    need = ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        need = f" It needs {num_bytes:,} bytes{_free(path.parent)}; what was written before it stands."
    return RunFailedError(f"{path} could not be written: {error.strerror or error}.{need}")


def _free(folder: Path) -> str:
    try:
        return f", {shutil.disk_usage(folder).free:,} are free there"
    except OSError:
        return ""


def make_folder(folder: Path) -> None:
    """Make a folder in an existing one, through to the disk; it may be there already."""
    if not folder.is_dir():
        folder.mkdir()
        sync_folder(folder.parent)


def make_out(folder: Path) -> Path:
    """Make the folder that a user named for what is written.

    Raises:
        SettingsError: when it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"The folder {folder} cannot be made: {error}.") from None
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Try a file without a name: who may write is not told by the folder's mode alone.

    Raises:
        SettingsError: when nothing can be written there; a full disk is left to whoever writes.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise SettingsError(
                f"Nothing can be written in the folder {folder}: {error.strerror}. Name another one."
            ) from None


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder; only for who holds the lock of its run."""
    for left in folder.glob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # it takes room, no more
                left.unlink()


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries through to the disk."""
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
    except (ValueError, RecursionError):
        raise DataError(f"{path} is damaged: it holds no valid JSON.") from None


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one line to a .jsonl file in a single write; a torn line before it stays a line of its own.

    Raises:
        RunFailedError: when the line could not be written, or only in part.
    """
    line = (json.dumps(dict(value)) + "\n").encode()
    try:
        with path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and _last_byte(file, end) != b"\n":
                line = b"\n" + line
            faults.write(file, line, path.name)
            if file.tell() < end + len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, len(line), error) from None


def _last_byte(file: BinaryIO, end: int) -> bytes:
    file.seek(end - 1)
    return file.read(1)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl file; a missing file has none and a torn line is left out.

    Raises:
        DataError: when it is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    entries = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def csv_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV text with a header line; cells that hold commas, quotes or line ends are quoted."""
    return csv_rows([header, *rows])


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """The lines of a CSV text."""
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def file_name(text: str) -> str:
    """A text as the name of a file or folder."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")[:100] or "run"


def file_digest(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_what_is_buffered(stream: IO[Any]) -> None:
    """After a stream has failed: what it still holds would fail once more when Python ends, and say so."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
