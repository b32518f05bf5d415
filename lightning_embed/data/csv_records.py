"""Records of csv and tsv files. A cell is a text; an empty one is missing."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_embed.data.cells import Cells
from lightning_embed.data.text_blocks import MAX_LINE
from lightning_embed.data.text_lines import text_lines
from lightning_embed.errors import DataError

csv.field_size_limit(MAX_LINE)  # of the process; the default refuses texts of more than 128 KiB

_DELIMITERS = ",;\t|"
_EXPECTED = "a table in quotes where a cell has several lines"


def csv_records(path: Path) -> Iterator[tuple[str, Cells]]:
    """(file: line n, cells by the names of the header) of each row.

    The delimiter is that of the name, or if the header has none of it, a semicolon, a tab or a bar. Quotes are as in
    RFC 4180; a .tsv whose quotes make no sense, as in the files of GLUE, has none.

    Raises:
        DataError: a row with more or fewer cells than the header, with its line; broken quotes; a name twice.
    """
    delimiter = _delimiter(path)
    is_quoted = delimiter != "\t" or _has_quotes(path, delimiter)
    rows = _rows((text for _, text in text_lines(path, _EXPECTED)), path, delimiter, is_quoted)
    _, header = next(rows, (1, []))
    names = [name.strip() or f"Unnamed: {number}" for number, name in enumerate(header)]  # as pandas names them
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: two columns are named {twice[0]!r}. Rename one.")
    for line, row in rows:
        where = f"{path}: line {line}"
        if len(row) != len(names):
            raise DataError(
                f"{where}: expected {len(names)} cells, as in the header, found {len(row)}. Put a cell with {delimiter!r} "
                "or a line break in it into quotes."
            )
        yield where, Cells(zip(names, (cell or None for cell in row), strict=True))


def _rows(lines: Iterable[str], path: Path, delimiter: str, is_quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """(line of its beginning, cells) of each row that is not blank."""
    options: dict[str, Any] = {} if is_quoted else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(lines, delimiter=delimiter, strict=True, **options)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}: line {line}: broken cells, {_reason(error)}.") from None
        if row is None:
            return
        if row:
            yield line, row


def _reason(error: csv.Error) -> str:
    if str(error).startswith("new-line character"):
        return "a carriage return outside of quotes. Put the cell into quotes, or end lines by a line feed"
    reason = "a quote that is never closed" if str(error) == "unexpected end of data" else str(error)
    return f"{reason}. Write quotes in a cell twice"


def _delimiter(path: Path) -> str:
    """That of the name, if it cuts the header and the first row into as many cells; else the first one that does."""
    head = [text for _, text in islice(text_lines(path, _EXPECTED), 50)]
    own = "\t" if ".tsv" in path.suffixes else ","
    for delimiter in own + _DELIMITERS.replace(own, ""):
        widths = [len(row) for row in _first(head, path, delimiter)]
        if widths and widths[0] > 1 and len(set(widths)) == 1:
            return delimiter
    return own


def _first(head: Sequence[str], path: Path, delimiter: str) -> Iterator[list[str]]:
    """The header and the first row, as far as they can be read."""
    try:
        for _, row in islice(_rows(head, path, delimiter, is_quoted=True), 2):
            yield row
    except DataError:
        return


def _has_quotes(path: Path, delimiter: str) -> bool:
    """Whether quotes can be meant: they make whole rows, and join no lines that are rows by themselves."""
    plain = _shape(path, delimiter, is_quoted=False)
    return plain is None or _shape(path, delimiter, is_quoted=True) == plain


def _shape(path: Path, delimiter: str, is_quoted: bool) -> tuple[int, int] | None:
    """(number of rows, cells of each); None: rows with different numbers of cells, or broken quotes."""
    lines = (text for _, text in text_lines(path, _EXPECTED))
    widths: set[int] = set()
    number = 0
    try:
        for _, row in _rows(lines, path, delimiter, is_quoted):
            widths.add(len(row))
            number += 1
    except DataError:
        return None
    return (number, widths.pop()) if len(widths) == 1 else None
