"""What is wrong with data, by checks of labels, names and single images: those that need no pairs of images."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet, Pixels, slices
from fovea.data.labels import SPLIT_NAMES
from fovea.data.problem import Problem, Severity
from fovea.data.tree import listed

SURE = 1e-4  # p below which shares of classes are said to differ (field notes, T15)
_SHARE_STEP = 0.015  # a difference of shares below this many of all images is worth a note only
_RUN_SURE = 1e-6
_EARLY = 0.8  # of the images, held against the rest
_MANY_CONSTANT = 0.01
_MAX_RATIO = 10  # of class sizes
_LEAK_SEVERE = 0.01  # of a split's images
_EXAMPLES = 5

# What programs and people write behind the name of an image of which they make several; frames of a film are alike too.
_MARK = (
    r"aug(?:ment(?:ed|ation)?)?|rot(?:ate|ated|ation)?|[hv]?flip(?:ped)?|mirror(?:ed)?|crop(?:ped)?|copy|nois[ey]|"
    r"blur(?:red)?|bright(?:er|ness)?|dark(?:er)?|shift(?:ed)?|zoom(?:ed)?|shear(?:ed)?|frame|fr|f|slice|tile|patch"
)
_SUFFIX = re.compile(rf"(?:[\s_.-]+(?:{_MARK})[\s_.-]*\d*|\s*\(\d+\)|\.rf\.[0-9a-f]{{16,}})$", re.IGNORECASE)
_BARE_LETTER = re.compile(r"[\s_.-]+(?:f|fr)$", re.IGNORECASE)  # a frame has a number


def constant_rows(images: Pixels) -> NDArray[np.int64]:
    """The rows of images all of whose values are equal, int64."""
    found = [
        start + np.flatnonzero((flat := part.reshape(len(part), -1)).max(axis=1) == flat.min(axis=1))
        for start, part in slices(images)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def check_constant(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Images that show nothing: every value of them is the same."""
    problems = []
    for part, images in sets.items():
        rows = constant_rows(images.images)
        if not len(rows):
            continue
        names = [str(name) for name in images.ids[rows[:_EXAMPLES]]]
        evidence = {"part": part, "images": len(rows), "of": len(images), "examples": names}
        severity: Severity = "severe" if len(rows) > _MANY_CONSTANT * len(images) else "warning"
        are, show = ("images are", "show") if len(rows) > 1 else ("image is", "shows")
        cause = f"{len(rows):,} {part} {are} of one colour throughout and {show} nothing: {listed(names)}."
        problems.append(Problem("constant-images", cause, "Remove them, or read them anew.", severity, evidence))
    return problems


def check_labels(sets: Mapping[str, ImageSet], in_order: bool = True) -> list[Problem]:
    """Shares of classes that differ between splits, very unequal classes, names that read alike, images in order.

    Args:
        in_order: whether the rows stand in the order of the source; readers of folders sort by class themselves.
    """
    problems = [*_class_shares(sets), *_imbalance(sets), *_alike_names(sets)]
    return problems + (_sorted_by_class(sets) if in_order else [])


def _class_shares(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Chi-square of each split against the training images."""
    from scipy.stats import chi2_contingency

    problems = []
    train = _counts(sets["train"]) if "train" in sets else None
    for part in [part for part in sets if part != "train" and train is not None and len(sets[part])]:
        counts = _counts(sets[part])
        both = np.stack([train, counts])  # type: ignore[list-item]
        p = float(chi2_contingency(both[:, both.sum(axis=0) > 0]).pvalue)
        shares = both / both.sum(axis=1, keepdims=True)
        worst = int(np.abs(shares[1] - shares[0]).argmax())
        difference = float(abs(shares[1, worst] - shares[0, worst]))
        if p >= SURE:
            continue
        name = sets[part].classes[worst]
        evidence = {
            "part": part, "p": p, "class": name, "train_share": float(shares[0, worst]),
            "part_share": float(shares[1, worst]),
        }  # fmt: skip
        cause = (
            f"The classes are not as frequent among {part} images as among training images (chi-square p {p:.1g}): "
            f"{name!r} is {shares[1, worst]:.1%} there and {shares[0, worst]:.1%} in training."
        )
        cure = "Draw the splits from the same images, or judge by per-class figures."
        severity: Severity = "warning" if difference >= _SHARE_STEP else "note"
        problems.append(Problem("class-shares", cause, cure, severity, evidence))
    return problems


def _counts(images: ImageSet) -> NDArray[np.int64]:
    return np.bincount(images.labels, minlength=len(images.classes)).astype(np.int64)


def _imbalance(sets: Mapping[str, ImageSet]) -> list[Problem]:
    if "train" not in sets:
        return []
    counts, classes = _counts(sets["train"]), sets["train"].classes
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] <= _MAX_RATIO * max(int(counts[least]), 1):
        return []
    evidence = {"most": int(counts[most]), "least": int(counts[least])}
    cause = (
        f"The classes are very unequal: {counts[most]:,} training images of {classes[most]!r}, {counts[least]:,} of "
        f"{classes[least]!r}."
    )
    cure = "Judge by per-class figures: accuracy is that of the large classes."
    return [Problem("class-imbalance", cause, cure, "note", evidence)]


def _alike_names(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Classes whose names read alike: "café" in two spellings of Unicode, "Cat" and "cat"; "A" and "a" are letters."""
    readings: dict[str, list[str]] = {}
    for name in next(iter(sets.values())).classes if sets else ():
        plain = unicodedata.normalize("NFKC", name).strip()
        readings.setdefault(plain if len(plain) == 1 else plain.casefold(), []).append(name)
    problems = []
    for alike in (names for names in readings.values() if len(names) > 1):
        written = ", ".join(ascii(name) for name in alike)
        cause = f"{len(alike)} classes have names that read alike and are told apart: {written}."
        cure = "Give them one name where they are one class."
        problems.append(Problem("alike-class-names", cause, cure, "warning", {"classes": alike}))
    return problems


def longest_run(labels: NDArray[np.int64]) -> int:
    """The length of the longest stretch of equal labels."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    return int(np.diff(np.concatenate([[0], edges, [len(labels)]])).max()) if len(labels) else 0


def _sorted_by_class(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """A run of one label that no shuffled set has, or classes of which the last images hold another share."""
    from scipy.stats import chi2_contingency

    problems = []
    for part, images in sets.items():
        counts, total = _counts(images), len(images)
        share = counts.max() / max(total, 1)
        if total < 20 or share == 1:
            continue
        run = longest_run(images.labels)
        expected = total * share**run  # bounds how many such runs a shuffled set has
        cut = int(total * _EARLY)
        halves = np.stack([np.bincount(half, minlength=len(counts)) for half in np.split(images.labels, [cut])])
        p = float(chi2_contingency(halves[:, counts > 0]).pvalue)
        if expected >= _RUN_SURE and p >= SURE:
            continue
        evidence = {"part": part, "longest_run": run, "p_first_80_last_20": p}
        cause = (
            f"The {part} images are not in random order: up to {run:,} of one class follow each other, and the last "
            f"fifth {'has other' if p < SURE else 'has the same'} classes than the rest."
        )
        cure = "Nothing to do here, Fovea draws splits and order at random; elsewhere shuffle before cutting a split."
        problems.append(Problem("sorted-data", cause, cure, "note", evidence))
    return problems


def group_of(name: str, label: str) -> str | None:
    """What an image was made from, by its file name: "cat/012" of "train/cat/012_aug1.png".

    None where nothing in the name says that there are several of it: plain numbers do not.
    """
    path = PurePosixPath(name)
    stem = path.name[: -len(path.suffix)] if path.suffix else path.name
    base = stem
    while (cut := _SUFFIX.sub("", base)) != base and not _BARE_LETTER.fullmatch(base[len(cut) :]):
        base = cut
    if base == stem or not re.search(r"[^\W_]", base):
        return None
    return _key(path, label, base)


def _key(path: PurePosixPath, label: str, base: str) -> str:
    folders = [folder for folder in path.parts[:-1] if folder.lower() not in SPLIT_NAMES and folder != label]
    return "/".join([label, *folders, base])


def check_groups(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Images made from one picture or film that stand on both sides of a split, told by their file names."""
    keys = {part: _keys(images) for part, images in sets.items()}
    trained: dict[str, str] = {}
    for key, name, marked in keys.get("train", []):
        if marked or key not in trained:
            trained[key] = name
    marked_in_train = {key for key, _, marked in keys.get("train", []) if marked}
    problems = []
    for part in [part for part in sets if part != "train"]:
        pairs = [
            (name, trained[key])
            for key, name, marked in keys[part]
            if key in trained and (marked or key in marked_in_train)
        ]
        if not pairs:
            continue
        share = len(pairs) / len(sets[part])
        severity: Severity = "severe" if share > _LEAK_SEVERE else "warning"
        evidence = {"part": part, "images": len(pairs), "of": len(sets[part]), "examples": pairs[:_EXAMPLES]}
        here, there = pairs[0]
        cause = (
            f"{len(pairs):,} of {len(sets[part]):,} {part} images are by their file names variants of training images, "
            f"as {here} of {there}: what was seen in training is answered too well."
        )
        cure = "Split by picture or film first, then augment or cut into frames."
        problems.append(Problem("variant-leak", cause, cure, severity, evidence))
    return problems


def _keys(images: ImageSet) -> list[tuple[str, str, bool]]:
    """(group, file name, whether the name has a mark) of each image; [] where rows are numbered."""
    if np.asarray(images.ids).dtype.kind not in "OU" or not len(images):
        return []
    keys = []
    for name, label in zip(images.ids.tolist(), images.labels.tolist(), strict=True):
        text, class_name = str(name), images.classes[label]
        group = group_of(text, class_name)
        path = PurePosixPath(text)
        stem = path.name[: -len(path.suffix)] if path.suffix else path.name
        keys.append((group or _key(path, class_name, stem), text, group is not None))
    return keys
