"""Digests of files, model directories and plain values; an unchanged file is not read again."""

import errno
import hashlib
import json
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.storage import remote
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.database import with_database

_YOUNG = 2.0  # seconds: a file changed this recently may change again without a new time stamp
_CARDS = ("README.md", "LICENSE", "LICENSE.txt")
_OTHER_FOLDERS = re.compile(
    r"onnx|openvino|runs|logs|wandb|eval|checkpoint-.*"
)  # beside the model: nothing loads them with it
_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, stamp TEXT, sha256 TEXT)"
_DIGEST = re.compile("[0-9a-f]{64}")
_OTHER_WEIGHTS = (".bin", ".h5", ".msgpack", ".ot", ".pt", ".ckpt")  # not read where there are safetensors

Key = tuple[str | int, ...]  # a path, and what changes with its content


@dataclass
class _Digest:
    lock: Lock = field(default_factory=Lock)
    value: str | None = None


_digests: dict[Key, _Digest] = {}


def sha256(file: Path, *, is_final: bool = False) -> str:
    """The digest of a file as it is now.

    It is remembered in the cache folder by path, inode, size, and times of modification and of change; the second
    process that asks reads nothing.

    Args:
        file: the file.
        is_final: nobody writes it any more, so that it is remembered however young it is.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which would never end.
    """
    if not isinstance(file, Path):
        return _of_remote(file)
    path = file.resolve()
    now = path.stat()
    if not (stat.S_ISREG(now.st_mode) or stat.S_ISDIR(now.st_mode)):
        raise OSError(errno.EINVAL, "a pipe or a device", str(file))
    key = (str(path), now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    is_old = is_final or time.time() - max(now.st_mtime, now.st_ctime) > _YOUNG
    return _digest_of(path, key, is_old)


def _of_remote(file: Any) -> str:
    """The digest of a file of a remote file system; without a version of its own, it is read once in each process."""
    with remote.answering(file):
        version = remote.version(file)
        return _digest_of(file, (str(file), version or ""), version is not None)


def _digest_of(path: Path, key: Key, may_be_kept: bool) -> str:
    digest = _digests.setdefault(key, _Digest())
    with digest.lock:
        if digest.value is None:
            digest.value = _recall(key)
        if digest.value is None:
            with path.open("rb") as stream:
                digest.value = hashlib.file_digest(stream, "sha256").hexdigest()
            if may_be_kept:
                _remember(key, digest.value)
        return digest.value


def digest(value: Any) -> str:
    """Eight letters that stand for a plain value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


def digests(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by name."""
    return {file.name: sha256(file) for file in sorted(files)}


def model_digests(folder: Path) -> dict[str, str]:
    """SHA-256, by path, of all files that a model is loaded from; see `directory_digest`.

    Raises:
        OSError: a file cannot be read.
    """
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(_model_files(folder))}


def directory_digest(folder: Path) -> str:
    """The digest of a model directory: of the names and bytes of all files that a model is loaded from.

    Cards, hidden files, and weights for other programs than transformers do not count.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for name, value in model_digests(folder).items():
        digest.update(os.fsencode(f"{name}\0{value}\n"))
    return digest.hexdigest()


def begin(files: Iterable[Path]) -> None:
    """Digest files in a thread of their own, which the end of the process does not wait for."""

    def work() -> None:
        for file in files:
            with suppress(OSError):  # raised again where the digest is needed
                sha256(file)

    Thread(target=work, daemon=True).start()


def _model_files(folder: Path) -> Iterator[Path]:
    """The regular files of a model; each folder once, and of one that a link leads to outside, its own files alone."""
    root, seen = Path(os.path.realpath(folder)), set[Path]()
    for parent, folders, names in os.walk(folder, followlinks=True):
        is_top, real = Path(parent) == folder, Path(os.path.realpath(parent))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name
            for name in folders
            if real.is_relative_to(root) and not (name.startswith(".") or (is_top and _OTHER_FOLDERS.fullmatch(name)))
        )
        has_safetensors = any(name.endswith(".safetensors") for name in names)
        for name in names:
            foreign = has_safetensors and name.endswith(_OTHER_WEIGHTS)
            if not (name.startswith(".") or name in _CARDS or foreign) and Path(parent, name).is_file():
                yield Path(parent, name)


def _recall(key: Key) -> str | None:
    def look_up(database: sqlite3.Connection) -> str | None:
        path = os.fsencode(str(key[0]))
        found = database.execute("SELECT stamp, sha256 FROM files WHERE path = ?", (path,)).fetchone()
        known = found is not None and found[0] == repr(key[1:]) and _DIGEST.fullmatch(str(found[1]))
        return str(found[1]) if known else None

    return _in_database(look_up) if CACHE.is_dir() else None


def _remember(key: Key, value: str) -> None:
    row = (os.fsencode(str(key[0])), repr(key[1:]), value)

    def keep(database: sqlite3.Connection) -> None:
        database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", row)

    _in_database(keep)


def _in_database(work: Callable[[sqlite3.Connection], str | None]) -> str | None:
    """Work on the remembered digests; where the cache folder cannot be used, a file is read again next time."""
    with suppress(sqlite3.Error, OSError, CheckpointError):
        return with_database(CACHE / "checksums.sqlite", _TABLE, work, timeout=5.0)
    return None
