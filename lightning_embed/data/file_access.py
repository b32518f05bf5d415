"""The one door to the files of a dataset: what is behind a name, and whether it can be read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path

from lightning_embed.errors import DataError

PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""End of the name of a packed text file -> what it is packed by."""


def _with_packed(suffix: str) -> tuple[str, ...]:
    return (suffix, *(suffix + packed for packed in PACKED))


SUFFIXES = (*_with_packed(".jsonl"), ".parquet", *_with_packed(".json"), *_with_packed(".csv"), *_with_packed(".tsv"))
"""Ends of the names of files of rows, in the order in which a folder is searched for a part."""

ROWS = ".jsonl, .json, .csv, .tsv, their .gz, .bz2, .xz, .zst, or .parquet"
"""The same for messages."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PAR1": "parquet",
    b"ARROW1": "Arrow",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def exists(path: Path) -> bool:
    """Whether a name is there: a file, a folder, or a link, even one that leads nowhere.

    Raises:
        DataError: its folder is a link that leads nowhere, or cannot be searched.
    """
    if not isinstance(path, Path):  # of a remote file system
        return path.exists()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_symlink() and not path.parent.exists():
            raise DataError(f"{path.parent}: expected a folder, found {_broken(path.parent)}.") from None
        return False
    except ValueError:  # a null character
        return False
    except OSError as error:
        raise _unreadable(path.parent, error) from None
    return True


@contextmanager
def readable(path: Path, expected: str = "a file") -> Iterator[None]:
    """Refuse what cannot be read as a file, before and while it is read inside.

    Raises:
        DataError: a broken or looping link, a folder, a pipe, a file without permission, an error of the disk.
    """
    if "\0" in str(path):
        raise DataError(f"{path}: expected {expected}, found a null character in its name.")
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe waits for ever
            found = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise DataError(f"{path}: expected {expected}, found {found}.")
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: expected {expected}, found {_broken(path)}.") from None
    except OSError as error:
        if error.errno == ELOOP:
            raise DataError(f"{path}: expected {expected}, found a symbolic link that leads to itself.") from None
        raise _unreadable(path, error) from None


def _broken(path: Path) -> str:
    return f"a symbolic link to {os.readlink(path)}, which does not exist" if path.is_symlink() else "nothing"


def _unreadable(path: Path, error: OSError) -> DataError:
    reason = "a symbolic link that leads to itself" if error.errno == ELOOP else error.strerror or error
    return DataError(f"{path}: cannot be read ({reason}). Check its permissions and its disk, or copy it again.")


def require_content(path: Path) -> None:
    """Refuse a file whose first bytes are of another format than its name says. An empty file is of any."""
    with path.open("rb") as file:
        head = file.read(8)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "text")
    expected = "parquet" if path.name.endswith(".parquet") else PACKED.get(path.suffix, "text")
    if head and kind != expected:
        suffix = _suffix_of(kind, path) if path.name.endswith(SUFFIXES) else None
        remedy = f"Name it {suffix}" if suffix else f"Convert it to {expected}"
        raise DataError(f"{path}: its name says {expected}, its content is {kind}. {remedy}.")


def _suffix_of(kind: str, path: Path) -> str | None:
    """The end that the name of a file with this content should have; None: it cannot be read."""
    if kind == "parquet":
        return ".parquet"
    text = next((s for s in path.suffixes if s in (".json", ".csv", ".tsv")), ".jsonl")
    packed = next((suffix for suffix, name in PACKED.items() if name == kind), None)
    return text if kind == "text" else packed and text + packed
