"""Zip and tar archives as trees: read in place, member by member, never unpacked to the disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from fovea.data.tree import MAX_FILES, READ_ERRORS, Stamp, Tree, data_name, has_junk, reason_of, stamp_of, unreadable
from fovea.errors import DataError

# What unpacks to more than both of these is refused as a bomb: no real image data shrinks a hundredfold.
BOMB_BYTES = 2**28
BOMB_RATIO = 100

MAX_NAME = 1000  # characters of a member's name

COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class Bounded(io.RawIOBase):
    """An unpacking stream that refuses to grow out of proportion to the packed file."""

    def __init__(self, inner: Any, packed: BinaryIO, packed_bytes: int, where: str) -> None:
        super().__init__()
        self._inner, self._packed, self._where = inner, packed, where
        self._limit = max(BOMB_BYTES, BOMB_RATIO * packed_bytes)

    def readable(self) -> bool:
        """As a stream's."""
        return True

    def seekable(self) -> bool:
        """As a stream's: backward seeks unpack again from the start."""
        return bool(self._inner.seekable())

    def readinto(self, buffer: Any) -> int:
        """As a stream's.

        Raises:
            DataError: when more comes out than the limit allows.
        """
        content = self._inner.read(len(buffer))
        if self._inner.tell() > self._limit:
            raise self._too_much()
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a stream's.

        Raises:
            DataError: when the way there leads over the limit.
        """
        if whence == 0 and offset > self._limit:
            raise self._too_much()
        return int(self._inner.seek(offset, whence))

    def _too_much(self) -> DataError:
        return DataError(
            f"{self._where} unpacks to more than {self._limit:,} bytes, over {BOMB_RATIO} times its size: "
            "unpack it yourself if you trust it."
        )

    def tell(self) -> int:
        """As a stream's."""
        return int(self._inner.tell())

    def close(self) -> None:
        """Close the stream and the file under it."""
        self._inner.close()
        self._packed.close()
        super().close()


def unpacked(file: BinaryIO, packed_bytes: int, where: str) -> BinaryIO:
    """A stream of what a .gz, .bz2 or .xz file holds, told by its first bytes; other files as they are."""
    head = file.read(6)
    file.seek(0)
    for magic, opener in COMPRESSIONS.items():
        if head.startswith(magic):
            inner = opener(file, "rb")
            return cast(BinaryIO, io.BufferedReader(Bounded(inner, file, packed_bytes, where), 2**20))
    return file


def open_unpacked(tree: Tree, name: str) -> BinaryIO:
    """Open a file of a tree, unpacked on the way where it is compressed.

    Raises:
        DataError: when it cannot be opened.
    """
    file = tree.open(name)
    try:
        return unpacked(file, tree.size(name), tree.where(name))
    except READ_ERRORS as error:
        file.close()
        raise unreadable(tree.where(name), error) from error


def archive_tree(path: Path) -> Tree | None:
    """The files in a zip or tar archive, told by its content; None where `path` is no archive.

    Raises:
        DataError: for an archive that is damaged, encrypted, a bomb, or holds links, names that lead outside or
            one name twice.
    """
    try:
        with path.open("rb") as file:
            head = file.read(6)
        if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
            return _zip_tree(path)
        return _tar_tree(path, any(head.startswith(magic) for magic in COMPRESSIONS))
    except READ_ERRORS as error:
        raise _no_archive(path, error) from None


def _no_archive(path: Path, error: BaseException) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"{path} cannot be read as an archive: {reason_of(error)}. Is the download complete?")


def _checked(path: Path, name: str, seen: dict[str, Any]) -> str:
    if not 0 < len(name) <= MAX_NAME:
        raise DataError(f"{path} holds a member with a name of {len(name):,} characters: it is damaged.")
    clean = name.replace("\\", "/")
    parts = clean.split("/")
    if clean.startswith("/") or ".." in parts or "\0" in clean or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise DataError(f"{path} holds the name {name!r}, which leads outside the archive: it is not read.")
    clean = "/".join(part for part in parts if part not in ("", "."))
    if clean in seen:
        raise DataError(f"{path} holds the name {name!r} twice: which of the two is meant cannot be told.")
    if len(seen) >= MAX_FILES:
        raise DataError(f"{path} holds more than {MAX_FILES:,} files.")
    return clean


def _zip_tree(path: Path) -> Tree:
    archive = zipfile.ZipFile(path)
    try:
        return _tree_of_zip(archive, path, stamp_of(path.stat()))
    except BaseException:
        archive.close()
        raise


def inner_zip(tree: Tree, name: str) -> Tree:
    """The files in a zip archive (or .npz) that is itself a file of a tree.

    Raises:
        DataError: as `archive_tree`.
    """
    where = Path(tree.where(name))
    content = tree.read(name)
    try:
        return _tree_of_zip(zipfile.ZipFile(io.BytesIO(content)), where, tree.stamps[name])
    except READ_ERRORS as error:
        raise _no_archive(where, error) from None


def _tree_of_zip(archive: zipfile.ZipFile, path: Path, stamp: Stamp) -> Tree:
    packed, total = stamp[0], 0
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = _checked(path, info.filename, members)
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise DataError(f"{path} holds the link or device {info.filename!r}: only plain files are read.")
        if info.flag_bits & 0x1:
            raise DataError(f"{path} is encrypted ({info.filename!r}): unpack it yourself.")
        total += info.file_size
        if total > max(BOMB_BYTES, BOMB_RATIO * packed):
            raise DataError(
                f"{path} claims to unpack to more than {total:,} bytes, over {BOMB_RATIO} times its size: "
                "unpack it yourself if you trust it."
            )
        members[name] = info
    stamps = {name: (info.file_size, info.CRC, *stamp) for name, info in members.items() if not has_junk(name)}

    def open_member(name: str) -> BinaryIO:
        return cast(BinaryIO, archive.open(members[name]))

    return Tree(data_name(path), path, stamps, open_member, is_archive=True, closer=archive.close)


def _tar_tree(path: Path, is_packed: bool) -> Tree | None:
    stream = unpacked(path.open("rb"), path.stat().st_size, str(path))
    try:
        archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 (the tree reads from it)
        members = _tar_members(archive, path)
    except tarfile.ReadError:
        stream.close()
        return None
    except BaseException:
        stream.close()
        raise
    stamp = stamp_of(path.stat())
    stamps = {name: (info.size, *stamp) for name, info in members.items() if not has_junk(name)}
    lock = threading.Lock()

    def open_member(name: str) -> BinaryIO:
        info = members[name]
        return cast(BinaryIO, io.BufferedReader(_TarMember(stream, lock, info.offset_data, info.size)))

    return Tree(data_name(path), path, stamps, open_member, True, is_packed, stream.close)


class _TarMember(io.RawIOBase):
    """A member of a tar, read piece by piece from the one stream that all members share."""

    def __init__(self, stream: BinaryIO, lock: threading.Lock, start: int, size: int) -> None:
        super().__init__()
        self._stream, self._lock, self._start, self._size, self._place = stream, lock, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._place))
        with self._lock:
            self._stream.seek(self._start + self._place)
            content = self._stream.read(wanted)
        if len(content) < wanted:
            raise EOFError("the archive ends inside this file")
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def _tar_members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    offset, last = -1, "its beginning"
    while (info := _next_member(archive, path, last)) is not None:
        last = repr(info.name)
        if archive.offset <= offset or info.size < 0:
            raise DataError(f"{path} is damaged: its member {info.name!r} does not come after the one before.")
        offset = archive.offset
        name = _checked(path, info.name, members)
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise DataError(f"{path} holds the link or device {info.name!r}: only plain files are read.")
        members[name] = info
    # Python's tarfile takes a damaged or missing header for the end of the archive.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path} is damaged or cut short after {last}. Is the download complete?")
    return members


def _next_member(archive: tarfile.TarFile, path: Path, last: str) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except tarfile.ReadError:
        if not archive.offset:
            raise  # this is no tar
        raise DataError(f"{path} is damaged or cut short after {last}. Is the download complete?") from None
