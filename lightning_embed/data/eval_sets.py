"""Evaluation sets from files: corpus + queries + qrels, or rows."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash
from datasets import Dataset

from lightning_embed.data.readers import json_lines
from lightning_embed.errors import DataError
from lightning_embed.types import LabelSet, RetrievalSet, StsSet, Task

_HEADER = "query-id\tcorpus-id\tscore"  # of BEIR's qrels


def qrels_file(folder: Path, part: str) -> Path | None:
    """The judgements of a retrieval test: BEIR's qrels/<part>.tsv, or qrels.tsv; None: `folder` has no such test."""
    if not all((folder / name).is_file() for name in ("corpus.jsonl", "queries.jsonl")):
        return None
    return next((file for file in (beir_qrels(folder, part), folder / "qrels.tsv") if file.is_file()), None)


def beir_qrels(folder: Path, part: str) -> Path:
    """Path of the judgements of a part in a folder of BEIR."""
    return folder / "qrels" / f"{part}.tsv"


def read_retrieval(qrels_file: Path) -> RetrievalSet:
    """Read corpus.jsonl {"id", "title"?, "text"}, queries.jsonl {"id", "text"}, and qrels (query, document, relevance).

    The variants of BEIR are accepted: "_id" for "id", and a header above the qrels.

    Raises:
        DataError: a line in a different format, or a judgement of a query or document that does not exist.
    """
    folder = qrels_file.parent.parent if qrels_file.parent.name == "qrels" else qrels_file.parent
    corpus = {}
    for where, record in json_lines(folder / "corpus.jsonl"):
        corpus[_id_of(record, where)] = {
            "title": str(record.get("title") or ""),
            "text": _string(record, "text", where),
        }
    queries = {_id_of(r, where): _string(r, "text", where) for where, r in json_lines(folder / "queries.jsonl")}
    qrels: dict[str, dict[str, int]] = defaultdict(dict)
    for number, line in enumerate(qrels_file.read_text(encoding="utf-8").splitlines(), 1):
        if number == 1 and line == _HEADER:
            continue
        query, document, relevance = _judgement(line, f"{qrels_file}: line {number}")
        if query not in queries or document not in corpus:
            missing = f"query {query!r}" if query not in queries else f"document {document!r}"
            raise DataError(f"{qrels_file}: line {number}: no {missing}.")
        qrels[query][document] = relevance
    judged = {query: text for query, text in queries.items() if any(r > 0 for r in qrels.get(query, {}).values())}
    if not judged:
        raise DataError(f"{folder}: no query has a relevant document.")
    return RetrievalSet(corpus, judged, {query: qrels[query] for query in judged})


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
    return RetrievalSet(corpus, queries, qrels)


def _id(kind: str, text: str) -> str:
    return f"{kind}{xxhash.xxh64_hexdigest(text.encode())}"


def _id_of(record: Mapping[str, Any], where: str) -> str:
    name = "_id" if "_id" in record else "id"
    return str(record[name]) if isinstance(record.get(name), int) else _string(record, name, where)


def _string(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: {name!r} must be a text, got {value!r}.")
    return value


def _judgement(line: str, where: str) -> tuple[str, str, int]:
    parts = line.split("\t")
    if len(parts) != 3 or not parts[2].lstrip("-").isdigit():
        raise DataError(f"{where}: expected query TAB document TAB relevance (a whole number), got {line!r}.")
    return parts[0], parts[1], int(parts[2])
