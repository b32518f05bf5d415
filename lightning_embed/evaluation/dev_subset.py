"""Subsets of retrieval dev sets, for frequent evaluation."""

from collections.abc import Iterable

from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.types import RetrievalSet


def subset(content: RetrievalSet, max_queries: int | None, max_documents: int | None) -> RetrievalSet:
    """Keep at most `max_queries` queries and `max_documents` documents, and every document relevant to a kept query.

    An id is kept or dropped by its hash: every run, seed and machine has the same subset. Scores are higher than on
    the whole set, because it has more irrelevant documents.
    """
    relevant = {query: [doc for doc, grade in grades.items() if grade > 0] for query, grades in content.qrels.items()}
    queries = _first((query for query in content.queries if relevant.get(query)), max_queries)
    needed = {document for query in queries for document in relevant[query]}
    room = None if max_documents is None else max(0, max_documents - len(needed))
    documents = needed | set(_first((document for document in content.corpus if document not in needed), room))
    return RetrievalSet(
        corpus={document: value for document, value in content.corpus.items() if document in documents},
        queries={query: content.queries[query] for query in queries},
        qrels={query: {doc: g for doc, g in content.qrels[query].items() if doc in documents} for query in queries},
        copies={q: copy for q, copy in content.copies.items() if q in queries and copy in documents},
        prompts={query: content.prompts[query] for query in queries if query in content.prompts},
    )


def _first(ids: Iterable[str], count: int | None) -> list[str]:
    return list(ids) if count is None else sorted(ids, key=lambda key: derive_seed("subset", key))[:count]
