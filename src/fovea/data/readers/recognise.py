"""Which reader reads what: a place on the disk becomes a tree, and the first reader that recognises it reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fovea.data.archives import archive_tree
from fovea.data.decode import begins_as_image, has_image_suffix
from fovea.data.imageset import RawData
from fovea.data.labels import SPLIT_NAMES
from fovea.data.options import ReadOptions
from fovea.data.readers.cifar import read_cifar, recognises_cifar
from fovea.data.readers.folder import read_folder, recognises_folder
from fovea.data.readers.idx import read_idx_files, recognises_idx
from fovea.data.readers.npz import read_npz, recognises_npz
from fovea.data.readers.tables import read_tables, recognises_tables
from fovea.data.tree import Tree, file_tree, folder_tree, reason_of
from fovea.errors import DataError
from fovea.registry import Registry

RUN_FILES = ("config.yaml", "manifest.json")
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Reader = tuple[Callable[[Tree], bool], Callable[[Tree, ReadOptions], RawData]]

# Asked in this order: who recognises the files of a tree reads them.
READERS: Registry[Reader] = Registry(
    "reader",
    {
        "npz": (recognises_npz, read_npz),
        "idx": (recognises_idx, read_idx_files),
        "cifar": (recognises_cifar, read_cifar),
        "tables": (recognises_tables, read_tables),
        "folder": (recognises_folder, read_folder),
    },
)


def tree_at(path: Path) -> Tree:
    """The files of a folder, of an archive, or one file.

    Raises:
        DataError: for an archive that is damaged or unsafe.
        OSError: when the place cannot be read.
    """
    if path.is_dir():
        return folder_tree(path)
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder.")
    return archive_tree(path) or file_tree(path)


def read_path(path: Path, options: ReadOptions) -> RawData:
    """Read whatever lies at a path.

    Raises:
        DataError: when nothing there is recognised, or what is recognised is damaged.
    """
    try:
        with tree_at(path) as tree:
            packed = _only_archive(path, tree)
            if packed is not None:
                return read_path(packed, options)
            raw = read_tree(tree, options)
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}.") from None
    return replace(raw, place=path)


def read_tree(tree: Tree, options: ReadOptions) -> RawData:
    """Read a tree, or the tree in the only folder that it holds.

    Raises:
        DataError: as `read_path`.
    """
    if not tree.stamps:
        raise DataError(f"{tree.place} is empty: it holds no file that is not hidden.")
    tree, runs = without_runs(tree)
    if runs:
        return replace(raw := read_tree(tree, options), notes=[*raw.notes, f"runs of Fovea were left out: {runs}"])
    for recognises, read in READERS.values():
        if recognises(tree):
            if read is read_folder and (only := _only_folder(tree)) is not None:
                return replace(read_tree(tree.below(only), options), name=_name(tree, only))
            return read(tree, options)
    raise _nothing_readable(tree)


def without_runs(tree: Tree) -> tuple[Tree, str]:
    """The tree without the run folders in it, and their names.

    Raises:
        DataError: when it is a run folder, or holds nothing else.
    """
    marked = [[name for name in tree.stamps if f"/{name}".endswith(f"/{mark}")] for mark in RUN_FILES]
    runs = set.intersection(*({name.rpartition("/")[0] for name in names} for names in marked))
    if not runs:
        return tree, ""
    beside = {folder.rpartition("/")[0] for folder in runs}
    kept = [
        name
        for name in tree.stamps
        if not any(name.startswith(f"{run}/") for run in runs)
        and not (name.rpartition("/")[0] in beside and name.endswith((".json", ".jsonl")))
    ]
    if "" in runs or not kept:
        raise DataError(f"{tree.place} is (or holds) a run of Fovea, not image data: name the data it was trained on.")
    return tree.only(kept), ", ".join(sorted(runs)[:3])


def recognised(path: Path) -> bool:
    """Whether any reader recognises what lies at a path."""
    try:
        with tree_at(path) as tree:
            return any(recognises(tree) for recognises, _ in READERS.values())
    except (DataError, OSError):
        return False


def _only_archive(path: Path, tree: Tree) -> Path | None:
    """The one archive in a folder that holds nothing else that can be read."""
    packed = [name for name in tree.stamps if "/" not in name and name.lower().endswith(_PACKED)]
    if tree.is_archive or len(packed) != 1 or any("/" in name for name in tree.stamps):
        return None
    return None if any(recognises(tree) for recognises, _ in READERS.values()) else path / packed[0]


def _only_folder(tree: Tree) -> str | None:
    """The one folder beside files like a README, where that holds more than the images of one class."""
    folders = tree.folders()
    beside = folders.pop("", [])
    if len(folders) != 1 or any(map(has_image_suffix, beside)):
        return None
    (folder,) = folders
    if folder.lower() in SPLIT_NAMES:
        return None
    below = tree.below(folder)
    flat_images = all("/" not in name for name in below.stamps) and any(map(has_image_suffix, below.stamps))
    return None if flat_images else folder


def _name(tree: Tree, folder: str) -> str:
    return tree.name if tree.is_archive else folder


def _nothing_readable(tree: Tree) -> DataError:
    names = list(tree.stamps)
    if len(names) == 1 and not tree.is_archive and tree.place.is_file():
        if begins_as_image(tree.head(names[0], 16)):
            return DataError(
                f"{tree.place} is a single image: give the folder that holds one folder of images a class."
            )
        if tree.size(names[0]) == 0:
            return DataError(f"{tree.place} is empty (0 bytes).")
        return DataError(
            f"{tree.place} is nothing that Fovea can read: expected a CSV of pixels or of path,label, a .npz with "
            "x_train and y_train, or a zip or tar with any of these, IDX files, CIFAR batches or class folders in it. "
            "Of IDX files and CIFAR batches name the folder that they lie in."
        )
    images = sum(map(has_image_suffix, names))
    if images == len(names) and not any("/" in name for name in names):
        return DataError(
            f"{tree.place} holds images ({images:,}) but no class folders: expected one folder of images a class, or a "
            "CSV of path,label beside them."
        )
    return DataError(
        f"{tree.place} holds nothing that Fovea can read: expected a folder of class folders with images, a CSV of "
        "pixels or of path,label, MNIST's IDX files, CIFAR's batches, or a .npz with x_train and y_train."
    )
