"""Atomic writes of small text files."""

from pathlib import Path

from lightning_embed.storage.publish import published_file


def write_whole(file: Path, text: str) -> None:
    """Write `text` to `file`: a reader finds the old text or the new one. Missing folders are created."""
    with published_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
