"""Blocks of whole lines: the parts in which worker processes read a text file, each with the number of its first line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO

from lightning_embed.errors import DataError

MAX_LINE = 2**26  # bytes; a longer line is a file without line breaks
_SIZE = 2**20  # bytes of a block


@dataclass(frozen=True)
class TextBlock:
    """Whole lines of a file.

    Args:
        name: of the file, for messages.
        first: number of the first line, from 1.
        content: the lines as they stand in the file, unpacked.
        expected: what the lines should be, for the message about one that is too long.
    """

    name: str
    first: int
    content: bytes
    expected: str = "one JSON object per line"

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(file: line n, text) of each line, without the byte order mark of the file.

        Raises:
            DataError: a line that is too long or not UTF-8.
        """
        for number, line in enumerate(BytesIO(self.content), self.first):
            where = f"{self.name}: line {number}"
            if len(line) > MAX_LINE:
                raise DataError(f"{where}: longer than {MAX_LINE / 2**20:.0f} MiB; expected {self.expected}.")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: byte {error.start} is not UTF-8.") from None
            yield where, text


def blocks(lines: Iterable[bytes], name: str, expected: str, size: int = _SIZE) -> Iterator[TextBlock]:
    """Join lines, or pieces of lines that are too long, to blocks of about `size` bytes.

    What `lines` raises is raised after the block of the lines before it.
    """
    first, found, length = 1, list[bytes](), 0
    try:
        for line in lines:
            found.append(line)
            length += len(line)
            if length >= size:
                yield TextBlock(name, first, b"".join(found), expected)
                first, found, length = first + len(found), [], 0
    except Exception:
        if found:
            yield TextBlock(name, first, b"".join(found), expected)
        raise
    if found:
        yield TextBlock(name, first, b"".join(found), expected)
