"""Draws: functions of their key, uniform, independent of how they are grouped."""

from __future__ import annotations

import zlib

import numpy as np
from scipy.stats import kstest, pearsonr

from fovea.data.draws import derived_seed, random_order, random_words, uniform


def test_a_draw_depends_on_the_index_and_not_on_its_neighbours() -> None:
    every = uniform(np.arange(1000), 7, 3, "rotation")
    some = uniform(np.array([999, 5, 400]), 7, 3, "rotation")
    assert np.array_equal(some, every[[999, 5, 400]])


def test_every_part_of_the_key_matters() -> None:
    index = np.arange(50)
    keys = [(0, 1, "a"), (1, 1, "a"), (0, 2, "a"), (0, 1, "b"), (1, 0, "a")]
    drawn = [random_words(index, *key).tobytes() for key in keys]
    assert len(set(drawn)) == len(keys)


def test_draws_are_uniform_and_unrelated_between_epochs_and_purposes() -> None:
    index = np.arange(100_000)
    first, second, other = (uniform(index, 0, *key) for key in ((1, "x"), (2, "x"), (1, "y")))
    assert first.min() >= 0
    assert first.max() < 1
    assert kstest(first, "uniform").pvalue > 1e-3
    for pair in ((first, second), (first, other), (first[:-1], first[1:])):
        assert abs(pearsonr(*pair).statistic) < 0.015


def test_an_order_is_a_permutation_and_differs_between_epochs() -> None:
    orders = [random_order(1000, 0, epoch) for epoch in (1, 2)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(1000))
    assert (orders[0] == orders[1]).mean() < 0.05
    assert np.array_equal(orders[0], random_order(1000, 0, 1))


def mix(word: int) -> int:
    """SplitMix64's finalizer in plain integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_words_agree_with_plain_integer_arithmetic() -> None:
    golden, state = 0x9E3779B97F4A7C15, 0
    assert mix(golden) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 seeded with 0
    for part in (5, 2, zlib.crc32(b"order")):
        state = mix((state + golden + part) % 2**64)
    expected = [mix(mix((state + golden * (index + 1)) % 2**64)) for index in range(4)]
    assert random_words(np.arange(4), 5, 2, "order").tolist() == expected


def test_derived_seeds_fit_torch() -> None:
    assert 0 <= derived_seed(3, "dropout") < 2**63
    assert derived_seed(3, "dropout") != derived_seed(4, "dropout")
