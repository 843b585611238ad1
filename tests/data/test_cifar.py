"""CIFAR-10 and CIFAR-100, binary and python."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.errors import DataError, SettingsError
from tests.data.formats import colour, write_cifar_binary, write_cifar_python


@pytest.mark.parametrize("write", [write_cifar_binary, write_cifar_python])
def test_planes_become_pixels_and_batches_follow_each_other(tmp_path: Path, write: Any) -> None:
    images, labels = colour()
    write(tmp_path / "cifar", (images, labels))
    raw = read_raw(tmp_path / "cifar")
    assert np.array_equal(raw.parts["train"].images, np.concatenate([images, images]))
    assert np.array_equal(raw.parts["test"].images, images)
    assert np.array_equal(raw.parts["test"].labels, labels)


@pytest.mark.parametrize("write", [write_cifar_binary, write_cifar_python])
def test_cifar_100_has_fine_and_coarse_labels(tmp_path: Path, write: Any) -> None:
    images, labels = colour(12, num_classes=6)
    write(tmp_path / "cifar", (images, labels), hundred=True)
    fine, coarse = (read_raw(tmp_path / "cifar", ReadOptions(label_column=c)) for c in (None, "coarse"))
    assert np.array_equal(fine.parts["test"].images, images)
    assert np.array_equal(fine.parts["test"].labels, labels)
    assert np.array_equal(coarse.parts["test"].labels, labels // 2)
    assert "the fine labels are used" in fine.notes[0]
    with pytest.raises(SettingsError, match="'fine' and 'coarse'"):
        read_raw(tmp_path / "cifar", ReadOptions(label_column="medium"))


def test_class_names_stand_in_the_meta_files(tmp_path: Path) -> None:
    write_cifar_python(tmp_path / "py", colour())
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"ant", b"bee", b"cow"]}))
    write_cifar_binary(tmp_path / "bin", colour())
    (tmp_path / "bin" / "batches.meta.txt").write_text("ant\nbee\ncow\n\n")
    assert read_raw(tmp_path / "py").classes == read_raw(tmp_path / "bin").classes == ("ant", "bee", "cow")


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def batch(**changes: Any) -> dict[bytes, Any]:
    images, labels = colour()
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    content: dict[bytes, Any] = {b"data": planes, b"labels": labels.tolist()}
    return content | {name.encode(): value for name, value in changes.items()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (batch(labels=Runs()), "it names posix.system, which is no part of an array: it was not run"),
        (batch(data=np.array([Runs()])), "posix.system"),
        (batch(labels=[1, 2]), "12 images but 2 labels"),
        (batch(labels=[99] * 12), "label of image 0 .* is 99: expected 0 to 9"),
        (batch(labels=[-1] * 12), "is -1: expected 0 to 9"),
        (batch(labels=[10**30] * 12), "out of any range"),
        (batch(labels="many"), "no list of whole numbers"),
        (batch(data=np.zeros((12, 3071), np.uint8)), r"uint8 \(12, 3071\): expected uint8 \(N, 3072\)"),
        (batch(data=[1, 2]), "data of the form list"),
        ([1, 2, 3], "a pickled list: expected a dict"),
    ],
)
def test_a_bad_batch_is_named_and_nothing_in_it_runs(tmp_path: Path, content: Any, words: str) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        read_raw(tmp_path / "cifar")
    assert "cifar" in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "no batch of CIFAR"),
        (b"\x80\x02}q\x00", "no batch of CIFAR"),
        (b"\x80\x02}K\x01K\x01\x86" + b"2\x86" * 40 + b"K\x01s.", "keys that are no names"),
        (b"\x80\x02cnumpy\ndtype\nK\x01K\x01\x86" + b"2\x86" * 40 + b"\x85R.", "builds something else"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "no batch of CIFAR"),
        (b"\x80", "no batch of CIFAR"),
    ],
)
def test_a_damaged_pickle_is_named_and_takes_no_memory(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_raw(tmp_path / "cifar")


@pytest.mark.parametrize("size", [0, 3072, 3073 * 2 - 1, 3074])
def test_a_binary_batch_of_a_wrong_length_is_named(tmp_path: Path, size: int) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "data_batch_1.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"data_batch_1\.bin has {size:,} bytes: expected a multiple of 3,073"):
        read_raw(tmp_path / "cifar")


def test_missing_training_batches_are_said(tmp_path: Path) -> None:
    write_cifar_binary(tmp_path / "cifar", colour())
    (note,) = read_raw(tmp_path / "cifar").notes
    assert note == "data_batch_3, data_batch_4, data_batch_5 of CIFAR-10's five training batches are not there"
