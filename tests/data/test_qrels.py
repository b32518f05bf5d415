"""Judgements in the formats that are in use, and one sentence for the others."""

from pathlib import Path

import pytest

from lightning_embed.data.qrels import read_qrels
from lightning_embed.errors import DataError

QUERIES, DOCUMENTS = {"a", "b", "the query", " c", "score"}, {"1", "2", "a document", "Q0"}


def _read(tmp_path: Path, content: str | bytes) -> dict:
    file = tmp_path / "qrels.tsv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_qrels(file, QUERIES, DOCUMENTS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\t1\t1\nb\t2\t0\n", {"a": {"1": 1}, "b": {"2": 0}}),
        ("a\t1\t1", {"a": {"1": 1}}),
        ("a\t1\t1\n\n", {"a": {"1": 1}}),
        ("a\t1\t1\n  \n\t\nb\t1\t1\n", {"a": {"1": 1}, "b": {"1": 1}}),
        ("a\t1\t1\r\nb\t2\t1\r\n", {"a": {"1": 1}, "b": {"2": 1}}),
        ("\ufeffa\t1\t1\n", {"a": {"1": 1}}),
        ("query-id\tcorpus-id\tscore\na\t1\t1\n", {"a": {"1": 1}}),
        ("\ufeffquery-id\tcorpus-id\tscore\r\na\t1\t1\r\n", {"a": {"1": 1}}),
        ("qid docid relevance\na 1 1\n", {"a": {"1": 1}}),
        ("query_id\titeration\tdoc_id\tRel\na\t0\t1\t1\n", {"a": {"1": 1}}),
        ("a 0 1 2\nb Q0 2 1\n", {"a": {"1": 2}, "b": {"2": 1}}),
        ("a\t0\t1\t2\n", {"a": {"1": 2}}),
        ("a  1   1\n", {"a": {"1": 1}}),
        ("a\t1\t1.0\nb\t1\t2.\n", {"a": {"1": 1}, "b": {"1": 2}}),
        ("a\t1\t-1\nb\t1\t-2\n", {"a": {"1": -1}, "b": {"1": -2}}),
        ("a\t1\t+1\n", {"a": {"1": 1}}),
        ("a\t1\t 1 \n", {"a": {"1": 1}}),
        ("the query\ta document\t1\n", {"the query": {"a document": 1}}),
        (" c\t1\t1\n", {" c": {"1": 1}}),
        (" a \t1 \t1\n", {"a": {"1": 1}}),
        ("a\t1\t1\na\t1\t1\n", {"a": {"1": 1}}),
        ("a\t1\t1\na\t2\t2\n", {"a": {"1": 1, "2": 2}}),
    ],
)
def test_formats(tmp_path: Path, content: str, expected: dict) -> None:
    assert _read(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,1,1\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\tx\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t0.5\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\tnan\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t--1\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t²\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t1e3\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t99999999999999999999\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t0\t1\t1\textra\n", "line 1: expected query TAB document TAB relevance"),
        ("a\t1\t1\nquery-id\tcorpus-id\tscore\n", "line 2: expected query TAB document TAB relevance"),
        ("z\t1\t1\n", "line 1: no query 'z'"),
        ("a\t9\t1\n", "line 1: no document '9'"),
        ("A\t1\t1\n", "line 1: no query 'A'"),
        ("a\t1\t1\nb\t1\t0\na\t1\t2\n", "lines 1 and 3: query 'a' and document '1' have two relevances, 1 and 2"),
        ("a 0 1 1\na 1 1 0\n", "lines 1 and 2: query 'a' and document '1' have two relevances, 1 and 0"),
        ("caf\xe9\t1\t1\n".encode("latin-1"), "line 1: byte 3 is not UTF-8"),
        ("a\t1\t1\n".encode("utf-16"), "its content is UTF-16"),
        (b"\x1f\x8b\x08", "its content is gzip"),
        (b"a\x001\x001\n", "line 1: expected query TAB document TAB relevance"),
        (b"a" * (2**26 + 1), "line 1: longer than 64 MiB"),
    ],
)
def test_refusals(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path}/qrels.tsv: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
