"""Whatever is behind the name of a file of rows: its content, or one sentence."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.data import DatasetOptions
from lightning_embed.data.file_access import ROWS, SUFFIXES, exists, readable
from lightning_embed.data.readers import read_rows
from lightning_embed.errors import DataError
from lightning_embed.types import Task

OPTIONS = DatasetOptions(Task.retrieval, path="x")
LINES = b'{"query": "q", "positives": ["p"]}\n'


def _read(path: Path) -> int:
    return len(read_rows(path, OPTIONS, path.parent / "cache"))


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a path of at most 108 letters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _chain(path: Path) -> None:
    path.symlink_to("between")
    (path.parent / "between").symlink_to("absent")


NAMES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "found nothing"),
    "a dangling link": (
        lambda path: path.symlink_to("absent"),
        "found a symbolic link to absent, which does not exist",
    ),
    "a chain of links": (_chain, "found a symbolic link to between, which does not exist"),
    "a looping link": (lambda path: path.symlink_to(path.name), "found a symbolic link that leads to itself"),
    "a folder": (lambda path: path.mkdir(), "found a folder"),
    "a link to a folder": (lambda path: path.symlink_to("/"), "found a folder"),
    "a pipe": (os.mkfifo, "found a named pipe"),
    "a socket": (_socket, "found a socket"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "found a device"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file(tmp_path: Path, name: str, suffix: str) -> None:
    make, found = NAMES[name]
    path = tmp_path / f"a{suffix}"
    make(path)
    with pytest.raises(DataError) as caught:
        _read(path)
    assert str(caught.value) == f"{path}: expected a file of rows ({ROWS}), {found}."


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EPERM, errno.ETIMEDOUT, errno.ENOMEM])
def test_what_cannot_be_read(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    with pytest.raises(DataError) as caught, readable(path):
        raise OSError(number, os.strerror(number), str(path))
    assert str(caught.value).startswith(f"{path}: cannot be read ({os.strerror(number)}). Check its permissions")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(LINES)
    (tmp_path / "a.jsonl").symlink_to("b.txt")
    assert _read(tmp_path / "a.jsonl") == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_name_counts_as_there_but_that_of_nothing(tmp_path: Path, name: str) -> None:
    NAMES[name][0](tmp_path / "a")
    assert exists(tmp_path / "a") == (name != "nothing")


@pytest.mark.parametrize("target", ["absent", "folder"])
def test_a_name_in_a_folder_that_leads_nowhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").symlink_to(target)
    with pytest.raises(DataError, match=f"{tmp_path}/folder: .*symbolic link"):
        exists(tmp_path / "folder" / "a")
    assert not exists(tmp_path / "elsewhere" / "a")
    (tmp_path / "file").touch()
    assert not exists(tmp_path / "file" / "a")
