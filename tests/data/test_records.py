"""Whatever a file holds: its rows, or one sentence with file and line."""

import gzip
import json
import random
from contextlib import suppress
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lightning_embed.data import DatasetOptions
from lightning_embed.data.readers import read_rows
from lightning_embed.data.text_lines import text_lines
from lightning_embed.errors import DataError
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.retrieval, path="x")
LABELS = DatasetOptions(Task.classification, path="x")
ROWS = [{"query": f"q{i} é", "positives": [f"p{i}"], "negatives": ["n"] * (i % 3)} for i in range(60)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _read(path: Path, options: DatasetOptions = OPTIONS) -> int:
    return len(read_rows(path, options, path.parent / "cache"))


def _parquet(**options: object) -> bytes:
    stream = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), stream, data_page_size=100, **options)
    return stream.getvalue().to_pybytes()


CONTENTS = {
    "gzip as jsonl": (".jsonl", gzip.compress(LINES), "its name says text, its content is gzip. Name it .jsonl.gz"),
    "jsonl as gzip": (".jsonl.gz", LINES, "its name says gzip, its content is text. Name it .jsonl"),
    "parquet as jsonl": (".jsonl", _parquet(), "its name says text, its content is parquet. Name it .parquet"),
    "parquet as gzip": (".jsonl.gz", _parquet(), "its name says gzip, its content is parquet. Name it .parquet"),
    "jsonl as parquet": (".parquet", LINES, "its name says parquet, its content is text. Name it .jsonl"),
    "gzip as parquet": (".parquet", gzip.compress(LINES), "its content is gzip. Name it .jsonl.gz"),
    "zip": (".jsonl", b"PK\x03\x04" + LINES, "its content is zip. Convert it to text"),
    "bzip2": (".jsonl", b"BZh91AY", "its content is bzip2. Name it .jsonl.bz2"),
    "xz": (".jsonl.gz", b"\xfd7zXZ\x00", "its content is xz. Name it .jsonl.xz"),
    "zstd": (".jsonl", b"\x28\xb5\x2f\xfd1", "its content is zstd. Name it .jsonl.zst"),
    "UTF-16": (".jsonl", '{"query": "q"}'.encode("utf-16"), "its content is UTF-16. Convert it to text"),
    "Arrow": (".parquet", b"ARROW1\x00\x00", "its content is Arrow. Convert it to parquet"),
    "an empty parquet": (".parquet", b"", "damaged, or not parquet, from row 0 on"),
    "an empty gzip": (".jsonl.gz", b"", "no rows"),
    "half of a gzip": (".jsonl.gz", gzip.compress(LINES)[:100], "cannot be unpacked"),
    "half of a parquet": (".parquet", _parquet()[:1000], "damaged, or not parquet, from row 0 on"),
    "latin-1": (".jsonl", '{"query": "café"}'.encode("latin-1"), "line 1: byte 14 is not UTF-8"),
    "half of a surrogate pair": (".jsonl", rb'{"query": "q\ud800", "positives": ["p"]}',
     r"line 1: 'query' has \ud800 at character 1, half of a surrogate pair"),
    "the other half, in a list": (".jsonl", rb'{"query": "q", "positives": ["p", "\udc00p"]}',
     r"line 1: 'positives' has \udc00 at character 0"),
    "a number of 5,000 digits": (".jsonl", b'{"query": "q", "positives": ["p"], "id": ' + b"9" * 5000 + b"}",
     "line 1: a number of more than 4,300 digits"),
    "deep lists": (".jsonl", b"[" * 100_000, "line 1: JSON nested too deeply"),
    "deep objects": (".jsonl", b'{"a":' * 100_000, "line 1: JSON nested too deeply"),
    "deep lists in a row": (".jsonl", b'{"a": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "line 1: JSON nested too deeply"),
    "NaN": (".jsonl", b'{"query": NaN, "positives": ["p"]}', "line 1: 'query' must be a text, got float nan"),
    "Infinity": (".jsonl", b'{"query": "q", "positives": ["p"], "positive_scores": [-Infinity]}',
     "line 1: 'positive_scores' must be a number, got float -inf"),
    "1e999": (".jsonl", b'{"query": "q", "positives": ["p"], "positive_scores": [1e999]}',
     "line 1: 'positive_scores' must be a number, got float inf"),
    "a name twice": (".jsonl", b'{"query": "q", "positives": ["p"], "query": "r"}',
     "line 1: 'query' stands twice in one object"),
    "a list of rows": (".jsonl", b'[{"query": "q"}]', "line 1: expected one JSON object, found list"),
    "a text": (".jsonl", b'"q"', "line 1: expected one JSON object, found str"),
    "null": (".jsonl", b"null", "line 1: expected one JSON object, found NoneType"),
    "an indented list of rows": (".jsonl", b'[\n  {"query": "q"}\n]', "line 1: broken JSON"),
    "two objects": (".jsonl", b'{"query": "q"} {"query": "r"}', "line 1: broken JSON, Extra data"),
    "csv": (".jsonl", b"query,positives\nq,p\n", "line 1: broken JSON"),
    "a control character": (".jsonl", b'{"query": "a\x00b", "positives": ["p"]}', "line 1: broken JSON, Invalid control"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_content(tmp_path: Path, name: str) -> None:
    suffix, content, reason = CONTENTS[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert {path.suffix for path in tmp_path.glob("cache/*")} <= {".lock"}, "a bad file leaves nothing in the cache"


def test_a_label_of_half_a_surrogate_pair(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(rb'{"text": "t", "label": "\ud83d"}')
    with pytest.raises(DataError, match=r"line 1: 'label' has \\ud83d at character 0"):
        _read(path, LABELS)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(rb'{"query": "\ud83d\ude00", "positives": ["\u0000"]}')
    assert read_rows(path, OPTIONS, tmp_path / "cache")["query"][:] == ["\U0001f600"]


def test_parquet_of_two_columns_of_one_name(tmp_path: Path) -> None:
    column = pyarrow.array(["a"])
    parquet.write_table(pyarrow.table([column, column], names=["query", "query"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns are named 'query'"):
        _read(tmp_path / "a.parquet")


def test_parquet_of_bytes(tmp_path: Path) -> None:
    table = pyarrow.table({"query": pyarrow.array([b"\xff"]), "positives": pyarrow.array([b"p"])})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 0: 'positives' must be a text, got bytes"):
        _read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl", LINES),
        (".jsonl.gz", gzip.compress(LINES)),
        *[(".parquet", _parquet(compression=compression)) for compression in ("none", "snappy", "zstd", "gzip")],
        (".parquet", _parquet(compression="none", write_page_checksum=True)),
    ],
)
def test_a_damaged_file_gives_rows_or_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    draw = random.Random(0)
    for number in range(40):
        damaged = bytearray(content)
        if number % 4 == 0:
            damaged = damaged[: draw.randrange(len(damaged))]
        else:
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(damaged)
        with suppress(DataError):
            assert 0 < _read(path) <= 60
            continue
        with pytest.raises(DataError) as caught:
            _read(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_checksum_of_parquet_is_verified(tmp_path: Path) -> None:
    content = _parquet(compression="none", write_page_checksum=True, use_dictionary=False)
    assert b"q17 " in content
    (tmp_path / "a.parquet").write_bytes(content.replace(b"q17 ", b"q71 "))
    with pytest.raises(DataError, match=r"damaged, or not parquet, from row \d+ on"):
        _read(tmp_path / "a.parquet")


def test_lines_end_at_line_breaks_only(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("\ufeffa\u2028b\x0cc\r\nd".encode())
    assert [text for _, text in text_lines(tmp_path / "a.tsv")] == ["a\u2028b\x0cc\r\n", "d"]
