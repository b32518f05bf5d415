"""A corpus and rows of its ids."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.corpus import Corpus, documents, texts_file
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

DOCUMENTS = [{"id": f"d{i}", "title": f"T{i}" if i % 2 else "", "text": f"text {i}"} for i in range(40)]
TEXTS = {f"d{i}": f"T{i} text {i}" if i % 2 else f"text {i}" for i in range(40)}


def _load(tmp_path: Path, **options: Any) -> Any:
    made = DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), corpus="corpus.jsonl", dev_share=0.0, **options)
    return load_datasets({"d": made}, cache=tmp_path / "cache")["d"]


ROWS = [
    ({"query": "q", "positives": ["d1", "d2"], "negatives": ["d3"]}, ["d1", "d2"], ["d3"]),
    ({"query": "q", "positives": "d1"}, ["d1"], []),
    ({"query": "q", "pos": ["d1"], "neg": ["d2"]}, ["d1"], ["d2"]),
    ({"query": "q", "pos_id": ["d1"], "neg_id": ["d2", "d4"]}, ["d1"], ["d2", "d4"]),
    ({"query": "q", "positive_ids": ["d1"], "negative_ids": []}, ["d1"], []),
    ({"query": "q", "pos_ids": ["d1"]}, ["d1"], []),
    ({"query": "q", "positive_id": "d1", "negative_id_1": "d2", "negative_id_2": "d3"}, ["d1"], ["d2", "d3"]),
    ({"anchor": "q", "positive": "d1", "negative": "d2"}, ["d1"], ["d2"]),
    ({"query": "q", "pos_id": ["d1"], "pos": ["another text"]}, ["d1"], []),
]


@pytest.mark.parametrize(("record", "positives", "negatives"), ROWS)
def test_rows_of_ids(write, tmp_path: Path, record: dict, positives: list, negatives: list) -> None:
    write("d/corpus.jsonl", DOCUMENTS)
    write("d/train.jsonl", [record] * 2)
    ignored = [name for name in ("pos",) if "pos_id" in record and name in record]
    data = _load(tmp_path, ignore_columns=ignored)
    row = data.train.table[1]
    assert (row["positives"], row["negatives"]) == ([TEXTS[d] for d in positives], [TEXTS[d] for d in negatives])
    assert data.notes == []


def test_own_names_scores_and_cells(write, tmp_path: Path) -> None:
    write("d/corpus.jsonl", [{"_id": 7, "text": "seven"}, {"_id": 8, "text": "eight"}])
    (tmp_path / "d/train.csv").write_text('q,good,bad,s\nx,7,"[8, ""7""]",0.5\ny,"[""8""]",,1\n')
    columns = {"query": "q", "positives": "good", "negatives": "bad", "positive_scores": "s"}
    rows = _load(tmp_path, columns=columns).train.table.to_list()
    assert [(r["positives"], r["negatives"], r["positive_scores"]) for r in rows] == [
        (["seven"], ["eight", "seven"], [0.5]), (["eight"], [], [1.0])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"positives": ["d99"]}, "line 2: 'positives': .*corpus.jsonl has no document 'd99'"),
        ({"positives": ["d1"], "negatives": ["text 3"]}, "line 2: 'negatives': .* has no document 'text 3'"),
        ({"positives": [1.5]}, "line 2: 'positives' must be an id of corpus.jsonl, got float 1.5"),
        ({"positives": [None]}, "line 2: 'positives' must be an id of corpus.jsonl, got NoneType"),
        ({"positives": [["d1"]]}, "line 2: 'positives' must be an id of corpus.jsonl, got list"),
        ({"positives": True}, "line 2: 'positives' must be an id of corpus.jsonl, got bool True"),
        ({"positives": []}, "line 2: 'positives' is empty: a query needs"),
        ({}, "line 2: column 'positives' is missing"),
        ({"positives": ["\ud800"]}, "line 2: 'positives': .* has no document"),
    ],
)
def test_refusals(write, tmp_path: Path, record: dict, reason: str) -> None:
    write("d/corpus.jsonl", DOCUMENTS)
    write("d/train.jsonl", [{"query": "q", "positives": ["d1"]}, {"query": "q", **record}])
    with pytest.raises(DataError, match=rf"train\.jsonl: {reason}"):
        _load(tmp_path)


def test_a_changed_corpus_gives_other_rows(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"query": "q", "positives": ["d0"]}])
    write("d/corpus.jsonl", DOCUMENTS)
    assert _load(tmp_path).train.table["positives"][:] == [["text 0"]]
    write("d/corpus.jsonl", [{"id": "d0", "text": "changed"}])
    assert _load(tmp_path).train.table["positives"][:] == [["changed"]]
    with pytest.raises(DataError, match=r"d: no corpus file .*absent\.jsonl"):
        load_datasets({"d": DatasetOptions(Task.retrieval, path=str(tmp_path / "d"), corpus="absent.jsonl")})
    with pytest.raises(ConfigError, match="corpus: expected a retrieval dataset, got sts"):
        DatasetOptions(Task.sts, path="x", corpus="corpus.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_corpus_in_any_kind_of_file(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"corpus{suffix}"
    if suffix == ".parquet":
        parquet.write_table(Table.from_pylist(DOCUMENTS), file)
    elif suffix.startswith(".json"):
        file.write_text(json.dumps(DOCUMENTS) if suffix == ".json" else "\n".join(map(json.dumps, DOCUMENTS)))
    else:
        mark = "," if suffix == ".csv" else "\t"
        file.write_text("\n".join(mark.join(row) for row in (DOCUMENTS[0], *(d.values() for d in DOCUMENTS))))
    corpus = Corpus(file, tmp_path / "cache")
    assert {key: corpus.text(key) for key in TEXTS} == TEXTS
    assert (corpus.text("d40"), "d39" in corpus, "" in corpus) == (None, True, False)
    assert texts_file(tmp_path, "corpus") == file


@pytest.mark.parametrize(
    ("documents_", "message"),
    [
        ([DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0]], "corpus.jsonl: documents 1 and 3 have the id 'd0'"),
        ([{"text": "a"}], "line 1: column 'id' is missing"),
        ([{"id": "a"}], "line 1: column 'text' is missing"),
        ([{"id": "a", "text": 3}], "line 1: 'text' must be a text, got int 3"),
        ([{"id": 1.5, "text": "a"}], "line 1: 'id' must be a text, got float"),
        ([{"id": "a", "text": "a", "title": 3}], "line 1: 'title' must be a text"),
    ],
)
def test_a_corpus_that_is_none(write, tmp_path: Path, documents_: list, message: str) -> None:
    corpus = Corpus(write("corpus.jsonl", documents_), tmp_path / "cache")
    with pytest.raises(DataError, match=message):
        corpus.text("d0")


def test_documents_and_absent_files(write, tmp_path: Path) -> None:
    assert next(documents(write("a.jsonl", [{"_id": 3, "title": None, "text": "x"}])))[1:] == ("3", "", "x")
    with pytest.raises(DataError, match=r"corpus\.jsonl: expected a file of documents .*, found nothing"):
        Corpus(texts_file(tmp_path, "corpus"), tmp_path)
