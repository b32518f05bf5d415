"""Splits of a dev and a test set from the rows of a file, by groups of rows that share a query or a positive.

A positive of a dev row may still be a negative of train rows: they come from the same corpus. The groups are found once,
from the hashes in the cache, and kept beside them; a split is arithmetic on their numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from jaxtyping import Int, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_embed.data.row_store import arrow_file, document_hashes
from lightning_embed.errors import DataError
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.storage.seal import made_once

_BLOCK = 2**17  # groups at a time

Numbers = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class DocumentGroups:
    """Groups of rows: connected components of rows that are joined by equal documents, numbered by their first row.

    Args:
        starts: place in `rows` of the first row of each group, then the number of all rows.
        rows: the rows, group after group.
    """

    starts: Numbers
    rows: Numbers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sizes(self, groups: Numbers) -> Numbers:
        """Number of rows of each of some groups."""
        sizes: Numbers = self.starts[groups + 1].astype(np.int64) - self.starts[groups]
        return sizes

    def rows_of(self, groups: Numbers) -> Numbers:
        """All rows of some groups, ascending."""
        sizes = self.sizes(groups)
        before = sizes.cumsum() - sizes
        places = np.repeat(self.starts[groups] - before, sizes) + np.arange(sizes.sum())
        return np.sort(self.rows[places])


def document_groups(table: Dataset) -> DocumentGroups:
    """The groups of all rows of a file, memory-mapped; found once, in about 50 bytes of memory per document."""
    file = arrow_file(table).with_suffix(".groups.npy")
    with made_once(file) as is_missing:
        if is_missing:
            discard(file)
            made = grouped(*document_hashes(table))
            with published_file(file) as partial, partial.open("wb") as stream:
                np.save(stream, np.concatenate([made.starts, made.rows]))
    both = np.load(file, mmap_mode="r")
    return DocumentGroups(*np.split(both, [len(both) - len(table)]))


def grouped(hashes: UInt64[np.ndarray, " documents"], counts: Int[np.ndarray, " rows"]) -> DocumentGroups:
    """Find the groups.

    Args:
        hashes: of the documents of all rows, row after row.
        counts: number of documents of each row.
    """
    kind = np.uint32 if len(counts) < 2**32 else np.uint64
    rows = np.repeat(np.arange(len(counts), dtype=kind), counts)
    order = hashes.argsort()
    hashes, rows = hashes[order], rows[order]
    same = hashes[1:] == hashes[:-1]
    edges = (np.ones(same.sum(), dtype=bool), (rows[:-1][same], rows[1:][same]))
    _, group = connected_components(coo_array(edges, shape=(len(counts), len(counts))), directed=False)
    starts = np.concatenate([[0], np.bincount(group).cumsum()])
    return DocumentGroups(starts.astype(kind), group.argsort(kind="stable").astype(kind))


def held_out(table: Dataset, shares: Mapping[str, float], seed: int, name: str) -> dict[str, Numbers]:
    """Choose the rows of parts, whole groups of each.

    The test rows of a file are the same for every seed and name, so that models of different runs can be compared, and
    merged, on rows that none was trained on; the dev rows are drawn from the others.

    Args:
        table: all rows of a file.
        shares: "dev" or "test" -> requested share of all rows, in (0, 1).
        seed: of the choice of dev rows.
        name: of the dataset, for the choice of dev rows and for the message.

    Returns:
        The rows of each part and of "train", ascending.

    Raises:
        DataError: the groups are so large that less than half of a share can be set aside.
    """
    groups, taken = document_groups(table), np.zeros(0, dtype=np.int64)
    found, is_left = dict[str, Numbers](), np.ones(len(table), dtype=bool)
    for part, of in (("test", derive_seed("test")), ("dev", derive_seed(seed, "dev", name))):
        if part in shares:
            drawn = drawn_groups(groups, round(shares[part] * len(table)), Permutation(len(groups), of), taken)
            found[part], taken = groups.rows_of(drawn), np.concatenate([taken, drawn])
            is_left[found[part]] = False
            _require_enough(found[part], groups, part, shares[part], name)
    return found | {"train": np.flatnonzero(is_left)}


def drawn_groups(groups: DocumentGroups, room: int, order: Permutation, taken: Numbers) -> Numbers:
    """The groups, in an order, that fit into `room` rows beside those before them, without those that are `taken`."""
    found = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(groups), _BLOCK):
        numbers = order.first(min(_BLOCK, len(groups) - start), start)
        numbers = numbers[~np.isin(numbers, taken)] if len(taken) else numbers
        sizes = groups.sizes(numbers)
        while (fits := sizes <= room).any():
            numbers, sizes = numbers[fits], sizes[fits]
            total = sizes.cumsum()
            count = int(total.searchsorted(room, side="right"))
            found.append(numbers[:count])
            room -= int(total[count - 1])
            numbers, sizes = numbers[count:], sizes[count:]
        if not room:
            break
    return np.concatenate(found)


def _require_enough(rows: Numbers, groups: DocumentGroups, part: str, share: float, name: str) -> None:
    total = len(groups.rows)
    if len(rows) < max(round(share * total) / 2, 2):
        largest = np.diff(groups.starts).max(initial=0)
        raise DataError(
            f"{name}: {part}_share={share:g} of {total} rows finds only {len(rows)}: the largest group of rows that "
            f"share documents has {largest}. Give a {part} file, change {part}_share, or set {part}_share=0."
        )
