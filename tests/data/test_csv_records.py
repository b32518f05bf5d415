"""csv and tsv files as people write them: their rows, or one sentence with the line."""

import gzip
from pathlib import Path

import pytest

from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import read_rows
from lightning_embed.data.records import records
from lightning_embed.errors import DataError
from lightning_embed.types import Task

A, B = {"text": "a", "label": "1"}, {"text": "b", "label": "2"}

GOOD = {
    "commas": (".csv", "text,label\na,1\nb,2\n", [A, B]),
    "without a last line break": (".csv", "text,label\na,1\nb,2", [A, B]),
    "Windows": (".csv", "text,label\r\na,1\r\nb,2\r\n", [A, B]),
    "a byte order mark": (".csv", "\ufefftext,label\na,1\nb,2\n", [A, B]),
    "semicolons, as a European Excel": (".csv", "text;label\na;1\nb;2\n", [A, B]),
    "tabs in a csv": (".csv", "text\tlabel\na\t1\nb\t2\n", [A, B]),
    "bars": (".csv", "text|label\na|1\nb|2\n", [A, B]),
    "a semicolon in a cell": (".csv", "text,label\na;b,1\n", [{"text": "a;b", "label": "1"}]),
    "a comma in the header of semicolons": (".csv", 'text;"a, b"\na;1\n', [{"text": "a", "a, b": "1"}]),
    "a comma in cells of a tsv": (".tsv", "text\tlabel\na, b, c\t1\n", [{"text": "a, b, c", "label": "1"}]),
    "commas in a tsv": (".tsv", "text,label\na,1\n", [A]),
    "one column": (".csv", "text\na\nb\n", [{"text": "a"}, {"text": "b"}]),
    "quotes": (".csv", 'text,label\n"a, ""b""",1\n', [{"text": 'a, "b"', "label": "1"}]),
    "line breaks in quotes": (".csv", 'text,label\n"a\n\nb",1\n', [{"text": "a\n\nb", "label": "1"}]),
    "line breaks in quotes of a tsv": (".tsv", 'text\tlabel\n"a\nb"\t1\n', [{"text": "a\nb", "label": "1"}]),
    "quotes in a tsv": (".tsv", 'text\tlabel\n"a"\t1\nb\t2\n', [A, B]),
    "a tsv without quoting": (".tsv", 'text\tlabel\n"a" is\t1\n"b\t2\n', [{"text": '"a" is', "label": "1"}, {"text": '"b', "label": "2"}]),
    "quotes of a tsv that would join rows": (
        ".tsv", 'text\tlabel\n"a\t1\nb"\t2\n', [{"text": '"a', "label": "1"}, {"text": 'b"', "label": "2"}]),
    "a quote within a cell": (".csv", 'text,label\n5" pipe,1\n', [{"text": '5" pipe', "label": "1"}]),
    "empty cells": (".csv", 'text,label\n,1\n"",2\n', [{"text": None, "label": "1"}, {"text": None, "label": "2"}]),
    "blank lines": (".csv", "text,label\n\na,1\n\n\nb,2\n\n", [A, B]),
    "the index of pandas": (".csv", ",text,label\n0,a,1\n", [{"Unnamed: 0": "0", **A}]),
    "blanks around names": (".csv", "text , label\na,1\n", [A]),
    "blanks in cells": (".csv", "text,label\n a ,1\n", [{"text": " a ", "label": "1"}]),
    "a long cell": (".csv", f"text,label\n{'a' * 200_000},1\n", [{"text": "a" * 200_000, "label": "1"}]),
    "a header alone": (".csv", "text,label\n", []),
    "nothing": (".csv", "", []),
    "other scripts": (".csv", "text,label\nžluť 信\u2028,1\n", [{"text": "žluť 信\u2028", "label": "1"}]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_rows(tmp_path: Path, name: str) -> None:
    suffix, text, expected = GOOD[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text.encode())
    assert [dict(record) for _, record in records(path)] == expected
    packed = tmp_path / f"b{suffix}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert [dict(record) for _, record in records(packed)] == expected


def test_the_line_of_a_row_is_the_first_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"a\nb\nc",1\n\nd,2\n')
    assert [where for where, _ in records(path)] == [f"{path}: line 2", f"{path}: line 6"]


BAD = {
    "a cell more": (".csv", "text,label\na,1\na,b,2\n", "line 3: expected 2 cells, as in the header, found 3. Put a cell with ','"),
    "a cell less": (".csv", "text,label\na\n", "line 2: expected 2 cells, as in the header, found 1"),
    "a cell more after a long one": (".csv", 'text,label\n"a\nb",1\na,b,2\n', "line 4: expected 2 cells"),
    "an open quote": (".csv", 'text,label\na,1\n"b,2\nc,3\n', "line 3: broken cells, a quote that is never closed"),
    "text after a quote": (".csv", 'text,label\n"a"b,1\n', "line 2: broken cells, ',' expected after '\"'"),
    "a name twice": (".csv", "text,text\na,b\n", "two columns are named 'text'"),
    "latin-1": (".csv", "text,label\ncafé,1\n".encode("latin-1"), "line 2: byte 3 is not UTF-8"),
    "UTF-16": (".csv", "text,label\n".encode("utf-16"), "its content is UTF-16. Convert it to text"),
    "gzip": (".csv", gzip.compress(b"text,label\n"), "its content is gzip. Name it .csv.gz"),
    "zip, as an xlsx": (".csv", b"PK\x03\x04", "its content is zip. Convert it to text"),
    "old line breaks of the Mac": (".csv", "text,label\ra,1\rb,2\r", "line 1: broken cells, a carriage return outside of quotes"),
    "an empty label": (".csv", "text,label\na,1\nb,\n", "line 3: column 'label' is empty; the row has 'text'."),
    "an empty text": (".csv", "text,label\n,1\n", "line 2: column 'text' is empty; the row has 'label'."),
    "blanks alone": (".csv", "text,label\n  ,1\n", "line 2: 'text' is an empty text"),
    "other names": (".csv", "utterance,intent\na,1\n", "line 2: column 'text' is missing; the header, its first line, has 'utterance', 'intent'. "
     "To read these, give the dataset columns: {text: utterance, label: intent}"),
    "no header": (".csv", "a,1\nb,2\n", "line 2: column 'text' is missing; the header, its first line, has 'a', '1'"),
    "no rows": (".csv", "text,label\n", "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals(tmp_path: Path, name: str) -> None:
    suffix, content, reason = BAD[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        read_rows(path, DatasetOptions(Task.classification, path="x"), tmp_path / "cache")
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


RETRIEVAL = [
    ("query,positives\nq,p\n", {"positives": ["p"]}),
    ('query,positives,negatives\nq,"[""p"", ""r""]","[""n""]"\n', {"positives": ["p", "r"], "negatives": ["n"]}),
    ("query,pos,neg\nq,\"['p', 'r']\",[]\n", {"positives": ["p", "r"]}),
    ("anchor,positive,negative_1,negative_2\nq,p,n,\n", {"positives": ["p"], "negatives": ["n"]}),
    ("query,positives,positive_scores\nq,p,0.5\n", {"positives": ["p"], "positive_scores": [0.5]}),
    ('query,positives,positive_scores\nq,"[""p"",""r""]","[1, null]"\n', {"positives": ["p", "r"], "positive_scores": [1, None]}),
    ("query,positives,prompt\nq,p,Find it: \n", {"positives": ["p"], "prompt": "Find it: "}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RETRIEVAL)
def test_rows_of_retrieval(tmp_path: Path, text: str, expected: dict) -> None:
    (tmp_path / "a.csv").write_text(text)
    (row,) = read_rows(tmp_path / "a.csv", DatasetOptions(Task.retrieval, path="x"), tmp_path / "cache").to_list()
    assert {name: value for name, value in row.items() if value} == {"query": "q", **expected}


@pytest.mark.parametrize(("cell", "reason"), [("high", "must be a number, got str 'high'"), ("101", "is 101, outside of"), ("3,5", "must be a number")])  # fmt: skip
def test_scores(tmp_path: Path, cell: str, reason: str) -> None:
    options = DatasetOptions(Task.sts, path="x", score_range=[0, 100])
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t25\n")
    assert read_rows(tmp_path / "a.tsv", options, tmp_path / "cache")["score"][:] == [0.25]
    (tmp_path / "a.tsv").write_text(f"sentence1\tsentence2\tscore\na\tb\t25\na\tb\t{cell}\n")
    with pytest.raises(DataError, match=f"line 3: 'score' {reason}"):
        read_rows(tmp_path / "a.tsv", options, tmp_path / "cache")
