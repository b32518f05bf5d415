"""SHA-256 of files: each file is read once per process, on request ahead of time in a thread."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread


@dataclass
class _Digest:
    lock: Lock = field(default_factory=Lock)
    value: str | None = None


_digests: dict[tuple[Path, int, int, int], _Digest] = {}


def sha256(file: Path) -> str:
    """The digest of a file as it is now.

    Raises:
        OSError: the file cannot be read.
    """
    path = file.resolve()
    now = path.stat()
    digest = _digests.setdefault((path, now.st_ino, now.st_size, now.st_mtime_ns), _Digest())
    with digest.lock:
        if digest.value is None:
            with path.open("rb") as stream:
                digest.value = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest.value


def digests(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by name."""
    return {file.name: sha256(file) for file in sorted(files)}


def begin(files: Iterable[Path]) -> None:
    """Compute digests in a daemon thread, which does not delay the end of the process."""

    def work() -> None:
        for file in files:
            with suppress(OSError):  # raised again where the digest is used
                sha256(file)

    Thread(target=work, daemon=True).start()
