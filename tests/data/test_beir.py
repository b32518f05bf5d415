"""Train rows of BEIR's folders."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.errors import DataError
from lightning_embed.types import Task

CORPUS = [
    {"_id": "1", "title": "One", "text": "first"},
    {"_id": "2", "title": "", "text": "second"},
    {"_id": "3", "text": "third", "metadata": {}},
    {"_id": "4", "title": "Four", "text": ""},
]
QUERIES = [{"_id": key, "text": f"query {key}", "metadata": {}} for key in "abc"]
HEADER = "query-id\tcorpus-id\tscore\n"


def _load(write: Any, tmp_path: Path, train: str, files: dict[str, str] | None = None, **options: Any) -> Any:
    write("d/corpus.jsonl", CORPUS)
    write("d/queries.jsonl", QUERIES)
    (tmp_path / "d/qrels").mkdir(exist_ok=True)
    for name, text in {"qrels/train.tsv": train, **(files or {})}.items():
        (tmp_path / "d" / name).write_text(text)
    made = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), **{"dev_share": 0.0, **options})
    return load_datasets({"d": made}, cache=tmp_path / "cache")["d"]


TEXTS = {"1": "One first", "2": "second", "3": "third", "4": "Four"}

QRELS = [
    ("a\t1\t1\n", [("a", "1", "")]),
    ("a\t1\t1\nb\t2\t1\na\t3\t2\n", [("a", "13", ""), ("b", "2", "")]),
    ("a\t1\t1\na\t2\t0\na\t3\t-1\n", [("a", "1", "23")]),
    ("a\t1\t0\nb\t2\t1\n", [("b", "2", "")]),  # of a, nothing is relevant
    ("a\t4\t1\n", [("a", "4", "")]),  # a document that is its title
    ("a 0 1 1\nb Q0 2 1\n", [("a", "1", ""), ("b", "2", "")]),
]


@pytest.mark.parametrize(("qrels", "expected"), QRELS)
@pytest.mark.parametrize("header", ["", HEADER])
def test_rows(write, tmp_path: Path, qrels: str, expected: list, header: str) -> None:
    data = _load(write, tmp_path, (header if "\t" in qrels else "") + qrels)
    found = [(row["query"], row["positives"], row["negatives"]) for row in data.train.table]
    assert found == [(f"query {q}", [TEXTS[d] for d in ps], [TEXTS[d] for d in ns]) for q, ps, ns in expected]
    assert (data.eval_sets, data.notes) == ([], [])


def test_all_parts(write, tmp_path: Path) -> None:
    data = _load(write, tmp_path, "a\t1\t1\n", {"qrels/dev.tsv": "b\t2\t1\n", "qrels/test.tsv": "c\t3\t1\n"})
    assert [each.split for each in data.eval_sets] == ["dev", "test"]
    assert all(each.in_domain for each in data.eval_sets)
    only = _load(write, tmp_path, "a\t1\t1\n", in_domain=False)
    assert (only.train, {each.in_domain for each in only.eval_sets}) == (None, {False})


def test_rows_in_a_file_come_before_train_qrels(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"query": "of a file", "positives": ["p"]}])
    assert _load(write, tmp_path, "a\t1\t1\n").train.table["query"][:] == ["of a file"]


def test_changed_judgements_give_other_rows(write, tmp_path: Path) -> None:
    assert len(_load(write, tmp_path, "a\t1\t1\n").train) == 1
    assert len(_load(write, tmp_path, "a\t1\t1\nb\t2\t1\n").train) == 2


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("a\t9\t1\n", r"train\.tsv: line 1: no document '9'"),
        ("z\t1\t1\n", r"train\.tsv: line 1: no query 'z'"),
        ("a\t1\t1\na\t1\t0\n", "lines 1 and 2: query 'a' and document '1' have two relevances"),
        ("a,1,1\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t0\n", r"train\.tsv: no rows"),
        ("", r"train\.tsv: no rows"),
    ],
)
def test_refusals(write, tmp_path: Path, qrels: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _load(write, tmp_path, qrels)


def test_packed_files(write, tmp_path: Path) -> None:
    """corpus.jsonl.gz, queries.jsonl.gz, qrels/train.tsv.gz and qrels/test.tsv.gz."""
    _load(write, tmp_path, "a\t1\t1\n", {"qrels/test.tsv": "c\t3\t1\n"})
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"):
        file = tmp_path / "d" / name
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), dev_share=0.0)
    data = load_datasets({"d": options}, cache=tmp_path / "cache")["d"]
    assert (data.train.table["positives"][:], len(data.eval_sets), data.notes) == ([["One first"]], 1, [])


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl"])
def test_judgements_without_their_texts(write, tmp_path: Path, missing: str) -> None:
    _load(write, tmp_path, "a\t1\t1\n")
    (tmp_path / "d" / missing).unlink()
    options = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), dev_share=0.0)
    with pytest.raises(DataError, match=f"{missing}: expected a file"):
        load_datasets({"d": options}, cache=tmp_path / "cache")


def test_a_query_twice(write, tmp_path: Path) -> None:
    QUERIES.append(QUERIES[0])
    try:
        with pytest.raises(DataError, match="line 4: a second query has the id 'a'"):
            _load(write, tmp_path, "a\t1\t1\n")
    finally:
        QUERIES.pop()
