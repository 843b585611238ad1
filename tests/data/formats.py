"""Small sets of images written in the formats that people have them in."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

Arrays = tuple[np.ndarray, np.ndarray]


def idx_bytes(array: np.ndarray, type_code: int = 8) -> bytes:
    header = struct.pack(">HBB", 0, type_code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(
    folder: Path,
    toy: Arrays,
    names: str = "{part}-{kind}-idx{axes}-ubyte",
    packed: bool = False,
    parts: Iterable[str] = ("train", "t10k"),
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for kind, axes, array in (("images", 3, toy[0]), ("labels", 1, toy[1].astype(np.uint8))):
            content = idx_bytes(array)
            name = names.format(part=part, kind=kind, axes=axes) + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(content) if packed else content)


def write_class_folders(root: Path, toy: Arrays, suffix: str = ".png", names: str = "abcdefghij") -> None:
    """One folder a class; files are called by their row."""
    for row, (image, label) in enumerate(zip(*toy, strict=True)):
        path = root / names[label] / f"{row:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def pixel_table(
    toy: Arrays, label: str | None = "first", header: bool = True, delimiter: str = ",", end: str = "\n"
) -> str:
    """A table of pixels as text; `label` is "first", "last" or None."""
    images, labels = toy
    rows = images.reshape(len(images), -1).astype(str).tolist()
    names = [f"pixel{i}" for i in range(len(rows[0]))]
    if label is not None:
        place = 0 if label == "first" else len(names)
        for row, value in zip(rows, labels, strict=True):
            row.insert(place, str(value))
        names.insert(place, "label")
    lines = [names, *rows] if header else rows
    return end.join(delimiter.join(line) for line in lines) + end


def colour(count: int = 12, side: int = 32, num_classes: int = 3) -> Arrays:
    """Smooth colour images whose class is the row of a bright bar."""
    rng = np.random.default_rng(3)
    labels = np.arange(count) % num_classes
    base = rng.integers(0, 100, (count, 1, 1, 3)) + np.linspace(0, 60, side)[None, None, :, None]
    images = np.broadcast_to(base, (count, side, side, 3)).astype(np.uint8).copy()
    images[np.arange(count), labels * 4] = 250
    return images, labels


def _planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def write_cifar_binary(folder: Path, toy: Arrays, hundred: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = toy[1][:, None].astype(np.uint8)
    columns = [labels // 2, labels] if hundred else [labels]
    content = np.concatenate([*columns, _planes(toy[0])], axis=1).tobytes()
    for name in ("train.bin", "test.bin") if hundred else ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (folder / name).write_bytes(content)


def write_cifar_python(folder: Path, toy: Arrays, hundred: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = toy[1].tolist()
    kinds = {b"fine_labels": labels, b"coarse_labels": [label // 2 for label in labels]}
    batch = {b"data": _planes(toy[0]), **(kinds if hundred else {b"labels": labels})}
    for name in ("train", "test") if hundred else ("data_batch_1", "data_batch_2", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def pack_zip(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def pack_tar(folder: Path, path: Path, prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        archive.add(folder, prefix or ".")
    return path
