"""Evaluation sets from files: corpus + queries + qrels, or rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as compute
import xxhash
from datasets import Dataset

from lightning_embed.data.corpus import documents, texts_file
from lightning_embed.data.file_access import PACKED, exists
from lightning_embed.data.late import LateMapping, read_late
from lightning_embed.data.qrels import read_qrels
from lightning_embed.data.row_part import DOCUMENTS, NEGATIVES
from lightning_embed.data.row_store import stored_hashes
from lightning_embed.errors import DataError, results_of
from lightning_embed.types import LabelSet, RetrievalSet, StsSet, Task

_AT_ONCE = 10_000  # rows


def qrels_file(folder: Path, part: str) -> Path | None:
    """The judgements of a retrieval test: BEIR's qrels/<part>.tsv, or qrels.tsv; None: `folder` has no such test."""
    return next((file for file in (beir_qrels(folder, part), _packed(folder / "qrels.tsv")) if exists(file)), None)


def folder_of(qrels_file: Path) -> Path:
    """The folder with the corpus and the queries of these judgements."""
    return qrels_file.parent.parent if qrels_file.parent.name == "qrels" else qrels_file.parent


def beir_qrels(folder: Path, part: str) -> Path:
    """Path of the judgements of a part in a folder of BEIR."""
    return _packed(folder / "qrels" / f"{part}.tsv")


def _packed(file: Path) -> Path:
    """The file, or if only that exists, the file with .gz and the like behind its name."""
    names = (file.with_name(file.name + end) for end in ("", *PACKED))
    return next(filter(exists, names), file)


def read_retrieval(qrels_file: Path) -> RetrievalSet:
    """Read corpus.jsonl {"id", "title"?, "text"}, queries.jsonl {"id", "text"}, and qrels (query, document, relevance).

    The variants of BEIR are accepted: "_id" for "id", and a header above the qrels.

    A query whose id is that of a document with the same text (as in ArguAna) is that document: it is left out of the
    query's ranking unless it is judged relevant. mteb does so for all documents with the id of the query, on tasks with
    `ignore_identical_ids`; here an id that is shared by chance leaves out nothing.

    Raises:
        DataError: a line in a different format, an id that occurs twice, or a judgement of a query or document that
            does not exist.
    """
    folder = folder_of(qrels_file)
    read = results_of(
        {
            "corpus": lambda: _documents(texts_file(folder, "corpus"), with_title=True),
            "queries": lambda: _documents(texts_file(folder, "queries"), with_title=False),
        }
    )
    corpus, queries = read["corpus"], {query: document["text"] for query, document in read["queries"].items()}
    qrels = read_qrels(qrels_file, queries, corpus)
    judged = {query: text for query, text in queries.items() if any(r > 0 for r in qrels.get(query, {}).values())}
    if not judged:
        raise DataError(f"{folder}: no query has a relevant document.")
    copies = {
        query: query
        for query, text in judged.items()
        if query in corpus and qrels[query].get(query, 0) <= 0 and _is_copy(text, corpus[query])
    }
    return RetrievalSet(corpus, judged, {query: qrels[query] for query in judged}, copies)


def note_on_copies(name: str, part: str, content: RetrievalSet) -> str | None:
    """A line about queries that are documents; None: there are none."""
    if isinstance(content.queries, LateMapping) and not content.copies:
        return None  # of rows, ids are made of texts and kinds: no query has that of a document
    same_id = sum(query in content.corpus and query not in content.copies for query in content.queries)
    queries = f"of the {len(content.queries):,} queries of its {part} set"
    lines = []
    if content.copies:
        lines.append(
            f"{len(content.copies):,} {queries} are documents themselves: a query's own copy is left out of its ranking "
            "(mteb: ignore_identical_ids)"
        )
    if same_id:
        lines.append(
            f"{same_id:,} {queries} have the id of a document with a different text, or one judged relevant: it stays"
        )
    return f"{name}: {'; '.join(lines)}." if lines else None


def _is_copy(query: str, document: Mapping[str, str]) -> bool:
    """Whether a document is the query, by the letters and digits of its text, with its title or without."""
    own = _letters(query) or query
    return own in [_letters(text) or text for text in (document["text"], document["title"] + document["text"])]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def from_rows(rows: Dataset, task: Task, train: Dataset | None) -> RetrievalSet | StsSet | LabelSet:
    """A test set from rows. Retrieval: all documents are the corpus, and a query's positives are relevant."""
    if task is Task.sts:
        return StsSet(_column(rows, "text1"), _column(rows, "text2"), _column(rows, "score"), _prompts(rows))
    if task is Task.retrieval:
        return read_late(_retrieval_from_rows, rows, _may_have_copies(rows))
    content = LabelSet(_column(rows, "text"), _column(rows, "label"), prompts=_prompts(rows))
    if train is None or task is Task.clustering:  # only a classifier learns
        return content
    texts, labels = _column(train, "text"), _column(train, "label")
    return replace(content, train_texts=texts, train_labels=labels, train_prompts=_prompts(train))


def _column(rows: Dataset, name: str) -> list[Any]:
    batches = rows.select_columns([name]).with_format("arrow").iter(_AT_ONCE)
    return [value for batch in batches for value in batch.column(name).to_pylist()]


def _prompts(rows: Dataset) -> Sequence[str | None]:
    """The rows' own prompts; empty: none has one."""
    found = _column(rows, "prompt") if "prompt" in rows.column_names else []
    return () if all(prompt is None for prompt in found) else found


def lacks(content: RetrievalSet | StsSet | LabelSet, task: Task) -> str | None:
    """The reason why the metric of a test set is undefined; None if it is defined."""
    if isinstance(content, StsSet) and len(set(content.score)) < 2:
        return "no two different scores"
    if isinstance(content, LabelSet) and len(set(content.labels)) < 2:
        return "no two different labels"
    if isinstance(content, LabelSet) and task is Task.classification and len(set(content.train_labels)) < 2:
        return "no train texts of two labels for its classifier (a train file with in_domain: false is enough)"
    return None


def _retrieval_from_rows(rows: Dataset) -> RetrievalSet:
    corpus, queries, prompts = {}, {}, {}
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for row in chain.from_iterable(batch.to_pylist() for batch in rows.with_format("arrow").iter(_AT_ONCE)):
        query, prompt = _id("q", row["query"]), row.get("prompt")
        if prompt is not None:  # under another prompt, it is another query
            query = _id(f"q{_id('p', prompt)}", row["query"])
            prompts[query] = prompt
        queries[query] = row["query"]
        positives = [_id("d", text) for text in row["positives"]]
        ids = positives + [_id("d", text) for text in row["negatives"]]
        for document, text in zip(ids, (*row["positives"], *row["negatives"]), strict=True):
            corpus[document] = {"title": "", "text": text}
        qrels[query] |= dict.fromkeys(positives, 1)
    own = {query: _id("d", text) for query, text in queries.items()}
    copies = {query: copy for query, copy in own.items() if copy in corpus and copy not in qrels[query]}
    return RetrievalSet(corpus, queries, qrels, copies, prompts)


def _may_have_copies(rows: Dataset) -> bool:
    """Whether the hash of a query is that of a document, of the same row or of another."""
    if not rows.cache_files:
        return True
    hashes = (stored_hashes(rows, column) for column in (DOCUMENTS, NEGATIVES))
    documents, negatives = (h if rows._indices is None else h.take(rows._indices.column(0)) for h in hashes)
    flat = compute.list_flatten(documents).to_numpy()
    first = np.zeros(len(flat), dtype=bool)
    first[np.cumsum([0, *compute.list_value_length(documents).to_pylist()[:-1]])] = (
        True  # the query, then its positives
    )
    return bool(np.isin(flat[first], np.concatenate([flat[~first], compute.list_flatten(negatives).to_numpy()])).any())


def _id(kind: str, text: str) -> str:
    return f"{kind}{xxhash.xxh64_hexdigest(text.encode())}"


def _documents(file: Path, with_title: bool) -> dict[str, dict[str, str]]:
    """Id -> text (and title) of each line."""
    found: dict[str, dict[str, str]] = {}
    for number, (_, key, title, text) in enumerate(documents(file), 1):
        if key in found:
            first = list(found).index(key) + 1
            raise DataError(f"{file}: lines {first} and {number} have the id {key!r}. Remove one, or rename it.")
        found[key] = {"title": title, "text": text} if with_title else {"text": text}
    return found
