"""Images that occur more than once: exact copies, near-duplicates, one picture under two labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fovea.data.imageset import ImageSet
from fovea.data.near import NearDuplicates, Pair
from fovea.data.problem import Problem, Severity

SHARED_SEVERE = 0.01  # of a split's images, and more than a handful
NEAR_SEVERE = 0.2
NEAR_NOTED = 0.001  # up to here a note: so few move no accuracy by more than a tenth of a point
_CONFLICTS_SEVERE = 0.01
_COPIES_WARNED = 0.01
_HANDFUL = 3
_EXAMPLES = 10


def check_shared_images(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Count the validation and test images that are, pixel by pixel, training images."""
    problems = []
    for name in [name for name in ("val", "test") if name in sets]:
        shared = int(np.isin(sets[name].image_keys, sets["train"].image_keys).sum())
        if not shared:
            continue
        cause = (
            f"{shared:,} of {len(sets[name]):,} {name} images are training images too: what was seen in training "
            f"is answered too well."
        )
        is_severe = shared > max(_HANDFUL, SHARED_SEVERE * len(sets[name]))
        severity: Severity = "severe" if is_severe else "warning"
        evidence = {"part": name, "images": shared, "of": len(sets[name])}
        problems.append(Problem("shared-images", cause, f"Remove them from the {name} images.", severity, evidence))
    return problems


def check_copies(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Exact copies within a split."""
    problems = []
    for part, images in sets.items():
        copies = len(images) - len(np.unique(images.image_keys))
        if not copies:
            continue
        severity: Severity = "warning" if copies > _COPIES_WARNED * len(images) else "note"
        cause = f"{copies:,} of {len(images):,} {part} images {_are(copies)} of others there, pixel by pixel."
        evidence = {"part": part, "images": copies, "of": len(images)}
        cure = "Remove them before a split is cut, or they end up on both sides."
        problems.append(Problem("duplicates", cause, cure, severity, evidence))
    return problems


def _are(copies: int) -> str:
    return "are copies" if copies > 1 else "is a copy"


def check_conflicts(sets: Mapping[str, ImageSet]) -> list[Problem]:
    """Equal images, in any split, whose labels differ."""
    parts = list(sets)
    key = np.concatenate([sets[part].image_keys for part in parts])
    label = np.concatenate([sets[part].labels for part in parts])
    names = np.concatenate(
        [[f"{part} {name}" for name in sets[part].ids.tolist()] for part in parts if len(sets[part])]
    )
    group = np.unique(key, return_inverse=True)[1].reshape(-1)
    least, most = np.full(len(key), np.iinfo(np.int64).max), np.full(len(key), -1)
    np.minimum.at(least, group, label)
    np.maximum.at(most, group, label)
    rows = np.flatnonzero(least[group] != most[group])
    if not len(rows):
        return []
    rows = rows[np.argsort(group[rows], kind="stable")]
    classes = sets[parts[0]].classes
    examples = [f"{names[row]}: {classes[label[row]]}" for row in rows[:_EXAMPLES]]
    severity: Severity = "severe" if len(rows) > _CONFLICTS_SEVERE * len(key) else "warning"
    cause = f"{len(rows):,} images occur with more than one label, as {examples[0]} and {examples[1]}."
    evidence = {"images": len(rows), "of": len(key), "examples": examples}
    cure = "Look at them and keep one label: whatever is answered, some of them are counted wrong."
    return [Problem("conflicting-labels", cause, cure, severity, evidence)]


def check_near(sets: Mapping[str, ImageSet], near: NearDuplicates, labelled: bool) -> list[Problem]:
    """Near-duplicates across splits, within splits, and those whose labels differ."""
    across = [pair for pair in near.pairs if pair.part != pair.other_part]
    within = [pair for pair in near.pairs if pair.part == pair.other_part]
    problems = _across(sets, across, near)
    for part in dict.fromkeys(pair.part for pair in within):
        pairs = [pair for pair in within if pair.part == part]
        cause = f"{len(pairs):,} pairs of {part} images {_words(pairs)}."
        evidence = {"part": part, "pairs": len(pairs), **_evidence(pairs, near)}
        cure = "Keep both of a pair on the same side of a split."
        problems.append(Problem("near-duplicates", cause, cure, "note", evidence))
    if labelled:
        problems += _near_conflicts(sets, near)
    return problems


def _across(sets: Mapping[str, ImageSet], pairs: list[Pair], near: NearDuplicates) -> list[Problem]:
    problems = []
    for part, other in dict.fromkeys((pair.part, pair.other_part) for pair in pairs):
        some = [pair for pair in pairs if (pair.part, pair.other_part) == (part, other)]
        touched = len({pair.row for pair in some})
        severity: Severity = "note" if touched <= NEAR_NOTED * len(sets[part]) else "warning"
        severity = "severe" if touched > max(_HANDFUL, NEAR_SEVERE * len(sets[part])) else severity
        cause = (
            f"{touched:,} of {len(sets[part]):,} {part} images have a near-duplicate among the {other} images: the "
            f"pairs {_words(some)}."
        )
        cure = f"Look at the pairs; remove them from the {part} images, or say that the figure is too good by them."
        evidence = {
            "part": part,
            "other_part": other,
            "images": touched,
            "of": len(sets[part]),
            **_evidence(some, near),
        }
        problems.append(Problem("near-duplicates-across", cause, cure, severity, evidence))
    return problems


def _words(pairs: list[Pair]) -> str:
    mirrored = sum(pair.mirrored for pair in pairs)
    return "are one picture but for a shift, brightness or compression" + (
        f", {mirrored:,} of them mirrored" if mirrored else ""
    )


def _evidence(pairs: list[Pair], near: NearDuplicates) -> dict[str, Any]:
    return {
        "mirrored": sum(pair.mirrored for pair in pairs),
        "threshold": near.threshold,
        "looked_up": near.looked_up,
    }


def _near_conflicts(sets: Mapping[str, ImageSet], near: NearDuplicates) -> list[Problem]:
    differing = [pair for pair in near.pairs if not pair.mirrored and len(set(labels_of_pair(sets, pair))) > 1]
    if not differing:
        return []
    names = [
        f"{pair.part} {sets[pair.part].ids[pair.row]} ({one}) and {pair.other_part} "
        f"{sets[pair.other_part].ids[pair.other_row]} ({two})"
        for pair in differing[:_EXAMPLES]
        for one, two in [labels_of_pair(sets, pair)]
    ]
    are = "pairs of near-duplicates have" if len(differing) > 1 else "pair of near-duplicates has"
    cause = f"{len(differing):,} {are} two labels, as {names[0]}."
    evidence = {"pairs": len(differing), "examples": names}
    return [
        Problem("near-conflicting-labels", cause, "Look at them: one label of a pair may be wrong.", "note", evidence)
    ]


def labels_of_pair(sets: Mapping[str, ImageSet], pair: Pair) -> tuple[str, str]:
    """The class names of both images of a pair."""
    one, two = sets[pair.part], sets[pair.other_part]
    return one.classes[one.labels[pair.row]], two.classes[two.labels[pair.other_row]]
