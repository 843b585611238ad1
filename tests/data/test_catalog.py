"""Data sets by name: every layout is found, and what is not the published content is said."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.data import catalog
from fovea.data.digests import is_published
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.errors import DataError
from tests.data.formats import (
    Arrays,
    colour,
    idx_bytes,
    pack_tar,
    pixel_table,
    write_cifar_binary,
    write_cifar_python,
    write_idx,
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOVEA_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "npz").mkdir(parents=True)
    return tmp_path / "data"


def save_npz(path: Path, toy: Arrays) -> None:
    np.savez(path, x_train=toy[0], y_train=toy[1][:, None], x_test=toy[0], y_test=toy[1])


LAYOUTS: list[tuple[str, Any]] = [
    ("mnist", lambda data, toy: write_idx(data / "mnist", toy, packed=True)),
    ("mnist", lambda data, toy: write_idx(data / "MNIST" / "raw", toy)),
    ("mnist", lambda data, toy: save_npz(data / "npz" / "mnist.npz", toy)),
    ("fashion-mnist", lambda data, toy: save_npz(data / "fashion-mnist.npz", toy)),
    ("fashion-mnist", lambda data, toy: write_idx(data / "FashionMNIST" / "raw", toy)),
    ("kmnist", lambda data, toy: write_idx(data / "kmnist", toy, packed=True)),
    ("cifar10", lambda data, _: write_cifar_binary(data / "cifar-10-batches-bin", colour())),
    ("cifar10", lambda data, _: write_cifar_python(data / "cifar-10-batches-py", colour())),
    ("cifar10", lambda data, _: save_npz(data / "npz" / "cifar10.npz", colour())),
    ("cifar100", lambda data, _: write_cifar_binary(data / "cifar-100-binary", colour(), hundred=True)),
    ("cifar100", lambda data, _: write_cifar_python(data / "cifar100", colour(), hundred=True)),
]


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_every_layout_of_a_named_set_is_found(data: Path, toy: Arrays, number: int) -> None:
    name, write = LAYOUTS[number]
    write(data, toy)
    raw = read_raw(name)
    expected = colour() if name.startswith("cifar") else toy
    assert raw.name == name
    assert np.array_equal(raw.parts["test"].images, expected[0])
    assert np.array_equal(np.ravel(raw.parts["test"].labels), expected[1])
    assert raw.classes == catalog.CATALOG[name].classes


def test_keras_folder_of_downloads_is_looked_into(tmp_path: Path, toy: Arrays) -> None:
    (tmp_path / "keras" / "datasets").mkdir(parents=True)
    save_npz(tmp_path / "keras" / "datasets" / "mnist.npz", toy)
    assert np.array_equal(read_raw("mnist").parts["train"].images, toy[0])


def test_kmnists_own_archives_are_read(data: Path, toy: Arrays) -> None:
    (data / "kmnist").mkdir()
    for part in ("train", "test"):
        for kind, array in (("imgs", toy[0]), ("labels", toy[1])):
            np.savez_compressed(data / "kmnist" / f"kmnist-{part}-{kind}.npz", array)
    raw = read_raw("kmnist")
    assert np.array_equal(raw.parts["test"].images, toy[0])
    assert raw.classes[0] == "o"
    (data / "kmnist" / "kmnist-test-labels.npz").unlink()
    with pytest.raises(DataError, match=r"kmnist-test-imgs\.npz but not the labels"):
        read_raw("kmnist")


def test_a_packed_cifar_is_found_as_it_was_downloaded(data: Path, tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "cifar-10-batches-py", colour())
    pack_tar(tmp_path / "cifar-10-batches-py", data / "cifar-10-python.tar.gz", "cifar-10-batches-py")
    assert np.array_equal(read_raw("cifar10").parts["test"].images, colour()[0])


@pytest.mark.parametrize("form", ["zip", "folder", "raw"])
def test_emnist_stands_upright_and_its_letters_begin_at_a(data: Path, toy: Arrays, form: str) -> None:
    images, labels = toy
    stored = np.ascontiguousarray(images.swapaxes(1, 2))
    files = {}
    for name, first in (("letters", 1), ("digits", 0)):
        for part in ("train", "test"):
            files[f"emnist-{name}-{part}-images-idx3-ubyte.gz"] = idx_bytes(stored)
            files[f"emnist-{name}-{part}-labels-idx1-ubyte.gz"] = idx_bytes((labels + first).astype(np.uint8))
    if form == "zip":
        (data / "emnist").mkdir()
        with zipfile.ZipFile(data / "emnist" / "gzip.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"gzip/{name}", gzip.compress(content))
    else:
        folder = data / ("emnist" if form == "folder" else "EMNIST/raw")
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match="several sets of IDX files"):
            read_raw(folder)
    for name, first_class in (("letters", "a"), ("digits", "0")):
        raw = read_raw(f"emnist-{name}")
        assert np.array_equal(raw.parts["train"].images, images)
        assert np.array_equal(raw.parts["test"].labels, labels)
        assert raw.classes[0] == first_class


def test_kaggles_digits_are_found_by_name(data: Path, toy: Arrays) -> None:
    (data / "digit-recognizer").mkdir()
    (data / "digit-recognizer" / "train.csv").write_text(pixel_table(toy))
    (data / "digit-recognizer" / "test.csv").write_text(pixel_table(toy, None))
    raw = read_raw("digit-recognizer")
    assert np.array_equal(raw.parts["train"].images, toy[0])
    assert raw.classes == tuple("0123456789")


def test_a_copy_is_known_by_its_content_in_any_format(tmp_path: Path, toy: Arrays) -> None:
    write_idx(tmp_path / "idx", toy, packed=True)
    save_npz(tmp_path / "x.npz", toy)
    arrays = [toy[0], toy[1].astype(np.uint8)] * 2
    contents = tuple(hashlib.sha256(idx_bytes(array)).hexdigest() for array in arrays)
    md5 = tuple(hashlib.md5(idx_bytes(array)).hexdigest() for array in arrays)
    for place in (tmp_path / "idx", tmp_path / "x.npz"):
        raw = read_raw(place)
        assert is_published(raw, contents, {}) is True
        assert is_published(raw, md5, {}) is True
        assert is_published(raw, contents[::-1], {}) is False
        assert is_published(raw, contents[:2], {}) is False


def test_cifar_is_known_by_the_content_of_its_binary_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.data.digests._BATCH", 12)
    write_cifar_binary(tmp_path / "bin", colour())
    write_cifar_python(tmp_path / "py", colour())
    digest = hashlib.sha256((tmp_path / "bin" / "test_batch.bin").read_bytes()).hexdigest()
    for place in ("bin", "py"):
        assert is_published(read_raw(tmp_path / place), (digest,) * 3, {}) is True
        assert is_published(read_raw(tmp_path / place), (digest, digest, "0" * 64), {}) is False


def test_content_that_is_not_the_published_one_is_used_with_a_warning(data: Path, toy: Arrays) -> None:
    write_idx(data / "mnist", toy)
    raw = read_raw("mnist")
    assert raw.known is False
    assert "is not the published mnist, byte for byte" in raw.notes[-1]


def test_where_nothing_is_published_nothing_is_claimed(data: Path) -> None:
    write_cifar_binary(data / "cifar-100-binary", colour(), hundred=True)
    assert catalog.read_named("cifar100", ReadOptions()).known is None


def test_coarse_labels_have_the_coarse_names(data: Path) -> None:
    write_cifar_binary(data / "cifar-100-binary", colour(), hundred=True)
    assert read_raw("cifar100", ReadOptions(label_column="coarse")).classes is None
    (data / "cifar-100-binary" / "coarse_label_names.txt").write_text("fish\nflowers\n")
    assert read_raw("cifar100", ReadOptions(label_column="coarse")).classes == ("fish", "flowers")


def test_the_real_mnist_is_the_published_one(real_data: Path) -> None:
    assert read_raw("mnist").known is True
