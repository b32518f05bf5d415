"""Test formats into `EvalSet`s: corpus + queries + qrels, or rows."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import xxhash
from datasets import Dataset

from lightning_embed.data.source import json_lines
from lightning_embed.errors import DataError
from lightning_embed.types import LabelSet, RetrievalSet, StsSet, Task

_FILES = ("corpus.jsonl", "queries.jsonl", "qrels.tsv")


def has_retrieval_files(folder: Path) -> bool:
    """Whether `folder` holds a retrieval test."""
    return all((folder / name).is_file() for name in _FILES)


def read_retrieval(folder: Path) -> RetrievalSet:
    """Read corpus.jsonl {"id", "title"?, "text"}, queries.jsonl {"id", "text"}, qrels.tsv (query, document, relevance).

    Raises:
        DataError: a line that breaks this, or a judgement of a query or document that does not exist.
    """
    corpus_file, queries_file, qrels_file = (folder / name for name in _FILES)
    corpus = {}
    for where, record in json_lines(corpus_file):
        corpus[_string(record, "id", where)] = {
            "title": str(record.get("title") or ""),
            "text": _string(record, "text", where),
        }
    queries = {_string(r, "id", where): _string(r, "text", where) for where, r in json_lines(queries_file)}
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for number, line in enumerate(qrels_file.read_text(encoding="utf-8").splitlines(), 1):
        query, document, relevance = _judgement(line, f"{qrels_file}: line {number}")
        if query not in queries or document not in corpus:
            raise DataError(
                f"{qrels_file}: line {number}: no {f'query {query!r}' if query not in queries else f'document {document!r}'}."
            )
        qrels[query][document] = relevance
    judged = {query: text for query, text in queries.items() if any(r > 0 for r in qrels.get(query, {}).values())}
    if not judged:
        raise DataError(f"{folder}: no query has a relevant document.")
    return RetrievalSet(corpus, judged, {query: qrels[query] for query in judged})


def from_rows(rows: Dataset, task: Task, train: Dataset | None) -> RetrievalSet | StsSet | LabelSet:
    """A test set from rows. Retrieval: every document of the rows is the corpus, a query's positives are relevant."""
    if task is Task.sts:
        return StsSet(list(rows["text1"]), list(rows["text2"]), list(rows["score"]))
    if task is Task.retrieval:
        return _retrieval_from_rows(rows)
    content = LabelSet(list(rows["text"]), list(rows["label"]))
    if train is None or task is Task.clustering:  # only a classifier learns
        return content
    return replace(content, train_texts=list(train["text"]), train_labels=list(train["label"]))


def lacks(content: RetrievalSet | StsSet | LabelSet, task: Task) -> str | None:
    """Why the metric of a test set would be undefined."""
    if isinstance(content, StsSet) and len(set(content.score)) < 2:
        return "no two different scores"
    if isinstance(content, LabelSet) and len(set(content.labels)) < 2:
        return "no two different labels"
    if isinstance(content, LabelSet) and task is Task.classification and len(set(content.train_labels)) < 2:
        return "no train texts of two labels for its classifier (a train file with in_domain: false will do)"
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
    return RetrievalSet(corpus, queries, qrels)


def _id(kind: str, text: str) -> str:
    return f"{kind}{xxhash.xxh64_hexdigest(text.encode())}"


def _string(record: object, name: str, where: str) -> str:
    value = record.get(name) if isinstance(record, dict) else None
    if isinstance(value, int) and name == "id":
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} must be a text, got {value!r}.")
    return value


def _judgement(line: str, where: str) -> tuple[str, str, int]:
    parts = line.split("\t")
    if len(parts) != 3 or not parts[2].lstrip("-").isdigit():
        raise DataError(f"{where}: expected query TAB document TAB relevance (a whole number), got {line!r}.")
    return parts[0], parts[1], int(parts[2])
