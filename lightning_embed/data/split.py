"""A dev set out of the train rows: by groups of rows that share a document, so that no dev document was trained on."""

import random
from collections.abc import Iterable, Sequence

from lightning_embed.errors import DataError
from lightning_embed.seeding import derive_seed


def dev_rows(documents: Iterable[Sequence[str]], share: float, seed: int, name: str) -> set[int]:
    """Choose whole groups of rows until about `share` of all rows is chosen.

    Args:
        documents: of each row, the texts that must not stand on both sides.
        share: wanted share of dev rows, in (0, 1).
        seed: of the run.
        name: of the dataset; it seeds the choice, and the error message names it.

    Raises:
        DataError: the groups are so large that not half of `share` can be set aside.
    """
    groups = _groups(documents)
    total = sum(map(len, groups))
    room = round(share * total)
    random.Random(derive_seed(seed, "dev", name)).shuffle(groups)
    chosen: set[int] = set()
    for group in groups:
        if len(chosen) + len(group) <= room:
            chosen.update(group)
    if len(chosen) < max(room / 2, 2):
        raise DataError(
            f"{name}: dev_share={share:g} of {total} rows finds only {len(chosen)}: the largest group of rows that share "
            f"documents has {max(map(len, groups), default=0)}. Give a dev file, change dev_share, or set dev_share=0."
        )
    return chosen


def _groups(documents: Iterable[Sequence[str]]) -> list[list[int]]:
    """Connected components of rows (joined by equal documents), in order of their first row; union-find."""
    parent: list[int] = []
    owner: dict[int, int] = {}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, texts in enumerate(documents):
        parent.append(row)
        for text in texts:
            parent[root(row)] = root(owner.setdefault(hash(text), row))
    groups: dict[int, list[int]] = {}
    for row in range(len(parent)):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())
