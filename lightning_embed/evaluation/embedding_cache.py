"""A cache of embeddings on disk: the same weights encode the same text once, across tests, runs and processes."""

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

_KEYS_PER_QUERY = 500  # old versions of SQLite allow 999


class Remembered:
    """An encoder with a cache: it encodes only texts whose embeddings are not in a database, and adds them.

    Args:
        encoder: encoder of one model.
        file: database of this model with these settings; created if missing.
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
        known = self._look_up(list(dict.fromkeys(keys)))
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if new or not texts:
            numbers = self.encoder.encode(list(new.values()), prompt=prompt).numpy()
            if not texts:
                return torch.from_numpy(numbers)
            known |= zip(new, numbers, strict=True)
            with closing(self._open()) as database, database:
                rows = ((key, known[key].tobytes()) for key in new)
                database.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " dim"]]:
        known: dict[bytes, Float[np.ndarray, " dim"]] = {}
        with closing(self._open()) as database:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                batch = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(batch))
                rows = database.execute(f"SELECT * FROM embeddings WHERE text IN ({marks})", batch)
                known |= {key: np.frombuffer(numbers, dtype=np.float32) for key, numbers in rows}
        return known

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=600)  # another job of a sweep may be writing
