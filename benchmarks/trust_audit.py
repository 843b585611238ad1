"""The data audit, measured: time and memory on CIFAR-10, planted near-duplicates, true pairs, false alarms.

Called by `python benchmarks/trust.py audit`. Near-duplicates are planted by code of its own, not by that of the audit.
Which of the first 50 pairs of the real CIFAR-10 are one picture was judged by eye, on the contact sheet that this
writes (results/trust/cifar10-pairs.png); the verdicts stand in results/trust/cifar10-pairs.json.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.data.audit import describe
from fovea.data.imageset import ImageSet
from fovea.data.load import read_raw
from fovea.data.mosaic import as_png, mosaic
from fovea.data.near import NearDuplicates, find_near
from fovea.files import write_bytes
from fovea.reporting.datapage import SHOWN_PAIRS, shown_pairs
from spine import FOVEA, measured

RESULTS = Path(__file__).resolve().parent / "results" / "trust"
SHEET, VERDICTS = RESULTS / "cifar10-pairs.png", RESULTS / "cifar10-pairs.json"
PLANTED = 500
PUBLISHED = ("digits", "mnist", "fashion-mnist", "cifar10")
Change = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


def shifted(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Moved by one pixel in one of eight directions; the border is repeated."""
    down, across = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))[number % 8]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    return padded[1 + down : 1 + down + height, 1 + across : 1 + across + width]


def mirrored(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Left for right."""
    return image[:, ::-1]


def compressed(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Through JPEG of quality 75."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer)).reshape(image.shape)


def brightened(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Five per cent brighter or darker, clipped."""
    return np.clip(np.rint(image * (1.05 if number % 2 else 0.95)), 0, 255).astype(np.uint8)


KINDS: dict[str, Change] = {
    "shifted by 1 px": shifted,
    "mirrored": mirrored,
    "JPEG quality 75": compressed,
    "brightness 5 %": brightened,
}


def planted(name: str) -> dict[str, Any]:
    """Of changed training images put among the test images, the share whose pair is found, by kind of change."""
    raw = read_raw(name)
    sets = describe(raw).sets
    train, test = sets["train"], sets["test"]
    kinds = {kind: change for kind, change in KINDS.items() if kind != "mirrored" or raw.kind != "characters"}
    rows = np.random.default_rng(0).choice(len(train), PLANTED * len(kinds), replace=False).reshape(len(kinds), -1)
    images = np.concatenate(
        [
            np.stack([change(train.images[row], number) for number, row in enumerate(some.tolist())])
            for change, some in zip(kinds.values(), rows, strict=True)
        ]
    )
    labels = np.concatenate([test.labels, train.labels[rows.ravel()]])
    both = np.concatenate([np.asarray(test.images), images])
    sets = {"train": train, "test": ImageSet(both, labels, train.classes, np.arange(len(both)))}
    start = time.perf_counter()
    near = find_near(sets, raw.kind != "characters")
    seconds = time.perf_counter() - start
    partners: dict[int, set[int]] = {}
    for pair in near.pairs:
        if (pair.part, pair.other_part) == ("test", "train"):
            partners.setdefault(pair.row, set()).add(pair.other_row)
    same = np.isin(sets["test"].image_keys, sets["train"].image_keys)  # a change of nothing is a copy
    shares, number = {}, len(test)
    for kind, some in zip(kinds, rows, strict=True):
        found = [
            bool(same[number + i]) or row in partners.get(number + i, set()) for i, row in enumerate(some.tolist())
        ]
        shares[kind] = float(np.mean(found))
        number += len(some)
    real = [pair for pair in near.pairs if pair.part == "test" and pair.other_part == "train" and pair.row < len(test)]
    return {
        "found": shares, "planted_of_a_kind": PLANTED, "threshold": near.threshold, "seconds": round(seconds, 1),
        "test_images_flagged": len({pair.row for pair in real}), "test_images": len(test),
    }  # fmt: skip


def first_pairs() -> dict[str, Any]:
    """The first pairs of the real CIFAR-10: drawn, and counted as they were judged by eye."""
    sets = describe(read_raw("cifar10")).sets
    near: NearDuplicates = find_near(sets, True)
    pairs = shown_pairs(near)
    tiles = [
        np.stack([sets[pair.part].images[pair.row], sets[pair.other_part].images[pair.other_row]]) for pair in pairs
    ]
    sheet = mosaic(np.stack([mosaic(tile, 2, gap=2) for tile in tiles]), 10, gap=8)
    write_bytes(SHEET, as_png(sheet.repeat(2, axis=0).repeat(2, axis=1)))
    names = [f"{pair.part} {pair.row} {pair.other_part} {pair.other_row}" for pair in pairs]
    verdicts = json.loads(VERDICTS.read_text(encoding="utf-8")) if VERDICTS.exists() else {}
    return {
        "pairs": dict(zip(names, [pair.similarity for pair in pairs], strict=True)),
        "true": sum(verdicts.get(name) is True for name in names),
        "not_judged": sum(name not in verdicts for name in names),
        "all_pairs": len(near.pairs),
    }


def published_sets(names: tuple[str, ...]) -> dict[str, Any]:
    """What `fovea data` says of published sets: exit code by `measured`, which refuses others than 0, and findings."""
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds, megabytes, out = measured([*FOVEA, "data", name, "--json"], Path(folder))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cores_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = [f"{finding['severity']} {finding['id']}: {finding['cause']}" for finding in json.loads(out)["findings"]]
        found[name] = {
            "seconds": round(seconds, 1), "cpu_seconds": round(cores_seconds, 1), "peak_mb": round(megabytes),
            "findings": told,
        }  # fmt: skip
        print(name, found[name], file=sys.stderr)
    return found


def main(data: Path) -> dict[str, Any]:
    """Everything about the audit."""
    published = published_sets(PUBLISHED)
    shares = {name: planted(name) for name in ("cifar10", "mnist", "fashion-mnist")}
    pairs = first_pairs()
    cifar, flagged = published["cifar10"], shares["mnist"]
    share_flagged = flagged["test_images_flagged"] / flagged["test_images"]
    least = {name: min(found["found"].values()) for name, found in shares.items()}
    figures = [
        {
            "name": "`fovea data cifar10`, 60,000 images: seconds, a fresh process", "asked": "60 at most",
            "measured": f"{cifar['seconds']} ({cifar['cpu_seconds']} of CPU time)", "reached": cifar["seconds"] <= 60,
        },
        {
            "name": "its peak memory", "asked": "under 2,000 MB", "measured": f"{cifar['peak_mb']:,} MB",
            "reached": cifar["peak_mb"] < 2000,
        },
        *(
            {
                "name": f"{name}: of {PLANTED} planted of each kind, found",
                "asked": "95 % of each", "reached": least[name] >= 0.95,
                "measured": ", ".join(f"{kind} {share:.1%}" for kind, share in found["found"].items()),
            }
            for name, found in shares.items()
        ),
        {
            "name": f"CIFAR-10: of the first {SHOWN_PAIRS} pairs shown, true by eye", "asked": "40 at least",
            "measured": f"{pairs['true']} ({pairs['not_judged']} not judged)", "reached": pairs["true"] >= 40,
        },
        {
            "name": "MNIST: test images flagged as near-duplicates", "asked": "under 1 %",
            "measured": f"{share_flagged:.2%}", "reached": share_flagged < 0.01,
        },
    ]  # fmt: skip
    return {"figures": figures, "published": published, "planted": shares, "first_pairs": pairs}
