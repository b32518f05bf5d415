"""A cache of embeddings on disk: the same weights encode the same text once, across tests, runs and processes."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from torch import Tensor

from lightning_embed.evaluation.base import Role, TextEncoder, asked_for
from lightning_embed.storage.database import with_database
from lightning_embed.types import Task

_TABLE = "CREATE TABLE IF NOT EXISTS embeddings (text BLOB PRIMARY KEY, numbers BLOB, digest BLOB) WITHOUT ROWID"
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

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """See `TextEncoder`."""
        return self.encoder.prompt_for(task, role, dataset)

    def encode(
        self, texts: Sequence[str], *, prompt: str | Sequence[str] | None, max_length: int | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See `TextEncoder`."""
        asked = asked_for(texts, prompt, max_length)
        keys = [xxhash.xxh128_digest(repr(tuple(each)).encode()) for each in asked]
        known = self._look_up(list(dict.fromkeys(keys)))
        new = {key: each for key, each in zip(keys, asked, strict=True) if key not in known}
        if new or not texts:
            before = prompt if prompt is None or isinstance(prompt, str) else [str(e.prompt) for e in new.values()]
            left = [each.text for each in new.values()]
            numbers = self.encoder.encode(left, prompt=before, max_length=max_length).numpy()
            if not texts:
                return torch.from_numpy(numbers)
            known |= zip(new, numbers, strict=True)
            self._keep({key: known[key].tobytes() for key in new})
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Float[np.ndarray, " dim"]]:
        def look_up(database: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                batch = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(batch))
                rows = database.execute(f"SELECT * FROM embeddings WHERE text IN ({marks})", batch)
                found |= {key: numbers for key, numbers, digest in rows if digest == _digest(key, numbers)}
            return found

        return {key: np.frombuffer(numbers, dtype=np.float32) for key, numbers in self._work(look_up).items()}

    def _keep(self, new: Mapping[bytes, bytes]) -> None:
        def keep(database: sqlite3.Connection) -> None:
            rows = ((key, numbers, _digest(key, numbers)) for key, numbers in new.items())
            database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)

        self._work(keep)

    def _work(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return with_database(self.file, _TABLE, work, timeout=600.0)  # another job of a sweep may be writing


def _digest(key: bytes, numbers: object) -> bytes:
    """A digest of a row: SQLite does not notice a changed byte."""
    return xxhash.xxh3_64_digest(key + numbers) if isinstance(numbers, bytes) else b""
