"""Retrieval tests from files: ids, the shape of every line, and queries that are documents."""

import json
from pathlib import Path

import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.data.eval_sets import note_on_copies, read_retrieval
from lightning_embed.errors import DataError
from lightning_embed.types import RetrievalSet, Task

CORPUS = [{"id": "1", "text": "one"}, {"id": "2", "title": "T", "text": "two"}]
QUERIES = [{"id": "a", "text": "qa"}, {"id": "b", "text": "qb"}]


def _read(tmp_path: Path, corpus: list, queries: list, qrels: str = "a\t1\t1\n") -> RetrievalSet:
    for name, records in (("corpus", corpus), ("queries", queries)):
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "qrels.tsv").write_text(qrels)
    return read_retrieval(tmp_path / "qrels.tsv")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"id": "3"}, "column 'text' is missing; the line has 'id'"),
        ({"id": "3", "contents": "x"}, "column 'text' is missing; the line has 'id', 'contents'"),
        ({"text": "x"}, "column 'id' is missing; the line has 'text'"),
        ({}, "column 'id' is missing; the line has none"),
        ({"id": "3", "text": None}, "'text' must be a text, got NoneType None"),
        ({"id": "3", "text": 7}, "'text' must be a text, got int 7"),
        ({"id": "3", "text": ["x"]}, "'text' must be a text, got list ['x']"),
        ({"id": "3", "text": {"x": 1}}, "'text' must be a text, got dict"),
        ({"id": "3", "text": ["x" * 10**6]}, "'text' must be a text, got list"),
        ({"id": None, "text": "x"}, "'id' must be a text, got NoneType None"),
        ({"id": 1.5, "text": "x"}, "'id' must be a text, got float 1.5"),
        ({"id": True, "text": "x"}, "'id' must be a text, got bool True"),
        ({"id": ["3"], "text": "x"}, "'id' must be a text, got list"),
        ('{"id": "3", "text": "\\ud800"}', "'text' has \\ud800 at character 0"),
        ('{"id": "\\ud800", "text": "x"}', "'id' has \\ud800 at character 0"),
        ('{"id": ' + "9" * 5000 + ', "text": "x"}', "a number of more than 4,300 digits"),
        ("[" * 100_000, "JSON nested too deeply"),
        ("3", "expected one JSON object, found int"),
        ("[]", "expected one JSON object, found list"),
        ("null", "expected one JSON object, found NoneType"),
        ("", "a blank line"),
        ('{"id": "3", "text": "x", "id": "4"}', "'id' stands twice in one object"),
    ],
)
@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_a_line_of_a_wrong_shape(tmp_path: Path, name: str, record: dict | str, reason: str) -> None:
    files = {"corpus": CORPUS, "queries": QUERIES}
    with pytest.raises(DataError) as caught:
        _read(tmp_path, **files | {name: [*files[name], record]})
    assert str(caught.value).startswith(f"{tmp_path}/{name}.jsonl: line 3: {reason}")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("title", [3, ["x"], {"x": 1}, False])
def test_a_title_that_is_no_text(tmp_path: Path, title: object) -> None:
    with pytest.raises(DataError, match=r"corpus\.jsonl: line 1: 'title' must be a text, got"):
        _read(tmp_path, [{"id": "1", "text": "x", "title": title}], QUERIES)


@pytest.mark.parametrize("again", [{"id": "1", "text": "other"}, {"id": "1", "text": "one"}, {"_id": 1, "text": "x"}])
def test_an_id_that_stands_twice(tmp_path: Path, again: dict) -> None:
    with pytest.raises(DataError, match=r"corpus\.jsonl: lines 1 and 3 have the id '1'. Remove one, or rename it\."):
        _read(tmp_path, [*CORPUS, again], QUERIES)
    with pytest.raises(DataError, match=r"queries\.jsonl: lines 2 and 4 have the id '1'"):
        _read(tmp_path, CORPUS, [QUERIES[0], {"id": "1", "text": "x"}, QUERIES[1], again])


def test_corpus_and_queries_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)corpus\.jsonl: line 1: .*queries\.jsonl: line 1: "):
        _read(tmp_path, [{}], [{}])


ARGUMENT = "You don't have to be vegetarian."


@pytest.mark.parametrize(
    ("document", "qrels", "is_copy"),
    [
        ({"text": ARGUMENT}, "x\t1\t1\n", True),
        ({"text": ARGUMENT, "title": "animals"}, "x\t1\t1\n", True),
        ({"text": "vegetarian.", "title": "You don't have to be"}, "x\t1\t1\n", True),
        ({"text": "  you don\u2019t  have to be Vegetarian\n"}, "x\t1\t1\n", True),
        ({"text": ARGUMENT}, "x\t1\t1\nx\tx\t0\n", True),
        ({"text": ARGUMENT}, "x\t1\t1\nx\tx\t-1\n", True),
        ({"text": ARGUMENT}, "x\t1\t1\nx\tx\t1\n", False),  # judged relevant
        ({"text": "A document with this number by chance."}, "x\t1\t1\n", False),
        ({"text": ARGUMENT + " Really."}, "x\t1\t1\n", False),
        ({"text": "", "title": ""}, "x\t1\t1\n", False),
    ],
)
def test_a_query_that_is_a_document(tmp_path: Path, document: dict, qrels: str, is_copy: bool) -> None:
    content = _read(tmp_path, [*CORPUS, {"id": "x", **document}], [{"id": "x", "text": ARGUMENT}], qrels)
    assert content.copies == ({"x": "x"} if is_copy else {})
    note = note_on_copies("arguana", "test", content)
    assert note is not None
    assert ("are documents themselves" in note) == is_copy
    assert ("have the id of a document with a different text" in note) != is_copy


def test_signs_without_letters_are_compared_as_they_are(tmp_path: Path) -> None:
    corpus = [*CORPUS, {"id": "x", "text": "?"}, {"id": "y", "text": "!"}]
    content = _read(tmp_path, corpus, [{"id": "x", "text": "!"}, {"id": "y", "text": "!"}], "x\t1\t1\ny\t1\t1\n")
    assert content.copies == {"y": "y"}


def test_no_note_without_common_ids(tmp_path: Path) -> None:
    assert note_on_copies("d", "test", _read(tmp_path, CORPUS, QUERIES)) is None


def test_rows_whose_query_is_a_document_of_another_row(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{"query": f"t{i}", "positives": [f"u{i}"]} for i in range(8)])
    rows = [
        {"query": "a", "positives": ["b"]},
        {"query": "b", "positives": ["a"]},
        {"query": "c", "positives": ["c", "d"]},  # judged relevant
        {"query": "e", "positives": ["f"]},
    ]
    write("d/dev.jsonl", rows)
    data = load_datasets({"d": DatasetOptions(Task.retrieval, str(tmp_path / "d"))}, cache=tmp_path / "cache")["d"]
    (dev,) = data.eval_sets
    assert isinstance(dev.content, RetrievalSet)
    texts = {dev.content.queries[q]: dev.content.corpus[d]["text"] for q, d in dev.content.copies.items()}
    assert texts == {"a": "a", "b": "b"}
    assert "2 of the 4 queries of its dev set are documents themselves" in data.notes[0]
