"""Randomness without state: every seed is a pure function of what it is for.

No generator state is ever stored. Resuming, caching and another number of processes therefore cannot change it.
"""

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """Mix `parts` (a run's seed, a step, a rank, a name ...) into one seed in [0, 2**63)."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
