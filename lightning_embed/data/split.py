"""Split of a dev set from the train rows, by groups of rows that share a query or a positive.

A positive of a dev row may still be a negative of train rows: they come from the same corpus. The split needs a few
dozen bytes of memory per document, so that the rows need not fit in memory.
"""

import random
from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from jaxtyping import Bool, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_embed.errors import DataError
from lightning_embed.runtime.seeding import derive_seed


def dev_rows(documents: Iterable[Sequence[str]], share: float, seed: int, name: str) -> Bool[np.ndarray, " rows"]:
    """Choose whole groups of rows until about `share` of all rows is chosen.

    Args:
        documents: the texts of each row that must not occur on both sides.
        share: requested share of dev rows, in (0, 1).
        seed: seed of the run.
        name: name of the dataset, for the seed of the choice and the error message.

    Returns:
        Mask of the chosen rows.

    Raises:
        DataError: the groups are so large that less than half of `share` can be set aside.
    """
    group = _groups(documents)
    sizes = np.bincount(group)
    room = round(share * len(group))
    order = np.arange(len(sizes))
    random.Random(derive_seed(seed, "dev", name)).shuffle(order)  # type: ignore[arg-type]
    is_dev = np.zeros(len(sizes), dtype=bool)
    left = room
    for number in order:
        if sizes[number] <= left:
            is_dev[number] = True
            left -= sizes[number]
    if room - left < max(room / 2, 2):
        raise DataError(
            f"{name}: dev_share={share:g} of {len(group)} rows finds only {room - left}: the largest group of rows "
            f"that share documents has {sizes.max(initial=0)}. Give a dev file, change dev_share, or set dev_share=0."
        )
    chosen: np.ndarray = is_dev[group]
    return chosen


def _groups(documents: Iterable[Sequence[str]]) -> Int[np.ndarray, " rows"]:
    """Group of each row, numbered by first row: connected components of rows joined by equal documents."""
    hashed = ((row, xxhash.xxh3_64_intdigest(text.encode())) for row, texts in enumerate(documents) for text in texts)
    found = np.fromiter(hashed, dtype=[("row", np.int64), ("text", np.uint64)])
    found = found[found["text"].argsort()]
    rows, same = found["row"], found["text"][1:] == found["text"][:-1]
    total = int(rows.max(initial=-1)) + 1
    edges = (np.ones(same.sum(), dtype=bool), (rows[:-1][same], rows[1:][same]))
    _, group = connected_components(coo_array(edges, shape=(total, total)), directed=False)
    return np.asarray(group)
