"""A retrieval set made small."""

import pytest

from lightning_embed.evaluation.dev_subset import subset
from lightning_embed.types import RetrievalSet

QUERIES, DOCUMENTS = 20, 100
CONTENT = RetrievalSet(
    corpus={f"d{i}": {"text": f"text {i}"} for i in range(DOCUMENTS)},
    queries={f"q{i}": f"query {i}" for i in range(QUERIES)},
    qrels={f"q{i}": {f"d{i}": 1, f"d{i + 30}": 2, f"d{i + 60}": 0} for i in range(QUERIES - 1)},  # the last has none
)


def test_without_limits_only_queries_without_relevant_documents_go():
    whole = subset(CONTENT, None, None)
    assert whole.corpus == CONTENT.corpus
    assert whole.queries.keys() == whole.qrels.keys() == CONTENT.qrels.keys()


def test_limits_hold_and_relevant_documents_stay():
    small = subset(CONTENT, 5, 30)
    assert (len(small.queries), len(small.corpus)) == (5, 30)
    for query in small.queries:
        number = query[1:]
        assert small.qrels[query][f"d{number}"] == 1
        assert {f"d{number}", f"d{int(number) + 30}"} <= small.corpus.keys()
        assert small.qrels[query].keys() <= small.corpus.keys()


def test_relevant_documents_stay_above_the_limit():
    assert len(subset(CONTENT, 5, 3).corpus) == 10


def test_choice_depends_on_the_ids_alone():
    turned = RetrievalSet(
        dict(reversed(CONTENT.corpus.items())), dict(reversed(CONTENT.queries.items())), CONTENT.qrels
    )
    assert subset(turned, 5, 30) == subset(CONTENT, 5, 30)


@pytest.mark.parametrize("count", [1, 7, 19])
def test_a_smaller_subset_is_part_of_a_larger_one(count):
    assert subset(CONTENT, count, None).queries.keys() <= subset(CONTENT, count + 1, None).queries.keys()


def test_copies_are_kept_with_their_query_and_document() -> None:
    ids = [f"x{i}" for i in range(20)]
    content = RetrievalSet(
        {key: {"text": key} for key in ids}, {key: key for key in ids[:10]}, {key: {ids[-1]: 1} for key in ids[:10]},
        {key: key for key in ids[:10]},
    )  # fmt: skip
    cut = subset(content, 5, 8)
    assert set(cut.copies) <= set(cut.queries)
    assert set(cut.copies.values()) <= set(cut.corpus)
    assert subset(content, None, None).copies == content.copies
