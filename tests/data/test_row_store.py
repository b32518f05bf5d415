"""Rows in the cache: the same for any number of processes, and the first invalid row of a file always."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_embed.data import records, row_store, text_blocks
from lightning_embed.data.column_notes import columns_of
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import read_rows
from lightning_embed.data.records import parts_of
from lightning_embed.data.row_part import DOCUMENTS, text_hash
from lightning_embed.data.row_store import selected, stored, stored_hashes
from lightning_embed.errors import DataError
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.retrieval, path="x")
ROOT = Path(__file__).parents[2]


def _row(number: int) -> dict[str, Any]:
    return {"query": f"q{number}", "positives": [f"d{number // 2}"], "negatives": []}


def _lines(count: int) -> list[str]:
    return [json.dumps(_row(number)) for number in range(count)]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few rows, the first of them read by this process, the others by two more."""
    monkeypatch.setattr(text_blocks.blocks, "__defaults__", (300,))
    monkeypatch.setattr(records, "_ROWS_OF_PART", 5)
    monkeypatch.setattr(row_store, "_OWN_PARTS", 2)


def _with_workers(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store.joblib, "cpu_count", lambda: count)


@pytest.mark.parametrize(
    "suffix", [".jsonl", *(pytest.param(s, marks=pytest.mark.slow) for s in (".jsonl.gz", ".parquet"))]
)
def test_workers_change_nothing(suffix: str, small_parts: None, monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        import datasets

        rows = [_row(n) | {"late": 1 if n == 60 else None} for n in range(70)]
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        lines = [*_lines(60), json.dumps({**_row(60), "late": 1}), *_lines(70)[61:]]
        path.write_bytes((gzip.compress if suffix.endswith("gz") else bytes)("\n".join(lines).encode()))
    found = {}
    for workers in (1, 2):
        _with_workers(workers, monkeypatch)
        table = read_rows(path, OPTIONS, tmp_path / f"cache{workers}")
        hashes = stored_hashes(table, DOCUMENTS).to_pylist()
        found[workers] = (table.to_list(), hashes, columns_of(table), row_store.arrow_file(table).read_bytes())
    assert found[1] == found[2]
    assert [row["query"] for row in found[2][0]] == [f"q{n}" for n in range(70)]
    assert found[2][1][3] == [text_hash("q3"), text_hash("d1")]
    assert found[2][2].found["late"] == 61


BAD = {
    "an empty text": ('{"query": " ", "positives": ["p"]}', "'query' is an empty text."),
    "a missing column": ('{"query": "q"}', "column 'positives' is missing"),
    "broken JSON": ('{"query": ', "broken JSON"),
    "a blank line": ("", "a blank line"),
    "a list": ("[]", "expected one JSON object, found list"),
    "half a surrogate pair": ('{"query": "\\ud800", "positives": ["p"]}', r"'query' has \\ud800 at character 0"),
    "not UTF-8": ('{"query": "\udcff", "positives": ["p"]}', "byte 11 is not UTF-8"),
    "a wrong type": ('{"query": 3, "positives": ["p"]}', "'query' must be a text, got int 3"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(("place", "workers"), [(2, 1), (40, 1), pytest.param(40, 3, marks=pytest.mark.slow)])
def test_the_first_invalid_row(
    kind: str, place: int, workers: int, small_parts: None, monkeypatch, tmp_path: Path
) -> None:
    """Of several, also where a later part is read before; nothing is left in the cache."""
    lines, (line, reason) = _lines(60), BAD[kind]
    lines[place - 1] = line
    lines[place + 8] = lines[58] = '{"query": "", "positives": []}'
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    _with_workers(workers, monkeypatch)
    with pytest.raises(DataError, match=rf"a\.jsonl: line {place}: {reason}"):
        read_rows(path, OPTIONS, tmp_path / "cache")
    assert {file.suffix for file in tmp_path.glob("cache/*")} <= {".lock"}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_invalid_row_before_the_damage(workers: int, small_parts: None, monkeypatch, tmp_path: Path) -> None:
    """A file that ends too early, behind an invalid row: that comes first in the file."""
    lines = _lines(3000)
    lines[900] = '{"query": "", "positives": ["p"]}'
    content = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content[: len(content) * 2 // 3])
    _with_workers(workers, monkeypatch)
    with pytest.raises(DataError, match="line 901: 'query' is an empty text"):
        read_rows(path, OPTIONS, tmp_path / "cache")
    path.write_bytes(content[: len(content) // 10])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_rows(path, OPTIONS, tmp_path / "cache")


def test_a_worker_without_memory_is_one_sentence(small_parts: None, monkeypatch, tmp_path: Path) -> None:
    def killed(*_: object, **__: object) -> None:
        raise row_store.WorkerDied("A worker process ended without a result (exit code -9).")

    monkeypatch.setattr(row_store, "in_order", killed)
    with pytest.raises(DataError, match=r"^rows: A worker process ended .* -9\)\. Often its memory was full\."):
        stored(tmp_path / "a.arrow", parts_of([("1", _row(1))]), OPTIONS, "rows")


@pytest.mark.parametrize("parts", [[], [[]], [[], []]])
def test_no_rows(parts: list[list[Any]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rows: no rows\.$"):
        stored(tmp_path / "a.arrow", parts, OPTIONS, "rows")


@pytest.mark.parametrize("sizes", [[1], [5], [0, 3], [4, 0, 0, 2], [3] * 20])
def test_parts_of_any_size(sizes: list[int], tmp_path: Path) -> None:
    numbers = iter(range(100))
    parts = [[("w", _row(next(numbers))) for _ in range(size)] for size in sizes]
    table = stored(tmp_path / "a.arrow", parts, OPTIONS, "rows")
    assert table["query"][:] == [f"q{n}" for n in range(sum(sizes))]
    assert table.column_names == ["query", "positives", "negatives", "positive_scores", "negative_scores", "prompt"]
    again = stored(tmp_path / "a.arrow", iter(parts[:0]), OPTIONS, "rows")  # from the cache
    assert again.to_list() == table.to_list()
    assert again._fingerprint == table._fingerprint


@pytest.mark.parametrize("rows", [[], [3], [0, 9], [9, 0, 0], range(4), np.arange(5)])
def test_selected_rows(rows: Any, tmp_path: Path) -> None:
    table = stored(tmp_path / "a.arrow", parts_of(("w", _row(n)) for n in range(10)), OPTIONS, "rows")
    some = selected(table, rows)
    assert some["query"][:] == [f"q{n}" for n in rows]
    assert len(some) == len(rows)
    assert row_store.arrow_file(some) == row_store.arrow_file(table)
    if len(rows) > 1:
        twice = selected(some, [1, 0])
        assert twice["query"][:] == [f"q{rows[1]}", f"q{rows[0]}"]
        assert len({each._fingerprint for each in (table, some, twice)}) == 3


@pytest.mark.parametrize("rows", [[10], [-1], [0, 99]])
def test_rows_that_are_not_there(rows: list[int], tmp_path: Path) -> None:
    table = stored(tmp_path / "a.arrow", parts_of(("w", _row(n)) for n in range(10)), OPTIONS, "rows")
    with pytest.raises(IndexError, match="Expected rows in 0 to 9"):
        selected(table, rows)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
def test_a_killed_preparation_leaves_nothing_broken(seconds: float, tmp_path: Path) -> None:
    path, cache = tmp_path / "a.jsonl", tmp_path / "cache"
    path.write_text("\n".join(_lines(300_000)))
    script = (
        "import sys; from pathlib import Path; from lightning_embed.data.options import DatasetOptions\n"
        "from lightning_embed.data.readers import read_rows\nfrom lightning_embed.data import row_store\n"
        "row_store._OWN_PARTS = 2\nprint('ready', flush=True)\n"
        "read_rows(Path(sys.argv[1]), DatasetOptions('retrieval', path='x'), Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, path, cache], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
    assert len(read_rows(path, OPTIONS, cache)) == 300_000
    assert not [file.name for file in cache.iterdir() if "partial" in file.name], "it is not litter"
