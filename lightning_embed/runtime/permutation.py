"""Pseudo-random orders as functions: the number at any place, without an array of all places."""

from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np
from jaxtyping import Int, UInt64

_ROUNDS = 16  # each changes one half; with 12, some orders of six numbers are more frequent than others
_GOLDEN = 0x9E3779B97F4A7C15  # odd and irregular, so that the keys of the rounds differ in many bits
_HALF = np.uint64(32)
_STEPS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))

Places = Int[np.ndarray, "..."]
_Words = UInt64[np.ndarray, "..."]


@dataclass(frozen=True)
class Permutation:
    """A pseudo-random order of 0, 1, ..., size - 1, in constant memory.

    A Feistel network over pairs (left, right) with left < a, right < b and a * b just above `size`: a round adds a keyed
    64-bit mix of one half to the other half, modulo its bound, which can be undone. Pairs that stand for numbers from
    `size` on are sent through the network again until they do not (cycle walking).

    Black and Rogaway 2002 (Ciphers with Arbitrary Finite Domains: cycle walking, generalised Feistel); the mix is that
    of SplitMix64 (Steele, Lea and Flood 2014). It is not meant to keep secrets.

    Args:
        size: how many numbers, below 2**62.
        seed: of the order, in [0, 2**63).
    """

    size: int
    seed: int

    def __call__(self, places: Places) -> Places:
        """The numbers at the given places."""
        return self._walk(places, range(_ROUNDS))

    def inverse(self, numbers: Places) -> Places:
        """The places of the given numbers."""
        return self._walk(numbers, range(_ROUNDS - 1, -1, -1))

    def first(self, count: int, start: int = 0) -> Int[np.ndarray, " count"]:
        """The numbers at the places `start` to `start + count - 1`."""
        return self(np.arange(start, start + count))

    @cached_property
    def _bounds(self) -> tuple[np.uint64, np.uint64]:
        left = max(1, isqrt(max(0, self.size - 1)) + 1)
        return np.uint64(left), np.uint64(max(1, -(-self.size // left)))

    @cached_property
    def _keys(self) -> _Words:
        with np.errstate(over="ignore"):
            return _mixed(np.uint64(self.seed) + np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN))

    def _walk(self, numbers: Places, rounds: range) -> Places:
        found = self._network(np.asarray(numbers, dtype=np.uint64), rounds)
        while (outside := found >= self.size).any():
            found[outside] = self._network(found[outside], rounds)
        result: Places = found.astype(np.int64)
        return result

    def _network(self, numbers: _Words, rounds: range) -> _Words:
        halves = list(np.divmod(numbers, self._bounds[1]))
        for number in rounds:
            own = number % 2
            bound = self._bounds[own]
            added = ((_mixed(halves[1 - own] ^ self._keys[number]) >> _HALF) * bound) >> _HALF
            halves[own] = (halves[own] + (added if rounds.step > 0 else bound - added)) % bound
        joined: _Words = halves[0] * self._bounds[1] + halves[1]
        return joined


def _mixed(words: _Words) -> _Words:
    """A bijection of 64-bit words whose output bits all depend on all input bits."""
    for shift, factor in _STEPS:
        words = (words ^ (words >> shift)) * factor
    mixed: _Words = words ^ (words >> np.uint64(31))
    return mixed
