"""Embeddings that are kept: the same weights on the same text encode once, over tests, runs and processes."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from lightning_embed.evaluation.base import Role, TextEncoder
from lightning_embed.types import Task

_AT_ONCE = 500  # keys of one question to the database, which allows 999 on old systems


class Remembered:
    """An encoder that looks an embedding up before it encodes the text, and keeps what it encodes.

    Args:
        encoder: of one model.
        file: database of this model, with these settings; made where there is none.
    """

    def __init__(self, encoder: TextEncoder, file: Path) -> None:
        self.encoder = encoder
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS embeddings (text BLOB PRIMARY KEY, numbers BLOB) WITHOUT ROWID"
            )

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """See `TextEncoder`."""
        return self.encoder.prompt_for(task, role, dataset)

    def encode(self, texts: Sequence[str], *, prompt: str | None) -> Float[Tensor, "texts dim"]:
        """See `TextEncoder`."""
        keys = [xxhash.xxh128_digest(repr((prompt, text)).encode()) for text in texts]
        found = self._look_up(list(dict.fromkeys(keys)))
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new or not texts:
            numbers = self.encoder.encode(list(new.values()), prompt=prompt).numpy()
            if not texts:
                return torch.from_numpy(numbers)
            found |= zip(new, numbers, strict=True)
            with closing(self._open()) as database, database:
                rows = ((key, found[key].tobytes()) for key in new)
                database.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
        return torch.from_numpy(np.stack([found[key] for key in keys]))

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " dim"]]:
        found: dict[bytes, Float[np.ndarray, " dim"]] = {}
        with closing(self._open()) as database:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT * FROM embeddings WHERE text IN ({marks})", some)
                found |= {key: np.frombuffer(numbers, dtype=np.float32) for key, numbers in rows}
        return found

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=600)  # another job of a sweep may be writing
