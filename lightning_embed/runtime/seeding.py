"""Seeds that are pure functions of their purpose.

No generator state is ever stored, so resuming, caching and the number of processes cannot change the randomness.
"""

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """Mix `parts` (a run's seed, a step, a rank, a name ...) into one seed in [0, 2**63)."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
