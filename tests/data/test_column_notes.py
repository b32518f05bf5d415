"""The columns of all rows, kept beside the Arrow file."""

from pathlib import Path

import pytest

from lightning_embed.data import DatasetOptions
from lightning_embed.data.column_notes import Columns, columns_of
from lightning_embed.data.readers import read_rows
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.retrieval, path="x")
ROWS = [{"query": "q", "positives": ["p"], "negatives": [], "extra": None}] * 3 + [
    {"query": "q", "positives": ["p"], "negatives": ["n"], "late": 1}
]


def test_every_row_counts(write, tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the cache
        columns = columns_of(read_rows(write("a.jsonl", ROWS), OPTIONS, tmp_path / "cache"))
        assert columns.found == {"query": 1, "positives": 1, "negatives": 4, "extra": None, "late": 4}
        assert columns.read["negatives"] == "negatives"


def test_ignored_columns_are_not_read(write, tmp_path: Path) -> None:
    options = DatasetOptions(Task.retrieval, path="x", ignore_columns=["negatives"])
    table = read_rows(write("a.jsonl", ROWS), options, tmp_path / "cache")
    assert table["negatives"][:] == [[]] * 4
    assert columns_of(table).found["negatives"] == 4
    assert read_rows(write("a.jsonl", ROWS), OPTIONS, tmp_path / "cache")["negatives"][3] == ["n"]


@pytest.mark.parametrize("broken", [None, "", "{", "[]", "7", '{"read": {}}', '{"x": 1}'])
def test_a_broken_note_is_made_again(write, tmp_path: Path, broken: str | None) -> None:
    before = columns_of(read_rows(write("a.jsonl", ROWS), OPTIONS, tmp_path / "cache"))
    (note,) = (tmp_path / "cache").glob("*.columns.json")
    note.unlink() if broken is None else note.write_text(broken)
    after = read_rows(write("a.jsonl", ROWS), OPTIONS, tmp_path / "cache")
    assert columns_of(after) == before
    assert isinstance(before, Columns)
    assert len(after) == 4
