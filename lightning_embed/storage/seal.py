"""Seals: the digests of finished files, kept beside them, because a file that exists need not be whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import model_digests, sha256
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard, make_folder, settle

_DIGESTS = "sha256.json"


@contextmanager
def made_once(file: Path) -> Iterator[bool]:
    """Yield whether `file` has to be made: it is missing or broken, and no other process makes it.

    Where it is true, the body makes the file, which is sealed after it; the other processes wait.
    """
    if is_whole(file):
        yield False
        return
    make_folder(file.parent)
    with FileLock(file.with_suffix(".lock")):
        is_missing = not is_whole(file)
        if is_missing:
            settle(file.parent, file.name)  # what a killed process left: it may have been most of a disk
        yield is_missing
        if is_missing:
            discard(_seal(file))
            write_whole(_seal(file), f"{sha256(file, is_final=True)}\n")


def is_whole(file: Path) -> bool:
    """Whether a file has the bytes that were sealed; False: missing, without a seal, or changed since."""
    try:
        return file.is_file() and sha256(file) == _seal(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False


def seal_folder(folder: Path) -> None:
    """Write the digests of the files of a folder, which is about to be published, to `sha256.json` in it."""
    write_whole(folder / _DIGESTS, json.dumps(model_digests(folder)))


def is_whole_folder(folder: Path) -> bool:
    """Whether a folder has the files that were sealed, and their bytes."""
    expected: dict[str, str] = cached_json(folder / _DIGESTS, dict[str, str]) or {}
    try:
        return bool(expected) and all(sha256(folder / name) == digest for name, digest in expected.items())
    except OSError:
        return False


def _seal(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")
