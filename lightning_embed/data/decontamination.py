"""Train rows that have a text of a dev or test set: counted, left out, or refused.

The texts of a test are its queries and the documents that are relevant for them, both texts of its pairs, or its
labelled texts; those of a train row its query and positives, both texts of its pair, or its text. Other documents of a
corpus do not count: training sets and tests of one collection share them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Bool, UInt64
from typing_extensions import TypedDict

from lightning_embed.data.late import rows_of
from lightning_embed.data.overlap import Found, TextIndex
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.row_part import text_hash
from lightning_embed.data.row_store import document_hashes
from lightning_embed.errors import DataError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.json_file import read_json
from lightning_embed.storage.seal import made_once
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, Task

_COLUMNS = {
    Task.retrieval: ["query", "positives"],
    Task.sts: ["text1", "text2"],
    Task.classification: ["text"],
    Task.clustering: ["text"],
}


@dataclass(frozen=True)
class Overlap:
    """The train rows of a dataset that have a text of one dev or test set.

    Args:
        test: name of the dataset of the set.
        split: dev or test.
        total: number of train rows of the dataset.
        rows: number of those with a text of the set.
        queries: of them, those whose query (or a text of the other tasks) is in the set.
        equal: of them, those with a text that is equal but for case, white space and punctuation.
        example: a text of the train set, and the text of the test that it equals.
    """

    test: str
    split: str
    total: int
    rows: int
    queries: int
    equal: int
    example: Sequence[str]


@dataclass(frozen=True)
class Contamination:
    """All train rows of a dataset that have a text of a dev or test set, and the sets.

    Args:
        rows: numbers of the rows, in their order.
        queries: number of them whose query (or a text of the other tasks) is in a set.
        sets: the rows by set, most rows first.
    """

    rows: Sequence[int] = ()
    queries: int = 0
    sets: Sequence[Overlap] = ()

    def sentence(self, name: str, total: int) -> str:
        """How many rows have a text of which sets."""
        sets = ", ".join(f"{each.test} {each.split} {each.rows:,}" for each in self.sets)
        return (
            f"{name}: {len(self.rows):,} of {total:,} train rows ({len(self.rows) / total:.2%}) have a text of a dev or "
            f"test set, {self.queries:,} of them as their query ({sets})"
        )


class EvalTexts:
    """The dev and test sets of a run, in which train rows are looked for.

    Args:
        eval_sets: the sets.
        cache: folder in which results are kept, by the texts of the sets and the identity of the train rows.
    """

    def __init__(self, eval_sets: Sequence[EvalSet], cache: Path) -> None:
        self.eval_sets, self.cache = eval_sets, cache

    def overlap(self, rows: Rows, *, nearly: bool) -> Contamination:
        """The train rows that have a text of a set; the same rows and sets are compared once on a machine.

        Args:
            rows: the train rows.
            nearly: whether texts count that differ in case, white space or punctuation, or are nearly equal. All texts
                are read for them; equal ones are found by the hashes in the cache.
        """
        if not self.eval_sets or not len(rows):
            return Contamination()
        key = xxhash.xxh3_128_hexdigest(f"{self._key} {rows.table._fingerprint}".encode())
        search, word = (self._search, "overlap") if nearly else (self._equal, "equal")
        file = self.cache / f"{key}-{word}.json"
        with made_once(file) as is_missing:  # the other ranks wait for the first
            if is_missing:
                write_whole(file, json.dumps(asdict(search(rows))))
        kept: Any = read_json(file, _Kept, "Start again.", DataError)
        return Contamination(kept["rows"], kept["queries"], [Overlap(**each) for each in kept["sets"]])

    @cached_property
    def _key(self) -> str:
        digest = xxhash.xxh3_128(fingerprint(Path(__file__).parent).encode())
        for each in self.eval_sets:
            known = rows_of(each.content)
            digest.update(f"\n\n{each.name} {each.split} {known and known._fingerprint}\n".encode())
            for text in _texts(each) if known is None else ():
                digest.update(text.encode() + b"\0")
        return digest.hexdigest()

    @cached_property
    def _index(self) -> tuple[TextIndex, list[set[int]]]:
        """The texts of all sets, and the numbers of the sets of each."""
        sets: dict[str, set[int]] = defaultdict(set)
        for number, each in enumerate(self.eval_sets):
            for text in _texts(each):
                sets[text].add(number)
        index, owners = TextIndex(list(sets)), list(sets.values())
        for number, first in enumerate(index.first):
            owners[first] |= owners[number]
        return index, owners

    @cached_property
    def _hashes(self) -> list[UInt64[np.ndarray, " _"]]:
        """The hashes of the texts of each set, sorted."""
        return [np.unique(_hashes_of(each)) for each in self.eval_sets]

    def _equal(self, rows: Rows) -> Contamination:
        hashes, counts = document_hashes(rows.table)
        everywhere = np.unique(np.concatenate(self._hashes))
        hits = np.flatnonzero(_are_in(hashes, everywhere))
        first = np.cumsum(counts) - counts
        row = np.searchsorted(first, hits, side="right") - 1
        is_query = (hits == first[row]) | (rows.options.task is not Task.retrieval)
        sets = []
        for test, own in zip(self.eval_sets, self._hashes, strict=True):
            if (found := _are_in(hashes[hits], own)).any():
                number, queries = len(np.unique(row[found])), len(np.unique(row[found & is_query]))
                sets.append(Overlap(test.name, test.split, len(rows), number, queries, number, ()))
        queries = len(np.unique(row[is_query]))
        return Contamination(np.unique(row).tolist(), queries, sorted(sets, key=_most_rows_first))

    def _search(self, rows: Rows) -> Contamination:
        index, owners = self._index
        found: dict[int, _Rows] = defaultdict(_Rows)
        whole = _Rows()
        for hit in index.find(_documents(rows)):
            is_query = hit.place == 0 or rows.options.task is not Task.retrieval
            whole.add(hit, is_query, "")
            for number in owners[index.first[hit.test]]:
                found[number].add(hit, is_query, index.texts[hit.test])
        sets = [
            Overlap(test.name, test.split, len(rows), len(of.rows), len(of.queries), len(of.equal), of.example)
            for number, of in found.items()
            for test in [self.eval_sets[number]]
        ]
        return Contamination(sorted(whole.rows), len(whole.queries), sorted(sets, key=_most_rows_first))


@dataclass
class _Rows:
    """Rows that were found, with the first of their texts."""

    rows: set[int] = field(default_factory=set)
    queries: set[int] = field(default_factory=set)
    equal: set[int] = field(default_factory=set)
    example: list[str] = field(default_factory=list)

    def add(self, hit: Found, is_query: bool, test: str) -> None:
        self.rows.add(hit.row)
        self.example = self.example or [hit.text, test]
        if is_query:
            self.queries.add(hit.row)
        if hit.is_equal:
            self.equal.add(hit.row)


class _Kept(TypedDict):
    """A kept result."""

    rows: list[int]
    queries: int
    sets: list[Overlap]


def _most_rows_first(overlap: Overlap) -> tuple[int, str, str]:
    return -overlap.rows, overlap.test, overlap.split


def _documents(rows: Rows) -> Iterator[list[str]]:
    """The texts of each row that no test should have, its query first."""
    columns = _COLUMNS[rows.options.task]
    for batch in rows.table.select_columns(columns).with_format("arrow").iter(1000):
        for values in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
            yield [text for value in values for text in (value if isinstance(value, list) else [value])]


def _are_in(hashes: UInt64[np.ndarray, " _"], known: UInt64[np.ndarray, " known"]) -> Bool[np.ndarray, " _"]:
    """Whether each hash is one of the sorted known ones, of which there is at least one."""
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found: np.ndarray = known[place] == hashes
    return found


def _hashes_of(eval_set: EvalSet) -> UInt64[np.ndarray, " _"]:
    rows = rows_of(eval_set.content)
    return document_hashes(rows)[0] if rows is not None else np.array(list(map(text_hash, _texts(eval_set))), np.uint64)


def _texts(eval_set: EvalSet) -> Iterator[str]:
    """The texts of a set that no train row should have."""
    content = eval_set.content
    if isinstance(content, RetrievalSet):
        yield from content.queries.values()
        relevant = (key for judged in content.qrels.values() for key, relevance in judged.items() if relevance > 0)
        for key in dict.fromkeys(relevant):
            document = content.corpus[key]
            yield document["text"]
            if document["title"]:
                yield f"{document['title']} {document['text']}"
    elif isinstance(content, LabelSet):
        yield from content.texts
    else:
        yield from content.text1
        yield from content.text2
