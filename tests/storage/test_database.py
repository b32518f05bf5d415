"""A broken database of a cache is made again, whatever broke it."""

import sqlite3
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.storage.database import with_database

TABLE = "CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, number INTEGER)"
NUMBERS = [(str(number), number) for number in range(2000)]


def _fill(database: sqlite3.Connection) -> None:
    database.executemany("INSERT OR REPLACE INTO numbers VALUES (?, ?)", NUMBERS)


def _read(database: sqlite3.Connection) -> list[tuple[str, int]]:
    return database.execute("SELECT name, number FROM numbers ORDER BY number").fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "cache" / "a.sqlite"
    with_database(file, TABLE, _fill, 1.0)
    assert with_database(file, TABLE, _read, 1.0) == NUMBERS
    return file


def _break(file: Path, kind: str) -> None:
    whole = file.read_bytes()
    file.unlink()
    match kind:
        case "folder":
            (file / "deep").mkdir(parents=True)
        case "dangling link":
            file.symlink_to(file.parent / "none" / "none")
        case "another table":
            with sqlite3.connect(file) as database:
                database.execute("CREATE TABLE numbers (other BLOB)")
            database.close()
        case "another database":
            with sqlite3.connect(file) as database:
                database.execute("CREATE TABLE others (other BLOB)")
            database.close()
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "cut in the first page":
            file.write_bytes(whole[:100])
        case "middle overwritten":
            file.write_bytes(whole[:4096] + b"\xab" * (len(whole) - 4096))
        case "foreign journal":
            file.write_bytes(b"not a database at all" * 100)
            file.with_name(f"{file.name}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
        case _:
            file.write_bytes({"empty": b"", "text": b"not a database", "zeros": bytes(8192)}[kind])


KINDS = [
    "folder", "dangling link", "another table", "another database", "cut", "cut in the first page", "middle overwritten",
    "foreign journal", "empty", "text", "zeros",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_one_is_made_again(kind: str, file: Path) -> None:
    _break(file, kind)
    assert with_database(file, TABLE, _read, 1.0) in ([], NUMBERS)
    with_database(file, TABLE, _fill, 1.0)
    assert with_database(file, TABLE, _read, 1.0) == NUMBERS


def test_a_locked_one_is_not_broken(file: Path) -> None:
    holder = sqlite3.connect(file)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        with_database(file, TABLE, _fill, 0.01)
    holder.close()
    assert with_database(file, TABLE, _read, 1.0) == NUMBERS


def test_a_full_disk_is_named(file: Path) -> None:
    def full(database: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(CheckpointError, match=r"a\.sqlite cannot be written: the disk"):
        with_database(file, TABLE, full, 1.0)
    assert with_database(file, TABLE, _read, 1.0) == NUMBERS


def test_an_error_of_the_work_is_raised_and_nothing_is_lost(file: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with_database(file, TABLE, lambda database: (database.execute("DELETE FROM numbers"), 1 // 0), 1.0)
    assert with_database(file, TABLE, _read, 1.0) == NUMBERS
