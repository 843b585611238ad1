"""Hostile files of every kind: one clear error or a sound result, never a traceback, a hang or memory without end."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fovea.data.audit import describe
from fovea.data.load import read_raw
from fovea.errors import UserError
from tests.conftest import bars
from tests.data.formats import (
    colour,
    idx_bytes,
    pack_tar,
    pack_zip,
    pixel_table,
    write_cifar_binary,
    write_cifar_python,
    write_class_folders,
    write_idx,
)

TOY = bars(24)


def seeds(root: Path) -> list[tuple[Path, Path]]:
    """(what to read, which file of it to damage) for one good set of each format."""
    write_idx(root / "idx", TOY)
    write_idx(root / "packed", TOY, packed=True)
    np.savez(root / "x.npz", x_train=TOY[0], y_train=TOY[1])
    np.savez_compressed(root / "y.npz", x=TOY[0], y=TOY[1])
    (root / "first.csv").write_text(pixel_table(TOY))
    (root / "last.csv").write_text(pixel_table(TOY, "last", header=False))
    write_cifar_binary(root / "bin", colour())
    write_cifar_python(root / "py", colour())
    places = [
        (root / "idx", root / "idx" / "train-images-idx3-ubyte"),
        (root / "idx", root / "idx" / "train-labels-idx1-ubyte"),
        (root / "packed", root / "packed" / "t10k-images-idx3-ubyte.gz"),
        *((root / name, root / name) for name in ("x.npz", "y.npz", "first.csv", "last.csv")),
        (root / "bin", root / "bin" / "data_batch_1.bin"),
        (root / "py", root / "py" / "data_batch_1"),
    ]
    for suffix in (".png", ".jpg", ".gif", ".bmp", ".webp", ".tif", ".ppm"):
        folder = root / f"folder{suffix}"
        write_class_folders(folder, TOY, suffix)
        places.append((folder, folder / "b" / f"001{suffix}"))
    (root / "paths.csv").write_text(
        "path,label\n" + "".join(f"folder.png/{'abc'[y]}/{i:03d}.png,{y}\n" for i, y in enumerate(TOY[1]))
    )
    places.append((root / "paths.csv", root / "paths.csv"))
    packs = [pack_zip(root / "folder.png", root / "f.zip"), pack_tar(root / "folder.png", root / "f.tar")]
    packs.append(pack_tar(root / "idx", root / "i.tar.gz"))
    return places + [(path, path) for path in packs]


def is_refused_or_sound(source: Path) -> str:
    """Read data as `fovea data` does. A UserError is a clear refusal; whatever else is raised is a defect."""
    try:
        facts = describe(read_raw(source))
    except UserError as error:
        message = str(error)
        assert len(message) < 6000
        assert "Traceback" not in message
        return message
    for images in facts.sets.values():
        assert len(images.images) == len(images.labels) == len(images.ids)
        assert images.labels.min() >= 0
    return ""


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The usual accidents and some malice."""
    rng = np.random.default_rng(len(content))
    yield "empty", b""
    yield "first byte", content[:1]
    yield "half", content[: len(content) // 2]
    yield "last byte lost", content[:-1]
    yield "zeros", bytes(len(content))
    yield "ones", b"\xff" * min(len(content), 10_000)
    yield "twice", content * 2
    yield "tail", content + b"tail" * 10
    yield "front", b"front" + content
    yield "text", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "bomb", gzip.compress(bytes(3_000_000))
    for place in (0, 1, 4, 8, 16, 24, len(content) // 3, len(content) - 6):
        changed = bytearray(content)
        changed[place : place + 4] = b"\xff\xff\xff\x7f"
        yield f"huge number at {place}", bytes(changed)
    for number in range(4):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 8):
            changed[place] ^= 1 << int(rng.integers(8))
        yield f"flips {number}", bytes(changed)


def test_damage_of_every_kind_to_a_file_of_every_format(tmp_path: Path) -> None:
    count = 0
    for source, file in seeds(tmp_path):
        content = file.read_bytes()
        for name, bad in damaged(content):
            file.write_bytes(bad)
            try:
                message = is_refused_or_sound(source)
            except Exception as error:
                raise AssertionError(f"{file.name}, {name}: {type(error).__name__}: {error}") from error
            if name in ("empty", "first byte", "text") and bad != content:
                assert message, f"{file.name}, {name}: was read as data"
                assert str(tmp_path) in message, message
            count += 1
        file.write_bytes(content)
        assert is_refused_or_sound(source) == ""
    assert count >= 400


NUM_SEEDS = 20


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    found = seeds(tmp_path_factory.mktemp("seeds"))
    assert len(found) == NUM_SEEDS
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.integers(0, NUM_SEEDS - 1),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=12)), min_size=1, max_size=6),
)
@example(number=0, edits=[(0.0, 1, b"\0\0\x08\xff")])
def test_random_edits_of_good_files_are_refused_or_read(
    places: list[tuple[Path, Path]], number: int, edits: list[tuple[float, int, bytes]]
) -> None:
    source, file = places[number]
    good = file.read_bytes()
    content = bytearray(good)
    for where, how, piece in edits:
        place = int(where * len(content))
        if how == 0:
            content[place:place] = piece
        elif how == 1:
            content[place : place + len(piece)] = piece
        elif how == 2:
            del content[place : place + len(piece)]
        else:
            del content[place:]
    try:
        file.write_bytes(content)
        is_refused_or_sound(source)
    finally:
        file.write_bytes(good)


BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (600 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from fovea.data.audit import describe
from fovea.data.load import read_raw
from fovea.errors import UserError
for source in sys.argv[1:]:
    try:
        describe(read_raw(source))
        print("read", source)
    except UserError as error:
        print("refused", str(error).splitlines()[0])
"""


def lying_npy(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(100)


def claims(folder: Path) -> Iterator[Path]:
    """Small files that claim to be huge."""
    (folder / "idx").mkdir()
    huge = struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**10, 2**10)
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(huge + bytes(100))
    (folder / "idx" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(9, np.uint8)))
    yield folder / "idx"
    (folder / "gz").mkdir()
    packed = gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 4_000_000, 32, 32) + bytes(1_000_000))
    (folder / "gz" / "train-images-idx3-ubyte.gz").write_bytes(packed)
    (folder / "gz" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(9, np.uint8)))
    yield folder / "gz"
    for number, (shape, descr) in enumerate([((2**40, 28, 28), "|u1"), ((9,), "|V999999999"), ((2**62, 2**62), "<f8")]):
        with zipfile.ZipFile(folder / f"{number}.npz", "w") as archive:
            archive.writestr("x.npy", lying_npy(shape, descr))
            archive.writestr("y.npy", lying_npy((9,)))
        yield folder / f"{number}.npz"
    (folder / "one-line.csv").write_bytes(b"label,a,b,c,d\n" + b"9" * 40_000_000)
    yield folder / "one-line.csv"
    with tarfile.open(folder / "bomb.tar.gz", "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("a/1.png")
        info.size = 300_000_000
        archive.addfile(info, endless_zeros(info.size))
    yield folder / "bomb.tar.gz"
    (folder / "py").mkdir()
    (folder / "py" / "data_batch_1").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    yield folder / "py"
    (folder / "pics" / "a").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("L", (7000, 7000)).save(buffer, "PNG")
    (folder / "pics" / "a" / "1.png").write_bytes(buffer.getvalue()[:200])
    write_class_folders(folder / "pics", TOY)
    yield folder / "pics"


def endless_zeros(size: int) -> io.BufferedIOBase:
    class Zeros(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    return io.BufferedReader(Zeros())


def test_files_that_claim_to_be_huge_take_no_memory(tmp_path: Path) -> None:
    sources = [str(source) for source in claims(tmp_path)]
    command = [sys.executable, "-c", BOUNDED, *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(sources)
    for source, answer in zip(sources, answers, strict=True):
        assert answer.startswith("refused "), answer
        assert source in answer


def test_a_pickle_in_every_place_runs_nothing(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "ran",)

    bad = pickle.dumps(Runs())
    np.savez(tmp_path / "o.npz", x_train=np.array([Runs()], dtype=object), y_train=np.zeros(1))
    for name in ("p.csv", "p.npz", "p.zip", "p", "data_batch_1", "p.npy"):
        (tmp_path / name).write_bytes(bad)
    (tmp_path / "cifar").mkdir()
    for name in ("data_batch_1", "batches.meta"):
        (tmp_path / "cifar" / name).write_bytes(bad)
    for path in [*tmp_path.iterdir()]:
        assert is_refused_or_sound(path)
    assert not (tmp_path / "ran").exists()
