"""JSON arrays: their objects, or one sentence with the line; a .json that is jsonl."""

import gzip
import json
from pathlib import Path

import pytest

from lightning_embed.data.records import records
from lightning_embed.errors import DataError

ROWS = [{"query": "q", "positives": ["p", "[", "{,}"]}, {"query": 'é\n"', "positives": []}, {"n": {"a": [1, None]}}]

GOOD = {
    "one line": json.dumps(ROWS),
    "indented": json.dumps(ROWS, indent=2),
    "a line each": "[" + ",\n".join(map(json.dumps, ROWS)) + "]\n",
    "a byte order mark": "\ufeff" + json.dumps(ROWS),
    "blanks before and after": f"\n\n  {json.dumps(ROWS)}\r\n\n",
    "without blanks": json.dumps(ROWS, separators=(",", ":")),
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "jsonl with a byte order mark": "\ufeff" + "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("name", GOOD)
def test_objects(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.json").write_text(GOOD[name], encoding="utf-8")
    assert [record for _, record in records(tmp_path / "a.json")] == ROWS
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(GOOD[name].encode()))
    assert [record for _, record in records(tmp_path / "a.json.gz")] == ROWS


def test_lines_and_numbers_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n  {"a": 1},\n  {\n    "a": 2\n  }, {"a": 3}\n]')
    assert [where for where, _ in records(path)] == [
        f"{path}: line 2, object 1", f"{path}: line 3, object 2", f"{path}: line 5, object 3"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["[]", " [\n] ", ""])
def test_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert list(records(tmp_path / "a.json")) == []


BAD = {
    "a cut array": ('[{"a": 1}, {"a"', "line 1, object 2: broken JSON, Expecting ':' delimiter at line 1, character 15"),
    "an open array": ('[{"a": 1}', "object 1: expected a comma or the end of the array after it, found the end of the file"),
    "a missing comma": ('[{"a": 1}\n{"a": 2}]', "line 1, object 1: expected a comma or the end of the array after it, found '{"),
    "a comma at the end": ('[{"a": 1},\n]', "line 2, object 2: broken JSON, Expecting value"),
    "a number in it": ('[{"a": 1},\n3]', "line 2, object 2: expected an array of JSON objects, found int in it"),
    "lists in it": ('[["q", "p"]]', "object 1: expected an array of JSON objects, found list in it"),
    "texts after it": ('[{"a": 1}]\n[{"a": 2}]', "line 1: expected nothing after the array, found '[{"),
    "a name twice": ('[\n{"a": 1, "a": 2}]', "line 2, object 1: 'a' stands twice in one object; expected an array"),
    "deep lists": ("[" * 100_000, "JSON nested too deeply"),
    "a number of 5,000 digits": ('[{"a": ' + "9" * 5000 + "}]", "a number of more than 4,300 digits"),
    "an indented object": ('{\n  "data": [{"a": 1}]\n}', "line 1: broken JSON"),
    "a text": ('"a"', "line 1: expected one JSON object, found str"),
    "csv": ("query,positives\n", "line 1: broken JSON"),
    "latin-1": ('[\n{"a": "é"}]'.encode("latin-1"), "line 2: byte 7 is not UTF-8"),
    "UTF-16": ('[{"a": 1}]'.encode("utf-16"), "its content is UTF-16"),
    "gzip": (gzip.compress(b"[]"), "its content is gzip. Name it .json.gz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        list(records(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_of_a_packed_array(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(ROWS * 99).encode())[:60])
    with pytest.raises(DataError, match=r"a\.json\.gz: cannot be unpacked"):
        list(records(tmp_path / "a.json.gz"))
