"""Lines of text files in UTF-8, packed or not."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import IO, Any

from lightning_embed.data.file_access import readable, require_content
from lightning_embed.data.text_blocks import MAX_LINE, TextBlock, blocks
from lightning_embed.errors import DataError

_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)


def text_lines(path: Path, expected: str = "one JSON object per line") -> Iterator[tuple[str, str]]:
    """(file: line n, text) of each line of a UTF-8 file, unpacked, without the byte order mark.

    Args:
        path: the file; .gz, .bz2, .xz and .zst are unpacked.
        expected: what the lines should be, for the message about one that is too long.

    Raises:
        DataError: a file that is not what its name says; a line that is too long or not UTF-8.
    """
    for block in text_blocks(path, expected):
        yield from block


def text_blocks(path: Path, expected: str = "one JSON object per line") -> Iterator[TextBlock]:
    """The same in blocks of some MB, which worker processes can read.

    Raises:
        DataError: a file that is not what its name says, or that cannot be unpacked.
    """
    with readable(path):
        require_content(path)
        with unpacked(path) as file:
            yield from blocks(_whole(file, path), str(path), expected)


@contextmanager
def unpacked(path: Path) -> Iterator[BufferedIOBase]:
    """The bytes of a file, unpacked by the end of its name."""
    openers: dict[str, Callable[[IO[bytes]], Any]] = {
        ".gz": lambda file: gzip.GzipFile(fileobj=file),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zst": _zstd,
    }
    with path.open("rb") as file, openers.get(path.suffix, nullcontext)(file) as stream:
        yield stream


def first_bytes(path: Path, count: int = -1) -> bytes:
    """The first `count` bytes of a file, unpacked; by default all of them.

    Raises:
        DataError: a file that is not what its name says.
    """
    with readable(path):
        require_content(path)
        with unpacked(path) as file, _unpacking(path):
            return file.read(count)


def whole_text(path: Path) -> str:
    """The text of a UTF-8 file in memory, unpacked, without the byte order mark.

    Raises:
        DataError: a file that is not what its name says, or not UTF-8.
    """
    content = first_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line}: byte {error.start - start} is not UTF-8.") from None


def _zstd(file: IO[bytes]) -> BufferedReader:
    import pyarrow

    return BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))


def _whole(file: BufferedIOBase, path: Path) -> Iterator[bytes]:
    with _unpacking(path):
        while line := file.readline(MAX_LINE + 1):  # of a longer line, its pieces
            yield line


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise DataError(f"{path}: cannot be unpacked ({error}): cut short in copying?") from None
