"""Embeddings are kept by model, prompt and text."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.evaluation import ScoreCache
from lightning_embed.evaluation.embedding_cache import Remembered
from tests.evaluation.test_score_cache import Counting, Load, Model, _set


class Noting(Model):
    """Its embedding is the length of prompt and text; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], *, prompt: Any, max_length: int | None = None) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[len(prompt or ""), len(text), 0.5] for text in texts]).reshape(-1, 3)


def test_a_text_is_encoded_once_behind_a_prompt(tmp_path: Path) -> None:
    model = Noting()
    first = Remembered(model, tmp_path / "m.sqlite").encode(["a", "bb", "a"], prompt=None)
    assert first.tolist() == [[0, 1, 0.5], [0, 2, 0.5], [0, 1, 0.5]]
    again = Remembered(model, tmp_path / "m.sqlite")
    assert again.encode(["ccc", "bb"], prompt=None).tolist() == [[0, 3, 0.5], [0, 2, 0.5]]
    assert model.asked == ["a", "bb", "ccc"]
    assert again.encode(["a"], prompt="p: ").tolist() == [[3, 1, 0.5]]
    assert model.asked == ["a", "bb", "ccc", "a"]
    assert again.encode([], prompt=None).shape == (0, 3)
    many = [str(number) for number in range(1234)]
    assert torch.equal(again.encode(many, prompt=None), again.encode(many, prompt=None))
    assert len(model.asked) == 4 + 1234


def test_each_model_has_a_database_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)

    def opened(embeddings: Path | None, *names: str) -> object:
        cache = ScoreCache(Counting(), [_set("t")], tmp_path / "scores", Load(""), embeddings)
        return cache._open([tmp_path / name for name in names])

    assert type(opened(None, "one")) is Model
    one, other = opened(tmp_path / "e", "one"), opened(tmp_path / "e", "other")
    assert isinstance(one, Remembered)
    assert one.file != other.file
    assert opened(tmp_path / "e", "one").file == one.file
    assert [member.file for member in opened(tmp_path / "e", "one", "other").members] == [one.file, other.file]


@pytest.mark.parametrize(
    "kind", ["cut", "empty", "text", "folder", "another table", "a changed number", "another length"]
)
def test_a_broken_database_is_filled_again(kind: str, tmp_path: Path) -> None:
    file, model = tmp_path / "m.sqlite", Noting()
    texts = [str(number) * 9 for number in range(500)]
    expected = Remembered(model, file).encode(texts, prompt=None)
    assert len(model.asked) == 500
    whole = file.read_bytes()
    if kind in ("a changed number", "another length"):
        with closing(sqlite3.connect(file)) as database, database:
            numbers = b"\0" * (12 if kind == "a changed number" else 8)
            database.execute("UPDATE embeddings SET numbers = ?", (numbers,))
    else:
        file.unlink()
        match kind:
            case "folder":
                (file / "deep").mkdir(parents=True)
            case "another table":
                with closing(sqlite3.connect(file)) as database, database:
                    database.execute("CREATE TABLE embeddings (other BLOB)")
            case _:
                file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a database"}[kind])
    assert torch.equal(Remembered(model, file).encode(texts, prompt=None), expected)
    assert torch.equal(Remembered(model, file).encode(texts, prompt=None), expected)
    assert len(model.asked) <= 1000
