"""Randomness as a function: the same (seed, epoch, image index) gives the same draw, whatever came before.

A counter-based generator has no state to save, so a run that was stopped goes on with the same draws, and images
can be augmented in any order or grouping. The mixing function is the finalizer of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = 2**64 - 1


def _mix(word: int) -> int:
    word = (word ^ (word >> 30)) * _MIX_1 & _WORD
    word = (word ^ (word >> 27)) * _MIX_2 & _WORD
    return word ^ (word >> 31)


def _mix_each(words: NDArray[np.uint64]) -> None:
    """`_mix`, in place."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(_MIX_1)
    words ^= words >> np.uint64(27)
    words *= np.uint64(_MIX_2)
    words ^= words >> np.uint64(31)


def random_words(indices: NDArray[np.int64], *key: int | str) -> NDArray[np.uint64]:
    """One random 64-bit word for each index.

    Args:
        indices: int64 [N], not negative.
        key: what the draws depend on besides the index: seed, epoch, the purpose's name.

    Returns:
        uint64 [N], uniform.
    """
    return _words(indices, np.uint64(_state(key)))


def _state(key: tuple[int | str, ...]) -> int:
    state = 0
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = _mix(state + _GOLDEN + number & _WORD)
    return state


def _words(indices: NDArray[np.int64], states: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = indices.astype(np.uint64)
    words += np.uint64(1)
    words *= np.uint64(_GOLDEN)
    words = words + states
    _mix_each(words)
    _mix_each(words)
    return words


def uniform(indices: NDArray[np.int64], *key: int | str) -> NDArray[np.float32]:
    """One uniform number in [0, 1) for each index: float32 [N], on a grid of 2**-24."""
    return _as_fractions(random_words(indices, *key))


def uniform_each(indices: NDArray[np.int64], purposes: Iterable[str], *key: int | str) -> NDArray[np.float32]:
    """`uniform` for several purposes at once, the last part of the key: float32 [purposes, N]."""
    states = np.array([_state((*key, purpose)) for purpose in purposes], np.uint64)
    return _as_fractions(_words(indices, states[:, None]))


def _as_fractions(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def random_order(count: int, *key: int | str) -> NDArray[np.int64]:
    """A random permutation of 0 .. count - 1: int64 [count]."""
    return np.argsort(random_words(np.arange(count), *key, "order"), kind="stable").astype(np.int64)


def derived_seed(*key: int | str) -> int:
    """A seed in [0, 2**63) for torch's own generators, such as the one dropout draws from."""
    return int(random_words(np.zeros(1, np.int64), *key)[0] >> np.uint64(1))
