"""Atomic writes of small text files."""

import os
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write `text` to `file` atomically: a reader finds the old text or the new one. Missing folders are created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
