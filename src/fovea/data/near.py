"""Near-duplicates: pairs of images that are one picture, shifted a little, mirrored, compressed or brightened.

Candidates are the nearest by descriptor (fovea.data.descriptors); each is then held against the other pixel by pixel.
What counts as the same is calibrated on the data: its own images, compressed as JPEG, must still be found, and pairs
must be more alike than nearest neighbours of the data usually are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fovea.data.descriptors import describe_images, grey, small_images
from fovea.data.imageset import ImageSet, Pixels, spread_rows
from fovea.data.pixels import as_array, from_array

CANDIDATES = 3  # of each image that are looked at pixel by pixel
_LEAST_SIMILARITY = 0.7  # of descriptors; in CIFAR-10, 90 % of the nearest neighbours are below .52
_ANY, _NONE = -1.5, -2.0  # a similarity that all pairs have, rounding allowed for, and one that none has
_SHIFT = 1  # pixels, in every direction, that images are moved against each other
_MARGIN = 3  # pixels at the border that are not compared: what lies beyond them is not known
_QUERIES, _REFERENCES = 256, 4096  # rows and columns of a block of products
_STRIPES = 64  # of the columns of a block; each gives one candidate at most
_PAIRS_AT_ONCE = 2048
_BLUR = 1.5  # pixels; what is coarser is not compared, for many pictures share it
_CALIBRATION_IMAGES = 500
_JPEG_QUALITY = 75
_MISSED = 0.01  # of the data's own compressed images, that the threshold lets go
_LENIENT = 1.25  # times what an image loses by compression, a pair of it may differ by
_OUTLYING = 4.0  # times the distance from the median to the upper quartile of nearest neighbours
_THRESHOLDS = (0.75, 0.985)
_LEAST_DETAIL = 2.0  # grey levels, standard deviation of what is finer than the blur
LISTED_PAIRS = 100
LEAST_SIDE = 12  # pixels; smaller images are too alike for near-duplicates to be told
MAX_PRODUCTS = 8_000_000_000  # of descriptors; above, a sample of the images is looked up


@dataclass(frozen=True)
class Pair:
    """Two images that are one picture.

    Attributes:
        part, row: one image; of a pair across splits, that of validation or test.
        other_part, other_row: the other image.
        similarity: 0 to 1, the correlation of their fine detail, at the best of the shifts looked at.
        mirrored: whether the one is the mirror image of the other.
    """

    part: str
    row: int
    other_part: str
    other_row: int
    similarity: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """What a search found.

    Attributes:
        pairs: the most similar first; exact copies are not among them.
        threshold: the least similarity of a pair.
        by_compression: whether both images of a pair must be about as alike as each is to itself compressed, too.
        looked_up: images that were looked for among the others; 0 where images are too small to tell.
        of: images in all.
    """

    pairs: list[Pair]
    threshold: float
    by_compression: bool
    looked_up: int
    of: int


def find_near(sets: Mapping[str, ImageSet], mirrored: bool, across_only: bool = False) -> NearDuplicates:
    """Look for near-duplicates within and across splits.

    Args:
        sets: part -> images; all of one size and number of channels.
        mirrored: whether to look for mirror images too.
        across_only: look up validation and test images among training images only.
    """
    parts = [part for part in ("train", "val", "test") if part in sets]
    parts += [part for part in sets if part not in parts]
    images = {part: small_images(sets[part].images) for part in parts}
    pool = _Pool(parts, images, {part: sets[part].image_keys for part in parts})
    if min(images[parts[0]].shape[1:3]) < LEAST_SIDE or pool.total < 2:
        return NearDuplicates([], _THRESHOLDS[1], False, 0, pool.total)
    rows, last = _rows_to_look_up(pool, across_only, 2 if mirrored else 1)
    if not len(rows):  # no images that judge
        return NearDuplicates([], _THRESHOLDS[1], False, 0, pool.total)
    described, flipped = describe_images([images[part] for part in parts])
    threshold, by_compression = _threshold(pool, described, rows, last)
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for is_mirror in (False, True) if mirrored else (False,):
        queries = (flipped if is_mirror else described)[rows]
        rows_of_pairs = candidates(queries, described[:last], rows, lower_only=len(rows) == pool.total)
        rows_of_pairs = rows_of_pairs[pool.key[rows_of_pairs[:, 0]] != pool.key[rows_of_pairs[:, 1]]]
        rows_of_pairs = np.unique(np.sort(rows_of_pairs, axis=1), axis=0)
        scores = compare_pairs(pool, rows_of_pairs, is_mirror)
        for (one, two), score in zip(rows_of_pairs.tolist(), scores.tolist(), strict=True):
            if score >= threshold and score > found.get((one, two), (0.0, False))[0]:
                found[one, two] = (score, is_mirror)
    if by_compression:
        limits = _limits_of_pairs(pool, list(found))
        found = {pair: value for (pair, value), limit in zip(found.items(), limits, strict=True) if value[0] >= limit}
    ordered = sorted(found.items(), key=lambda item: (-round(item[1][0], 4), item[0]))
    pairs = [pool.pair(one, two, score, is_mirror) for (one, two), (score, is_mirror) in ordered]
    return NearDuplicates(pairs, threshold, by_compression, len(rows), pool.total)


def near_as_json(sets: Mapping[str, ImageSet], near: NearDuplicates) -> dict[str, Any]:
    """A search as plain values, with the names of the images of the first hundred pairs."""
    pairs = [
        {
            "part": pair.part,
            "id": str(sets[pair.part].ids[pair.row]),
            "other_part": pair.other_part,
            "other_id": str(sets[pair.other_part].ids[pair.other_row]),
            "similarity": pair.similarity,
            "mirrored": pair.mirrored,
        }
        for pair in near.pairs[:LISTED_PAIRS]
    ]
    counts = {
        "threshold": near.threshold,
        "by_compression": near.by_compression,
        "looked_up": near.looked_up,
        "of": near.of,
        "count": len(near.pairs),
    }
    return {**counts, "pairs": pairs}


class _Pool:
    """The images of all parts, numbered through."""

    def __init__(self, parts: list[str], images: dict[str, Pixels], keys: dict[str, NDArray[np.int64]]) -> None:
        self.parts, self.images = parts, images
        self.starts = np.cumsum([0, *(len(images[part]) for part in parts)])
        self.total = int(self.starts[-1])
        self.key = np.concatenate([keys[part] for part in parts])

    def place(self, number: int) -> tuple[str, int]:
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.parts[index], number - int(self.starts[index])

    def pixels(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [n, h, w, C]."""
        first = self.images[self.parts[0]]
        taken = np.empty((len(numbers), *first.shape[1:]), np.uint8)
        for index, part in enumerate(self.parts):
            inside = (numbers >= self.starts[index]) & (numbers < self.starts[index + 1])
            taken[inside] = self.images[part][numbers[inside] - self.starts[index]]
        return taken

    def pair(self, one: int, two: int, score: float, mirrored: bool) -> Pair:
        """The later part first: training images stand last in a pair."""
        return Pair(*self.place(two), *self.place(one), round(score, 4), mirrored)


def _rows_to_look_up(pool: _Pool, across_only: bool, passes: int) -> tuple[NDArray[np.int64], int]:
    """The images that are looked up, and how many of the first images they are looked for among."""
    trained = int(pool.starts[1])
    rows = np.arange(trained, pool.total) if across_only else np.arange(pool.total)
    last = trained if across_only else pool.total
    most = MAX_PRODUCTS // (passes * max(last, 1))
    if len(rows) <= most:
        return rows, last
    others = rows[rows >= trained]  # those of validation and test first: they judge
    spread = rows[rows < trained] if len(others) < most else others
    chosen = spread[spread_rows(len(spread), most - (len(others) if len(others) < most else 0))]
    return np.sort(np.concatenate([chosen, others])) if len(others) < most else chosen, last


def _threshold(pool: _Pool, described: Tensor, rows: NDArray[np.int64], last: int) -> tuple[float, bool]:
    """The least similarity of a pair, .75 to .985, and whether it comes from what compressed images keep.

    Neighbours may be so unlike each other that much less is telling; then it comes from how alike they usually are.
    """
    sample = rows[spread_rows(len(rows), _CALIBRATION_IMAGES)]
    nearest = candidates(described[sample], described[:last], sample, count=1, least=_ANY)
    scores = compare_pairs(pool, nearest, False)
    middle, high = np.quantile(scores, (0.5, 0.75))
    usual = middle + _OUTLYING * (high - middle)
    kept = kept_by_compression(pool.pixels(sample))
    least = float(np.quantile(kept[kept > 0], _MISSED)) if (kept > 0).any() else 1.0
    return round(float(np.clip(min(least, usual), *_THRESHOLDS)), 4), bool(least < usual)


def _limits_of_pairs(pool: _Pool, pairs: list[tuple[int, int]]) -> list[float]:
    """The least similarity of each pair, by what its own images keep when they are compressed."""
    numbers = np.unique(np.array(pairs, np.int64).reshape(-1, 2))
    blocks = [numbers[start : start + _PAIRS_AT_ONCE] for start in range(0, len(numbers), _PAIRS_AT_ONCE)]
    kept = np.concatenate([kept_by_compression(pool.pixels(block)) for block in blocks]) if blocks else np.empty(0)
    lost = dict(zip(numbers.tolist(), (_LENIENT * (1 - kept)).tolist(), strict=True))
    return [min(1 - max(lost[one], lost[two]), _THRESHOLDS[1]) for one, two in pairs]


def candidates(
    queries: Tensor,
    references: Tensor,
    own: NDArray[np.int64],
    count: int = CANDIDATES,
    least: float = _LEAST_SIMILARITY,
    lower_only: bool = False,
) -> NDArray[np.int64]:
    """The nearest references of each query: int64 [P, 2], the number of the query and that of the reference.

    Of every 64th reference of a block only the nearest is seen: of several near copies few are missed.

    Args:
        queries, references: float32 [Q, D] and [R, D], of length 1.
        own: int64 [Q], which reference a query itself is; it is not its own neighbour.
        count, least: how many of each query, and of what similarity.
        lower_only: look among references of a lower number, at least: enough where all are looked up, as `own` ascends.
    """
    numbers = torch.from_numpy(own)
    chunks = -(-len(references) // _REFERENCES)
    padded = torch.cat([references, references.new_zeros(chunks * _REFERENCES - len(references), references.shape[1])])
    columns = [part.T.contiguous() for part in torch.split(padded, _REFERENCES)]
    room = torch.empty(_QUERIES, _REFERENCES)  # used again and again: it stays in the cache
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(queries), _QUERIES):
        block = numbers[start : start + _QUERIES]
        found = [
            _nearest_in_chunk(
                queries[start : start + _QUERIES], part, block, first, len(references), count, least, room
            )
            for first, part in zip(range(0, len(references), _REFERENCES), columns, strict=True)
            if not lower_only or first <= int(block[-1])
        ]
        query, reference, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
        pairs.append(_best_of_each(query, reference, similarity, count))
    return np.concatenate(pairs)


def _nearest_in_chunk(
    queries: Tensor, columns: Tensor, own: Tensor, first: int, total: int, count: int, least: float, room: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest of each of `count` stripes, where it is near enough: query, reference and product, [n] each.

    Args:
        own: the numbers of the queries. first: the number of the first column. total: of references; what is beyond is
            padding, whose zeros would be nearer than references of opposite sign.
    """
    products = torch.mm(queries, columns, out=room[: len(queries)])
    products[:, total - first :] = _NONE
    inside = ((own >= first) & (own < first + _REFERENCES)).nonzero()[:, 0]
    products[inside, own[inside] - first] = _NONE
    stripes = products.view(len(queries), -1, _STRIPES)
    highest = stripes.amax(1)
    rows = (highest.amax(1) >= least).nonzero()[:, 0]  # few: most images have nothing like them in a chunk
    best, which = highest[rows].topk(count, dim=1)
    depth = stripes[rows].gather(2, which[:, None].expand(-1, stripes.shape[1], -1)).argmax(1)
    near = best >= least
    return own[rows, None].expand(-1, count)[near], (first + depth * _STRIPES + which)[near], best[near]


def _best_of_each(query: Tensor, reference: Tensor, similarity: Tensor, count: int) -> NDArray[np.int64]:
    """The pairs of each query with the highest similarity, int64 [P, 2], the highest first."""
    order = np.lexsort((-similarity.numpy(), query.numpy()))
    pairs = torch.stack([query, reference], 1).numpy()[order]
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])
    return np.asarray(pairs[np.arange(len(pairs)) - starts < count])


def compare_pairs(pool: _Pool, pairs: NDArray[np.int64], mirrored: bool) -> NDArray[np.float32]:
    """The similarity of each pair of numbers of a pool, float32 [P]."""
    scores = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        first, second = pool.pixels(some[:, 0]), pool.pixels(some[:, 1])
        scores.append(similarity(first[:, :, ::-1] if mirrored else first, second))
    return np.concatenate(scores)


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far images agree in what is finer than a blur: the correlation at the best of nine shifts, float32 [n].

    Images without any such detail are like nothing: 0.

    Args:
        first, second: uint8 [n, h, w, C].
    """
    one, two = _detail(grey(first)), _detail(grey(second))
    height, width = one.shape[1:]
    inner = (height - 2 * _MARGIN, width - 2 * _MARGIN)
    shifts = range(_MARGIN - _SHIFT, _MARGIN + _SHIFT + 1)
    centre = one[:, _MARGIN : _MARGIN + inner[0], _MARGIN : _MARGIN + inner[1]].flatten(1)
    centre = centre - centre.mean(1, keepdim=True)
    length = centre.norm(dim=1)
    best = torch.zeros(len(one))
    for down in shifts:
        for across in shifts:
            moved = two[:, down : down + inner[0], across : across + inner[1]].flatten(1)
            spread = (moved.square().sum(1) - moved.sum(1).square() / moved.shape[1]).clamp_min(1e-6).sqrt()
            best = torch.maximum(best, (centre * moved).sum(1) / (spread * length).clamp_min(1e-6))
    has_detail = (length > _LEAST_DETAIL * centre.shape[1] ** 0.5) & (two.flatten(1).std(1) > _LEAST_DETAIL)
    return torch.where(has_detail, best, 0.0).numpy()


def _detail(images: Tensor) -> Tensor:
    """What is finer than a Gaussian blur, float32 [n, h, w]."""
    down, across = (_blur(side) for side in images.shape[1:])
    return images - down @ images @ across.T


def _blur(side: int) -> Tensor:
    places = torch.arange(side, dtype=torch.float32)
    weights = torch.exp(-((places[None] - places[:, None]) ** 2) / (2 * _BLUR**2))
    return weights / weights.sum(1, keepdim=True)


def kept_by_compression(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The similarity of images to themselves compressed (JPEG, quality 75), float32 [n]; 0 without any detail."""
    return similarity(images, np.stack([_compressed(image) for image in images]))


def _compressed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    from_array(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return as_array(Image.open(buffer))
