"""Retrieval sets that are read when they are first looked into: a dev set of millions of train rows costs no start."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from datasets import Dataset

from lightning_embed.types import RetrievalSet


class _Once:
    def __init__(self, read: Callable[[Dataset], RetrievalSet], rows: Dataset) -> None:
        self.read, self.rows = read, rows

    @cached_property
    def content(self) -> RetrievalSet:
        return self.read(self.rows)


class LateMapping(Mapping[str, Any]):
    """One mapping of a set that is read when it is first looked into; then it is like that mapping."""

    def __init__(self, made: _Once, name: str) -> None:
        self._made = made
        self._name = name

    @property
    def _read(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(self._made.content, self._name)
        return found

    def __getitem__(self, key: str) -> Any:
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __contains__(self, key: object) -> bool:
        return key in self._read

    def __repr__(self) -> str:  # names scores in the cache
        return repr(self._read)


def rows_of(content: object) -> Dataset | None:
    """The rows of a set that is read late; None: it is not such a set."""
    queries = content.queries if isinstance(content, RetrievalSet) else None
    return queries._made.rows if isinstance(queries, LateMapping) else None


def read_late(read: Callable[[Dataset], RetrievalSet], rows: Dataset, has_copies: bool) -> RetrievalSet:
    """A set whose texts are read when they are needed.

    Args:
        read: makes it of its rows.
        rows: the rows, memory-mapped.
        has_copies: whether a query may be a document.
    """
    made = _Once(read, rows)
    corpus, queries, qrels, copies, prompts = (
        LateMapping(made, name) for name in ("corpus", "queries", "qrels", "copies", "prompts")
    )
    return RetrievalSet(corpus, queries, qrels, copies if has_copies else {}, prompts)
