"""Seals: the digest of a finished file, kept beside it, because a file that exists need not be whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.publish import discard, make_folder


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
        yield is_missing
        if is_missing:
            discard(_seal(file))
            write_whole(_seal(file), f"{sha256(file)}\n")


def is_whole(file: Path) -> bool:
    """Whether a file has the bytes that were sealed; False: missing, without a seal, or changed since."""
    try:
        return file.is_file() and sha256(file) == _seal(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False


def _seal(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")
