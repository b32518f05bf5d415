"""Orders as functions: bijections of every size, uniform, different for every seed, and undone by their inverse."""

import math
import time
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed

SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65, 99, 100, 101, 127, 128, 129, 255, 256,
         257, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 65_535, 65_536, 65_537]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_bijections(seed: int) -> None:
    for size in SIZES:
        order = Permutation(size, seed)
        numbers = order.first(size)
        assert np.array_equal(np.sort(numbers), np.arange(size)), size
        assert np.array_equal(order.inverse(numbers), np.arange(size)), size


@pytest.mark.parametrize("size", [2**31 - 1, 2**32, 2**32 + 1, 10**12, 2**53 + 1, 2**61])
def test_large_sizes_are_undone(size: int) -> None:
    order = Permutation(size, 3)
    places = np.array([0, 1, 2, size // 2, size - 2, size - 1])
    numbers = order(places)
    assert len(set(numbers.tolist())) == len(places)
    assert numbers.min() >= 0
    assert numbers.max() < size
    assert np.array_equal(order.inverse(numbers), places)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_few_numbers_are_equally_frequent(size: int) -> None:
    count = math.factorial(size) * 25
    found = [tuple(Permutation(size, derive_seed("few", size, seed)).first(size).tolist()) for seed in range(count)]
    frequencies = [found.count(order) for order in permutations(range(size))]
    assert chisquare(frequencies).pvalue > 1e-4


@pytest.mark.parametrize("size", [100, 1000, 2**14 + 1])
def test_uniform(size: int) -> None:
    """Where a number goes, how far neighbours go apart, and from which number the pair of two places is."""
    bins = 20
    heads, steps, pairs = np.zeros(bins), np.zeros(bins), np.zeros((5, 5))
    for seed in range(600):
        numbers = Permutation(size, derive_seed("uniform", seed)).first(20)
        heads += np.bincount(numbers * bins // size, minlength=bins)
        steps += np.bincount((numbers[1::2] - numbers[::2]) % size * bins // size, minlength=bins)
        np.add.at(pairs, (numbers[::2] * 5 // size, numbers[1::2] * 5 // size), 1)
    expected = np.bincount(np.arange(size) * bins // size, minlength=bins) * (heads.sum() / size)
    gaps = np.bincount(np.arange(1, size) * bins // size, minlength=bins) * (steps.sum() / (size - 1))
    assert chisquare(heads, expected).pvalue > 1e-4
    assert chisquare(steps, gaps).pvalue > 1e-4
    if size > 100:  # without replacement, two of few numbers are seldom in one part
        assert chisquare(pairs.ravel()).pvalue > 1e-4


def test_a_part_is_the_part_of_the_whole() -> None:
    order = Permutation(1000, 7)
    whole = order.first(1000)
    for start, count in [(0, 0), (0, 1), (3, 32), (500, 500), (999, 1)]:
        assert np.array_equal(order.first(count, start), whole[start : start + count])
    assert np.array_equal(order(np.array([[5, 900], [0, 5]])), whole[np.array([[5, 900], [0, 5]])])
    assert not order.first(0).size
    assert not Permutation(0, 7).first(0).size


def test_seeds_differ() -> None:
    orders = {tuple(Permutation(50, seed).first(50).tolist()) for seed in range(300)}
    assert len(orders) == 300
    near = Permutation(10_000, 0).first(10_000) == Permutation(10_000, 1).first(10_000)
    assert near.sum() < 10, "orders of neighbouring seeds agree by chance alone: at one place, on average"


def test_a_hundred_million_cost_nothing() -> None:
    tracemalloc.start()
    begin = time.process_time()
    order = Permutation(10**8, 1)
    numbers = [order.first(512, start) for start in (0, 10**7, 10**8 - 512)]
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(np.unique(np.concatenate(numbers))) == 3 * 512
    assert seconds < 0.5
    assert peak < 2**20
