"""Zip and tar archives are read in place, and what is unsafe in them is refused."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fovea.data import archives
from fovea.data.load import read_raw
from fovea.errors import DataError
from tests.data.formats import (
    Arrays,
    colour,
    pack_tar,
    pack_zip,
    pixel_table,
    write_cifar_binary,
    write_cifar_python,
    write_class_folders,
    write_idx,
)


def write_any(kind: str, folder: Path, toy: Arrays) -> None:
    folder.mkdir(parents=True)
    if kind == "folders":
        write_class_folders(folder, toy)
    elif kind == "split folders":
        for split in ("train", "test"):
            write_class_folders(folder / split, toy)
    elif kind == "idx":
        write_idx(folder, toy, packed=True)
    elif kind == "table":
        (folder / "train.csv").write_text(pixel_table(toy))
    elif kind == "paths":
        write_class_folders(folder / "images", toy)
        files = sorted((folder / "images").rglob("*.png"))
        rows = [f"{file.relative_to(folder).as_posix()},{file.parent.name}" for file in files]
        (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    elif kind == "npz":
        np.savez(folder / "x.npz", x_train=toy[0], y_train=toy[1])
    elif kind == "cifar binary":
        write_cifar_binary(folder, colour())
    elif kind == "cifar python":
        write_cifar_python(folder, colour())


KINDS = ["folders", "split folders", "idx", "table", "paths", "npz", "cifar binary", "cifar python"]


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "wrapped/"])
def test_an_archive_reads_as_the_folder_that_was_packed(
    tmp_path: Path, toy: Arrays, kind: str, suffix: str, prefix: str
) -> None:
    write_any(kind, tmp_path / "set", toy)
    path = tmp_path / f"set.{suffix}"
    if suffix == "zip":
        pack_zip(tmp_path / "set", path, prefix)
    else:
        pack_tar(tmp_path / "set", path, prefix.rstrip("/"))
    packed, plain = read_raw(path), read_raw(tmp_path / "set")
    assert packed.name == "set"
    assert sorted(packed.parts) == sorted(plain.parts)
    for part, found in plain.parts.items():
        assert np.array_equal(np.asarray(packed.parts[part].images), np.asarray(found.images))
        assert packed.parts[part].labels.tolist() == found.labels.tolist()
        assert packed.parts[part].ids.tolist() == found.ids.tolist()


def test_an_archive_is_known_by_its_content(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    pack_zip(tmp_path / "set", tmp_path / "set.zip").rename(tmp_path / "download")
    assert len(read_raw(tmp_path / "download").parts["train"].labels) == 150


def test_the_images_of_a_packed_tar_keep_their_labels_whatever_their_order(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    files = sorted((tmp_path / "set").rglob("*.png"))
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as archive:
        for place in np.random.default_rng(0).permutation(len(files)):
            archive.add(files[place], files[place].relative_to(tmp_path / "set").as_posix())
    train = read_raw(tmp_path / "s.tar.gz").parts["train"]
    for name, label, image in zip(train.ids, train.labels, train.images, strict=True):
        row = int(name[2:5])
        assert label == "abc"[toy[1][row]]
        assert np.array_equal(image[..., 0], toy[0][row])


def zip_with(path: Path, *names: str, content: bytes = b"x") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)


def tar_with(path: Path, *members: tuple[str, bytes, str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"x") if info.size else None)


def zip_link(path: Path) -> None:
    info = zipfile.ZipInfo("a/link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def zip_encrypted(path: Path) -> None:
    zip_with(path, "a/1.png")
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + place] |= 1
    path.write_bytes(content)


UNSAFE: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip ..": (lambda path: zip_with(path, "a/1.png", "../x.png"), r"'\.\./x\.png', which leads outside"),
    "zip absolute": (lambda path: zip_with(path, "/etc/x.png"), r"'/etc/x\.png', which leads outside"),
    "zip drive": (lambda path: zip_with(path, "C:/x.png"), "leads outside"),
    "zip backslash ..": (lambda path: zip_with(path, "a\\..\\..\\x.png"), "leads outside"),
    "zip link": (zip_link, r"link or device 'a/link\.png'"),
    "zip encrypted": (zip_encrypted, "is encrypted"),
    "tar ..": (lambda path: tar_with(path, ("../x.png", tarfile.REGTYPE, "")), "leads outside"),
    "tar absolute": (lambda path: tar_with(path, ("/x.png", tarfile.REGTYPE, "")), "leads outside"),
    "tar symlink": (lambda path: tar_with(path, ("a/x.png", tarfile.SYMTYPE, "/etc/passwd")), "link or device"),
    "tar hard link": (lambda path: tar_with(path, ("a/x.png", tarfile.LNKTYPE, "/etc/passwd")), "link or device"),
    "tar device": (lambda path: tar_with(path, ("a/x.png", tarfile.CHRTYPE, "")), "link or device"),
    "tar pipe": (lambda path: tar_with(path, ("a/x.png", tarfile.FIFOTYPE, "")), "link or device"),
    "tar twice": (lambda path: tar_with(path, *[("a/x.png", tarfile.REGTYPE, "")] * 2), r"'a/x\.png' twice"),
}


@pytest.mark.parametrize("case", list(UNSAFE))
def test_an_unsafe_archive_is_refused_by_its_member(tmp_path: Path, case: str) -> None:
    make, words = UNSAFE[case]
    make(tmp_path / "bad")
    with pytest.raises(DataError, match=words):
        read_raw(tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_zip_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        zip_with(tmp_path / "bad.zip", "a/1.png", "a/1.png")
    with pytest.raises(DataError, match="twice"):
        read_raw(tmp_path / "bad.zip")


def test_bombs_are_refused_before_they_unfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BOMB_BYTES", 100_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(10_000_000))
    (tmp_path / "zeros").write_bytes(bytes(10_000_000))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "zeros", "a/1.png")
        packed.add(tmp_path / "zeros", "a/2.png")
    for name in ("bomb.zip", "bomb.tar.gz"):
        with pytest.raises(DataError, match="times its size"):
            read_raw(tmp_path / name)


def test_a_torn_archive_says_so(tmp_path: Path, toy: Arrays) -> None:
    write_class_folders(tmp_path / "set", toy)
    for path in (pack_zip(tmp_path / "set", tmp_path / "s.zip"), pack_tar(tmp_path / "set", tmp_path / "s.tar.gz")):
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(DataError, match=r"s\.(zip|tar\.gz)"):
            read_raw(path)


@pytest.mark.parametrize("where", ["header", "boundary", "inside"])
def test_a_tar_that_is_damaged_or_cut_in_the_middle_is_not_read_in_part(
    tmp_path: Path, toy: Arrays, where: str
) -> None:
    write_class_folders(tmp_path / "set", (toy[0][:12], toy[1][:12]))
    path = pack_tar(tmp_path / "set", tmp_path / "s.tar")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        info = archive.getmembers()[9]
    if where == "header":
        content[info.offset + 150] ^= 1
    elif where == "boundary":
        content = content[: info.offset]
    else:
        content = content[: info.offset_data + 10]
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or cut short after"):
        read_raw(path)


def test_a_damaged_member_is_named_whatever_reads_it(tmp_path: Path, toy: Arrays) -> None:
    for kind in ("cifar binary", "cifar python", "table", "paths", "npz", "idx"):
        write_any(kind, tmp_path / kind, toy)
        path = pack_zip(tmp_path / kind, tmp_path / f"{kind}.zip")
        with zipfile.ZipFile(path) as archive:
            info = max(archive.infolist(), key=lambda info: info.compress_size)
        content = bytearray(path.read_bytes())
        middle = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
        content[middle : middle + 8] = b"\xff" * 8
        path.write_bytes(content)
        with pytest.raises(DataError, match=path.name):
            read_raw(path)


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    zip_with(tmp_path / "bad.zip", "x/1.png")
    content = (tmp_path / "bad.zip").read_bytes()
    place = content.rindex(b"PK\x01\x02")
    central = bytearray(content[place:])
    central[28:30] = b"\0\0"
    del central[46 : 46 + len("x/1.png")]
    end = central.index(b"PK\x05\x06")
    central[end + 12 : end + 16] = struct.pack("<I", end)
    (tmp_path / "bad.zip").write_bytes(content[:place] + central)
    with pytest.raises(DataError, match=r"bad\.zip"):
        read_raw(tmp_path / "bad.zip")
