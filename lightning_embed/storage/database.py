"""SQLite files of caches: made again where they are broken."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from lightning_embed.storage.disk import named_when_full
from lightning_embed.storage.publish import discard, make_folder

T = TypeVar("T")

# a file that no waiting, no space and no permission would make readable
_BROKEN = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH})


def with_database(file: Path, table: str, work: Callable[[sqlite3.Connection], T], timeout: float) -> T:
    """Work on the database of a cache, in one transaction; a broken file is removed, and made again empty.

    Args:
        file: of the database; created if missing.
        table: statement that creates its table, if it does not exist.
        work: uses the connection; called again after a broken file was removed.
        timeout: seconds to wait for other processes.

    Raises:
        sqlite3.Error: the database cannot be used for other reasons.
        CheckpointError: the disk is full.
    """

    def attempt() -> T:
        with closing(sqlite3.connect(file, timeout=timeout)) as database, database:
            database.execute(table)
            return work(database)

    with named_when_full(file):
        make_folder(file.parent)
        if not _is_broken_place(file):
            try:
                return attempt()
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BROKEN:
                    raise
        for suffix in (
            "-journal",
            "-wal",
            "-shm",
            "",
        ):  # the journal of the broken file must not be played into a new one
            with suppress(FileNotFoundError):
                discard(file.with_name(file.name + suffix))
        return attempt()


def _is_broken_place(file: Path) -> bool:
    return file.is_dir() or (file.is_symlink() and not file.exists())
