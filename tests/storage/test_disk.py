"""A full disk is recognised in the errors of every library that writes, and nothing else is called so."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError, DataError
from lightning_embed.storage import disk

FULL: list[Exception] = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/data/a"),
    Exception("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
    Exception("No space left on device (os error 28)"),  # tokenizers
    sqlite3.OperationalError("database or disk is full"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),  # torch.save
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
]
OTHERS: list[Exception] = [
    OSError(errno.EACCES, os.strerror(errno.EACCES)), OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError("a message alone"), RuntimeError("unexpected pos of a token"), sqlite3.OperationalError("database is locked"),
    ValueError("28"), KeyError("disk"), FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "no space left on device"),
]  # fmt: skip


@pytest.mark.parametrize("error", FULL, ids=str)
def test_full(error: Exception, tmp_path: Path) -> None:
    assert disk.is_full(error)
    with (
        pytest.raises(CheckpointError, match=r"/a cannot be written: the disk /\S* is full"),
        disk.named_when_full(tmp_path / "a"),
    ):
        raise error
    for wrapped in (_behind(error, cause=True), _behind(error, cause=False)):
        assert disk.is_full(wrapped)


def _behind(error: Exception, cause: bool) -> Exception:
    """An error of a library that hides another one."""
    hiding = RuntimeError("of a library")
    hiding.__cause__, hiding.__context__ = (error, None) if cause else (None, error)
    return hiding


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_not_full(error: Exception, tmp_path: Path) -> None:
    assert not disk.is_full(error)
    with pytest.raises(type(error)), disk.named_when_full(tmp_path / "a"):
        raise error


def test_an_error_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    ours = DataError("rows")
    ours.__cause__ = OSError(errno.ENOSPC, "full")
    with pytest.raises(DataError, match=r"^rows$"), disk.named_when_full(tmp_path):
        raise ours


def test_the_disk_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) in (tmp_path / "mnt", Path("/")))
    assert disk.disk_of(tmp_path / "mnt" / "not" / "yet") == tmp_path / "mnt"
    assert disk.disk_of(tmp_path / "other") == Path("/")
    assert "LIGHTNING_EMBED_CACHE" in str(disk.refusal(None))
