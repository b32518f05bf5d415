"""Seals: the digest of a finished file, kept beside it, because a file that exists need not be whole."""

from pathlib import Path

from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.publish import discard


def seal(file: Path) -> None:
    """Write the digest of a file that was just published to `<file>.sha256`."""
    discard(_beside(file))
    write_whole(_beside(file), f"{sha256(file)}\n")


def is_whole(file: Path) -> bool:
    """Whether a file has the bytes that were sealed; False: missing, without a seal, or changed since."""
    try:
        return file.is_file() and sha256(file) == _beside(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")
