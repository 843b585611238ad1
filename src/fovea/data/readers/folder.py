"""Image folders: one folder a class, with or without split folders (train, val, test) above them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fovea.data.decode import IMAGE_SUFFIXES, begins_as_image
from fovea.data.imageset import RawData, RawSet
from fovea.data.labels import SPLIT_NAMES, natural_key
from fovea.data.options import ReadOptions
from fovea.data.pixel_cache import decode_images
from fovea.data.tree import Tree, listed, suffix_of
from fovea.errors import DataError

# Files of these names are no images and are left out without a look inside.
_OTHER_SUFFIXES = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".npy", ".npz"}
_MAX_LISTED = 10


def recognises_folder(tree: Tree) -> bool:
    """Whether a tree has folders."""
    return any("/" in name for name in tree.stamps)


def has_class_folders(tree: Tree) -> bool:
    """Whether two or more folders hold images of their own, below split folders or not."""
    branches = [_branch(tree, folder) for folder in _splits(tree).values()] or [tree]
    return all(
        len([f for f, names in part.folders().items() if f and image_files(part, names)]) > 1 for part in branches
    )


def read_folder(tree: Tree, options: ReadOptions) -> RawData:
    """Read every image in the class folders, decoded to one size.

    Raises:
        DataError: lists every file that cannot be decoded; names empty, unequal or too deep class folders.
    """
    splits = _splits(tree)
    if splits and "train" not in splits:
        raise DataError(f"{tree.place} has a {next(iter(splits))} folder but no train folder.")
    parts = splits or {"train": ""}
    notes: list[str] = []
    left_out: Counter[str] = Counter()
    branches = {part: _branch(tree, folder) for part, folder in parts.items()}
    files = {part: _class_files(branch, left_out) for part, branch in branches.items()}
    classes = tuple(sorted(files["train"], key=natural_key))
    for part, branch in branches.items():
        _check_classes(branch, set(files[part]), set(classes))
    if all(name.isdecimal() for name in classes) and [*classes] != sorted(classes):
        notes.append(f"the class folders are numbers: classes in numeric order, {', '.join(classes[:12])}")
    if splits:
        ignored = sorted({folder for folder in tree.folders() if folder} - set(splits.values()))
        notes += [f"left out, for it is no split with class folders: {listed(ignored, _MAX_LISTED)}"] if ignored else []
    if left_out:
        kinds = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in left_out.most_common(5))
        notes.append(f"files that are no images were left out: {kinds}")
    return _decoded(tree, parts, files, classes, options, notes)


def _decoded(
    tree: Tree,
    parts: dict[str, str],
    files: dict[str, dict[str, list[str]]],
    classes: tuple[str, ...],
    options: ReadOptions,
    notes: list[str],
) -> RawData:
    rows_of = {part: [(label, file) for label in found for file in found[label]] for part, found in files.items()}
    names = [f"{parts[part]}/{file}".lstrip("/") for part, rows in rows_of.items() for _, file in rows]
    pictures = decode_images(tree, names, options)
    sets, start = {}, 0
    for part, rows in rows_of.items():
        good = pictures.good(start, start + len(rows), f"{tree.place} ({part})")
        labels = np.array([readable(label) for label, _ in rows])[good - start]
        ids = np.array([readable(names[row]) for row in good.tolist()])
        sets[part] = RawSet(pictures.rows(good), labels, ids)
        start += len(rows)
    form = "image folder" if not tree.is_archive else "archive of image folders"
    return RawData(
        tree.name, form, sets, tuple(map(readable, classes)), notes=[*notes, *pictures.notes], sizes=pictures.sizes
    )


def readable(name: str) -> str:
    """A name as text that can be written: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _branch(tree: Tree, folder: str) -> Tree:
    return tree.below(folder) if folder else tree


def _splits(tree: Tree) -> dict[str, str]:
    """Split name -> its folder. A folder called train or test that holds images and no folders is a class.

    Raises:
        DataError: when one split has two folders, or all folders are splits without class folders in them.
    """
    splits: dict[str, str] = {}
    folders = {folder: names for folder, names in tree.folders().items() if folder}
    flat = {folder for folder, names in folders.items() if all(name.count("/") == 1 for name in names)}
    if (
        len(flat) > 1
        and flat == set(folders)
        and {SPLIT_NAMES.get(folder.lower()) for folder in flat} >= {"train", "test"}
    ):
        raise DataError(
            f"{tree.place} holds {' and '.join(sorted(flat))} but no class folders in them: expected "
            "train/CLASS/image, or a CSV of path,label."
        )
    for folder, names in folders.items():
        split = SPLIT_NAMES.get(folder.lower())
        if split is None or not any(name.count("/") > 1 for name in names):
            continue
        if split in splits:
            raise DataError(f"{tree.place} has two folders for the {split} split: {splits[split]} and {folder}.")
        splits[split] = folder
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _class_files(tree: Tree, left_out: Counter[str]) -> dict[str, list[str]]:
    """Class -> its image files."""
    folders = {folder: names for folder, names in tree.folders().items() if folder}
    if not folders:
        raise DataError(f"{tree.place} holds no class folders: expected one folder of images a class.")
    folders |= {folder: [] for folder in tree.empty if folder and "/" not in folder}
    classes: dict[str, list[str]] = {}
    for folder in sorted(folders, key=natural_key):
        found = image_files(tree, folders[folder])
        deep = [name for name in found if name.count("/") > 1]
        if deep:
            raise DataError(
                f"The class folder {folder} of {tree.place} holds folders with images ({deep[0]}): whether {folder} or "
                f"the folder in it is the class cannot be told. Put the images right into their class folder, or list "
                "them in a CSV of path,label."
            )
        classes[folder] = found
        kept = set(found)
        left_out.update(suffix_of(name) for name in folders[folder] if name not in kept)
    empty = [name for name, found in classes.items() if not found]
    if empty:
        suffixes, names = ", ".join(sorted(IMAGE_SUFFIXES)), listed(empty, _MAX_LISTED)
        raise DataError(
            f"No images in the class folder{'s' if len(empty) > 1 else ''} {names} of {tree.place} "
            f"(looked for {suffixes}). Remove {'them' if len(empty) > 1 else 'it'}, or add images."
        )
    return classes


def image_files(tree: Tree, names: list[str]) -> list[str]:
    """The image files among `names`: by suffix, and files of no known suffix by their first bytes."""
    found = []
    for name in names:
        suffix = suffix_of(name)
        if suffix in IMAGE_SUFFIXES or (suffix not in _OTHER_SUFFIXES and _is_image(tree, name)):
            found.append(name)
    return found


def _is_image(tree: Tree, name: str) -> bool:
    if tree.is_stream:  # a look would unpack everything before it
        return False
    try:
        return begins_as_image(tree.head(name, 16))
    except DataError:
        return False


def _check_classes(tree: Tree, found: set[str], expected: set[str]) -> None:
    strangers = sorted(found - expected)
    if strangers:
        raise DataError(
            f"{tree.place} has the class folder {listed(strangers, _MAX_LISTED)}, which the train folder lacks: "
            f"its classes are {listed(sorted(expected, key=natural_key), _MAX_LISTED)}."
        )
