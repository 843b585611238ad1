"""Downloads: into a .part file, resumed where they broke off, checked by sha256 before they get their name."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from fovea.data.folders import alone
from fovea.data.options import Progress
from fovea.errors import DataError, RunFailedError
from fovea.files import file_digest

TIMEOUT_SECONDS = 30.0  # without a single byte
ATTEMPTS = 5  # at one address, as long as the connection breaks off
MAX_BYTES = 2**31  # of a file whose size is not known
_BLOCK = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        name: what it is called on the disk.
        sha256: of its content, hex.
        urls: the same file at several places, tried in this order.
        size: bytes, where known.
    """

    name: str
    sha256: str
    urls: tuple[str, ...]
    size: int | None = None


class _WrongContentError(Exception):
    """A server gave something else than the file: another mirror may have the right one."""


def is_offline() -> bool:
    """Whether FOVEA_OFFLINE forbids downloads."""
    return os.environ.get("FOVEA_OFFLINE", "").lower() not in ("", "0", "false", "no")


def by_hand_message(name: str, files: tuple[RemoteFile, ...], folder: Path) -> str:
    """What to get by hand and where to put it."""
    listed = "\n".join(f"  {file.name}  sha256 {file.sha256}\n    {file.urls[0]}" for file in files)
    return (
        f"To bring {name} here by hand, put {'this file' if len(files) == 1 else 'these files'} into {folder} "
        f"(or into {name}/ of a folder that FOVEA_DATA names):\n{listed}"
    )


def fetch(name: str, files: tuple[RemoteFile, ...], folder: Path, by_hand: str, progress: Progress) -> None:
    """Download the files that are not in `folder` yet. A second process waits for the first.

    Raises:
        DataError: when FOVEA_OFFLINE forbids it.
        RunFailedError: when no mirror gave the file, or the folder cannot be written.
    """
    if is_offline():
        raise DataError(f"The data set {name!r} is not on this machine, and FOVEA_OFFLINE is set. {by_hand}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / ".lock", lambda: progress(f"waiting for another process that downloads {name}", 0, 0)):
            for file in files:
                if not (folder / file.name).exists():
                    _fetch_one(file, folder, by_hand, progress)
    except OSError as error:
        raise RunFailedError(f"{name} could not be downloaded to {folder}: {error}. {by_hand}") from None


def _fetch_one(file: RemoteFile, folder: Path, by_hand: str, progress: Progress) -> None:
    part = folder / f"{file.name}.part"
    failures = []
    for url in file.urls:
        try:
            _from_mirror(file, url, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            failures.append(f"{url}: {_reason(error)}")
        except _WrongContentError as error:
            part.unlink(missing_ok=True)
            failures.append(f"{url}: {error}")
        else:
            part.replace(folder / file.name)
            return
    tried = "\n  ".join(failures)
    raise RunFailedError(f"{file.name} could not be downloaded:\n  {tried}\n{by_hand}")


def _from_mirror(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """Download from one address, as often as the connection breaks off while something still comes."""
    resumed = _size(part) > 0
    _receive_all(file, url, part, progress)
    digest = file_digest(part)
    if resumed and digest != file.sha256:  # what lay there was no beginning of this file
        part.unlink()
        _receive_all(file, url, part, progress)
        digest = file_digest(part)
    if digest != file.sha256:
        raise _WrongContentError(f"gave another file (sha256 {digest[:16]}..., expected {file.sha256[:16]}...)")


def _receive_all(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            _receive(file, url, part, progress)
            return
        except (http.client.IncompleteRead, TimeoutError, ConnectionError) as error:
            if attempt == ATTEMPTS or (_size(part) <= before and attempt > 1):
                raise error


def _receive(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """One request; what comes is appended to the .part file.

    Raises:
        ConnectionError: when less comes than was announced.
    """
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "fovea", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        # An opener of its own sees the proxies of now; urlopen's are those of its first call.
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # nothing is left to send: the digest tells whether it is all there
            return
        raise
    with response:
        if start and not _continues(response, start):
            start = 0
        announced = response.headers.get("Content-Length")
        total = start + int(announced) if announced and announced.isdecimal() else file.size or 0
        limit = file.size or MAX_BYTES
        with part.open("ab" if start else "wb") as out:
            done = start
            while block := response.read1(_BLOCK):  # what is there: what came before a silence is kept
                done += len(block)
                if done > limit:
                    raise _WrongContentError(f"sends more than the {limit:,} bytes of this file")
                out.write(block)
                progress(f"downloading {file.name}", done, total)
            out.flush()
            os.fsync(out.fileno())
    if done < total:
        raise ConnectionError(f"broke off after {done:,} of {total:,} bytes")


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    """Whether the server goes on where the .part file ends, and does not begin anew."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return response.status == 206 and match is not None and int(match[1]) == start


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner) or type(inner).__name__
