"""The record of a job is whole, or the job runs again."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job
from lightning_embed.types import Choice

JOB = Job([Choice("merge", "ties", "merge=ties")], ".", 71.5, 3.0)
WRONG: list[tuple[str, Any]] = [
    ("choices", None), ("choices", {}), ("choices", ["merge=ties"]), ("choices", [{"key": "merge"}]),
    ("choices", [{"key": 1, "value": "a", "text": "b"}]), ("out", None), ("out", 3), ("value", "71.5"), ("value", [1]),
    ("seconds", None), ("seconds", "long"), ("error", 3), ("error", {"a": 1}),
]  # fmt: skip


def test_a_record_comes_back(tmp_path: Path) -> None:
    records.write(tmp_path / "a.json", JOB)
    assert records.read(tmp_path / "a.json") == JOB


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_shape(key: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / records.FOLDER / "a.json"
    records.write(file, JOB)
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert records.read(file) is None
    assert records.read_all(tmp_path) == []
    records.forget_failures(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"out": "."}', "\0\0"])
def test_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    assert records.read(tmp_path / "a.json") is None


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert records.read(tmp_path / "a.json") is None
    records.write(tmp_path / "a.json", JOB)
    assert records.read(tmp_path / "a.json") == JOB
