"""Evaluation sets from files: corpus + queries + qrels, or rows."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset

from lightning_embed.data.file_access import exists
from lightning_embed.data.qrels import read_qrels
from lightning_embed.data.records import json_lines
from lightning_embed.data.row_format import BadRow, require_unicode, show
from lightning_embed.errors import DataError, results_of
from lightning_embed.types import LabelSet, RetrievalSet, StsSet, Task


def qrels_file(folder: Path, part: str) -> Path | None:
    """The judgements of a retrieval test: BEIR's qrels/<part>.tsv, or qrels.tsv; None: `folder` has no such test."""
    return next((file for file in (beir_qrels(folder, part), folder / "qrels.tsv") if exists(file)), None)


def beir_qrels(folder: Path, part: str) -> Path:
    """Path of the judgements of a part in a folder of BEIR."""
    return folder / "qrels" / f"{part}.tsv"


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
    folder = qrels_file.parent.parent if qrels_file.parent.name == "qrels" else qrels_file.parent
    read = results_of(
        {
            "corpus": lambda: _documents(folder / "corpus.jsonl", with_title=True),
            "queries": lambda: _documents(folder / "queries.jsonl", with_title=False),
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
        return StsSet(list(rows["text1"]), list(rows["text2"]), list(rows["score"]))
    if task is Task.retrieval:
        return _retrieval_from_rows(rows)
    content = LabelSet(list(rows["text"]), list(rows["label"]))
    if train is None or task is Task.clustering:  # only a classifier learns
        return content
    return replace(content, train_texts=list(train["text"]), train_labels=list(train["label"]))


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
    corpus, queries = {}, {}
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        query = _id("q", row["query"])
        queries[query] = row["query"]
        for text in (*row["positives"], *row["negatives"]):
            corpus[_id("d", text)] = {"title": "", "text": text}
        qrels[query] |= {_id("d", text): 1 for text in row["positives"]}
    own = {query: _id("d", text) for query, text in queries.items()}
    copies = {query: copy for query, copy in own.items() if copy in corpus and copy not in qrels[query]}
    return RetrievalSet(corpus, queries, qrels, copies)


def _id(kind: str, text: str) -> str:
    return f"{kind}{xxhash.xxh64_hexdigest(text.encode())}"


def _documents(file: Path, with_title: bool) -> dict[str, dict[str, str]]:
    """Id -> text (and title) of each line."""
    found: dict[str, dict[str, str]] = {}
    for number, (where, record) in enumerate(json_lines(file), 1):
        try:
            key, text = _id_of(record), _string(record, "text")
            title = _string(record, "title") if with_title and record.get("title") is not None else ""
        except BadRow as reason:
            raise DataError(f"{where}: {reason}.") from None
        if key in found:
            first = list(found).index(key) + 1
            raise DataError(f"{file}: lines {first} and {number} have the id {key!r}. Remove one, or rename it.")
        found[key] = {"title": title, "text": text} if with_title else {"text": text}
    return found


def _id_of(record: Mapping[str, Any]) -> str:
    name = "_id" if "_id" in record else "id"
    value = record.get(name)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(record, name)


def _string(record: Mapping[str, Any], name: str) -> str:
    if name not in record:
        raise BadRow(f"column {name!r} is missing; the line has {', '.join(map(repr, record)) or 'none'}")
    value = record[name]
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be a text, got {show(value)}")
    require_unicode(value, name)
    return value
