"""Randomness as a function: the same (seed, epoch, image index) gives the same draw, whatever came before.

A counter-based generator has no state to save, so a run that was stopped goes on with the same draws, and images
can be augmented in any order or grouping. The mixing function is the finalizer of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def random_words(indices: NDArray[np.int64], *key: int | str) -> NDArray[np.uint64]:
    """One random 64-bit word for each index.

    Args:
        indices: int64 [N], not negative.
        key: what the draws depend on besides the index: seed, epoch, the purpose's name.

    Returns:
        uint64 [N], uniform.
    """
    state = np.zeros(1, np.uint64)
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = _mix(state + _GOLDEN + np.uint64(number))
    return _mix(_mix(state + _GOLDEN * (indices.astype(np.uint64) + np.uint64(1))))


def uniform(indices: NDArray[np.int64], *key: int | str) -> NDArray[np.float32]:
    """One uniform number in [0, 1) for each index: float32 [N], on a grid of 2**-24."""
    return (random_words(indices, *key) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def random_order(count: int, *key: int | str) -> NDArray[np.int64]:
    """A random permutation of 0 .. count - 1: int64 [count]."""
    return np.argsort(random_words(np.arange(count), *key, "order"), kind="stable").astype(np.int64)


def derived_seed(*key: int | str) -> int:
    """A seed in [0, 2**63) for torch's own generators, such as the one dropout draws from."""
    return int(random_words(np.zeros(1, np.int64), *key)[0] >> np.uint64(1))
