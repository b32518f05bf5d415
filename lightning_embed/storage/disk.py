"""Full disks: recognised in the errors of every library that writes, and reported with the name of the disk."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_embed.errors import CheckpointError, LightningEmbedError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# safetensors, tokenizers and SQLite report the system's error as text; torch.save only that its file is too short.
_TEXTS = re.compile(
    r"no space left on device|os error 28\b|disk quota exceeded|os error 122\b|database or disk is full"
    r"|PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos",
    re.IGNORECASE | re.DOTALL,
)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: the error itself, its cause, or the error during which it was raised."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno in _FULL:
                return True
        elif _TEXTS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal(place: Path | None) -> CheckpointError:
    """The error for a full disk.

    Args:
        place: what could not be written; None: not known, and the remedy names both places of a run.
    """
    if place is None:
        return CheckpointError(
            "The disk is full (No space left on device). Make room on the disk of out=, and on that of the cache "
            "folder (LIGHTNING_EMBED_CACHE), or give others; the same command goes on."
        )
    return CheckpointError(
        f"{place} cannot be written: the disk {disk_of(place)} is full (No space left on device). Make room there, or "
        "choose a different place; what was there before is unchanged."
    )


@contextmanager
def named_when_full(place: Path) -> Iterator[None]:
    """Raise the error of a full disk with the name of what is written inside.

    Raises:
        CheckpointError: the disk is full.
    """
    try:
        yield
    except LightningEmbedError:
        raise
    except Exception as error:  # every library has its own
        if is_full(error):
            raise refusal(place) from error
        raise


def disk_of(path: Path) -> Path:
    """The mount point of the disk that holds a path, which need not exist yet."""
    path = path.absolute()
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path
