"""The dev split: the groups of a slow search, whole, as many as fit."""

import random

import numpy as np
import pytest

from lightning_embed.data.split import dev_rows
from lightning_embed.errors import DataError
from lightning_embed.runtime.seeding import derive_seed


def _documents(seed: int) -> list[list[str]]:
    draw = random.Random(seed)
    count = draw.randrange(60, 120)
    return [[f"d{draw.randrange(3 * count)}" for _ in range(draw.randrange(1, 3))] for _ in range(count)]


def _slow_groups(documents: list[list[str]]) -> list[set[int]]:
    """Grow each group from its first row until no row shares a document with it."""
    groups: list[set[int]] = []
    for first in range(len(documents)):
        if any(first in group for group in groups):
            continue
        group, size = {first}, 0
        while len(group) > size:
            size, texts = len(group), {text for row in group for text in documents[row]}
            group |= {row for row, own in enumerate(documents) if texts & set(own)}
        groups.append(group)
    return groups


@pytest.mark.parametrize("seed", range(10))
def test_equals_a_slow_choice(seed: int) -> None:
    documents = _documents(seed)
    groups = _slow_groups(documents)
    random.Random(derive_seed(seed, "dev", "toy")).shuffle(groups)
    room = round(0.2 * len(documents))
    chosen: set[int] = set()
    for group in groups:
        if len(chosen) + len(group) <= room:
            chosen |= group
    assert np.flatnonzero(dev_rows(documents, 0.2, seed, "toy")).tolist() == sorted(chosen)


def test_documents_may_come_one_by_one() -> None:
    documents = _documents(3)
    assert (dev_rows(iter(documents), 0.2, 0, "toy") == dev_rows(documents, 0.2, 0, "toy")).all()


@pytest.mark.parametrize(("documents", "found"), [([], 0), ([["a"]], 0), ([["a"], ["a"], ["a"]], 0)])
def test_refusals(documents: list[list[str]], found: int) -> None:
    with pytest.raises(DataError, match=rf"toy: dev_share=0.5 of {len(documents)} rows finds only {found}"):
        dev_rows(documents, 0.5, 0, "toy")
