"""Tree: the files of a folder or an archive by name, so that every reader reads both alike."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fovea.errors import DataError

MAX_FILES = 3_000_000
MAX_FOLDERS = 100_000
MAX_MEMBER_BYTES = 2**31  # of a file that is read as a whole
JUNK = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}

# All that reading a file of a folder or an archive can raise.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)

Stamp = tuple[int, ...]  # bytes, and what changes when a file is written: times in ns, inode


@dataclass(frozen=True, eq=False)
class Tree:
    """Files by their name below a root, with `/` between folders.

    Attributes:
        name: a short name for the data, used for the run folder.
        place: the folder, the archive or the single file.
        stamps: file name -> its size in bytes and its times, in reading order.
        opener: opens one of the files for reading; files of an archive are unpacked on the way.
        is_archive: whether the files lie inside `place`, a file.
        is_stream: whether files can be reached in reading order only (a compressed tar).
        closer: closes the archive; a tree is a context manager that calls it.
        empty: folders of the disk in which there is nothing.
    """

    name: str
    place: Path
    stamps: dict[str, Stamp]
    opener: Callable[[str], BinaryIO]
    is_archive: bool = False
    is_stream: bool = False
    closer: Callable[[], None] = lambda: None
    empty: tuple[str, ...] = ()

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.closer()

    def size(self, name: str) -> int:
        """The bytes of a file, as its folder or archive states them."""
        return self.stamps[name][0]

    def where(self, name: str) -> str:
        """A file's place in words, for messages."""
        if self.place.name == name and not self.is_archive:
            return str(self.place)
        return f"{self.place}: {shown(name)}" if self.is_archive else f"{self.place}/{shown(name)}"

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            DataError: when it cannot be opened.
        """
        try:
            return self.opener(name)
        except READ_ERRORS as error:
            raise unreadable(self.where(name), error) from error

    def read(self, name: str, limit: int = MAX_MEMBER_BYTES) -> bytes:
        """The whole content of a file.

        Raises:
            DataError: when it cannot be read, or holds more than `limit` bytes.
        """
        expected = min(self.size(name), limit)
        try:
            with self.opener(name) as file:
                content = file.read(expected + 1)  # asked for the limit, Python would set that much memory aside
                if len(content) > expected:
                    content += file.read(limit + 1 - len(content))
        except READ_ERRORS as error:
            raise unreadable(self.where(name), error) from error
        if len(content) > limit:
            raise DataError(f"{self.where(name)} holds more than {limit:,} bytes, the limit for such a file.")
        return content

    def head(self, name: str, count: int = 512) -> bytes:
        """The first bytes of a file.

        Raises:
            DataError: when it cannot be read.
        """
        try:
            with self.opener(name) as file:
                return file.read(count)
        except READ_ERRORS as error:
            raise unreadable(self.where(name), error) from error

    def folders(self) -> dict[str, list[str]]:
        """First folder -> the files below it; files that lie at the top are under ""."""
        found: dict[str, list[str]] = {}
        for name in self.stamps:
            first, slash, _ = name.partition("/")
            found.setdefault(first if slash else "", []).append(name)
        return found

    def below(self, folder: str) -> Tree:
        """The tree of one of the folders."""
        start = folder + "/"
        kept = {name.removeprefix(start): stamp for name, stamp in self.stamps.items() if name.startswith(start)}
        place = self.place if self.is_archive else self.place / folder
        empty = tuple(name.removeprefix(start) for name in self.empty if name.startswith(start))
        return replace(self, place=place, stamps=kept, opener=lambda name: self.opener(start + name), empty=empty)

    def only(self, names: Iterable[str]) -> Tree:
        """The tree with these files alone."""
        return replace(self, stamps={name: self.stamps[name] for name in names})


def reason_of(error: BaseException) -> str:
    """What an error of a library says, in one line of at most 200 characters."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def unreadable(where: str, error: BaseException) -> DataError:
    """The error for a file that cannot be read; an error of Fovea's own as it is."""
    if isinstance(error, DataError):
        return error
    return DataError(f"{where} cannot be read: {reason_of(error)}. Is the download complete?")


def listed(values: Iterable[Any], limit: int = 12) -> str:
    """Values with commas between them, and how many more there are."""
    names = [str(value) for value in values]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def listed_lines(rows: list[str], limit: int = 20) -> str:
    """Rows below each other, and how many more there are."""
    return "\n  ".join(rows[:limit]) + (f"\n  and {len(rows) - limit} more" if len(rows) > limit else "")


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, as pathlib has it but ten times faster; "" where there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if name.rfind("/") + 1 < dot < len(name) - 1 else ""


def shown(name: str) -> str:
    """A name for a message: what no terminal should be sent is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def is_junk(name: str) -> bool:
    """Whether a file's or folder's own name marks it as hidden or as left behind by a system."""
    return name.startswith(".") or name.lower() in JUNK


def has_junk(name: str) -> bool:
    """Whether any part of a path is junk."""
    return any(is_junk(part) for part in PurePosixPath(name).parts)


def folder_tree(path: Path) -> Tree:
    """The files below a folder; hidden and junk entries are left out, links are followed.

    Raises:
        DataError: for links that lead back to a folder above, folders that cannot be read, or too many files.
    """
    stamps: dict[str, Stamp] = {}
    empty: list[str] = []
    _walk(path, "", (), stamps, empty, [0])
    resolved = path.resolve()

    def opener(name: str) -> BinaryIO:
        return open(f"{path}/{name}", "rb")  # noqa: PTH123 (many files)

    return Tree(resolved.name or "data", path, stamps, opener, empty=tuple(empty))


def file_tree(path: Path) -> Tree:
    """A tree of one file on the disk."""
    return Tree(data_name(path), path, {path.name: stamp_of(path.stat())}, lambda _: path.open("rb"))


def data_name(path: Path) -> str:
    """A file's name without its suffixes: the short name of the data in it."""
    name = path.name
    for suffix in (".gz", ".bz2", ".xz", ".tar", ".tgz", ".zip", ".csv", ".tsv", ".txt", ".npz"):
        if len(name) > len(suffix) and name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes whenever a file's content does."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _walk(
    folder: Path,
    prefix: str,
    above: tuple[tuple[int, int], ...],
    stamps: dict[str, Stamp],
    empty: list[str],
    visited: list[int],
) -> None:
    visited[0] += 1
    if visited[0] > MAX_FOLDERS:  # links can make a few folders look like billions
        raise DataError(f"{folder} lies in a tree of more than {MAX_FOLDERS:,} folders: name the folder of the data.")
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise DataError(f"{folder} is a link to a folder above it: remove the link.")
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not is_junk(entry.name)), key=lambda entry: entry.name)
    if not found:
        empty.append(prefix.rstrip("/"))
    for entry in found:
        if _leads_nowhere(entry):
            stamps[prefix + entry.name] = (0,)  # reported by whoever opens it
        elif entry.is_dir():
            _walk(folder / entry.name, f"{prefix}{entry.name}/", (*above, identity), stamps, empty, visited)
        elif entry.is_file():  # no pipes, sockets or devices
            stamps[prefix + entry.name] = stamp_of(entry.stat())
        if len(stamps) > MAX_FILES:
            raise DataError(f"{folder} lies in a folder of more than {MAX_FILES:,} files: name the folder of the data.")


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether a link has no target, or leads to itself."""
    try:
        return entry.is_symlink() and not Path(entry.path).exists()
    except OSError:
        return True
