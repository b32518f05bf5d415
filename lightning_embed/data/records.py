"""Records of files of rows, of folders of `datasets`, and of rows in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_embed.data.csv_records import csv_records
from lightning_embed.data.file_access import PACKED, ROWS, SUFFIXES, readable, require_content
from lightning_embed.data.json_records import json_file, json_lines, json_parts
from lightning_embed.errors import DataError

Record = tuple[str, Mapping[str, Any]]
"""(file: line n, object)"""

Part = Iterable[Record]
"""Some records, one after the other: picklable, and the same each time that it is iterated."""

_ROWS_OF_PART = 5000


def records(path: Path) -> Iterator[Record]:
    """(where, record) of each row of a file of rows; lazy: nothing is read before the first.

    Raises:
        DataError: a file that is not what its name says; a damaged part; a line that is not one JSON object in UTF-8.
    """
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".jsonl": json_lines, ".json": json_file, ".csv": csv_records, ".tsv": csv_records, ".parquet": _parquet
    }  # fmt: skip
    return readers[_format(path)](path)


def _format(path: Path) -> str:
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: expected {ROWS}.")
    return next(suffix for suffix in reversed(path.suffixes) if suffix not in PACKED)


def parts(path: Path) -> Iterator[Part]:
    """The records of a file of rows in parts, of which the worker processes read those of jsonl files."""
    return json_parts(path) if _format(path) == ".jsonl" else parts_of(records(path))


def parts_of(records: Iterable[Record]) -> Iterator[Part]:
    """Parts of records that are read here."""
    records = iter(records)
    return iter(lambda: list(islice(records, _ROWS_OF_PART)), [])


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with readable(path):
        require_content(path)
        number = 0
        opened: AbstractContextManager[Any] = nullcontext(path) if isinstance(path, Path) else path.open("rb")
        try:
            with opened as source, ParquetFile(source, page_checksum_verification=True) as file:
                names = file.schema_arrow.names
                if twice := sorted({name for name in names if names.count(name) > 1}):
                    raise DataError(f"{path}: two columns are named {twice[0]!r}. Rename one.")
                for batch in file.iter_batches(batch_size=1000):
                    for record in batch.to_pylist():
                        yield f"{path}: row {number}", record
                        number += 1
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: damaged, or not parquet, from row {number} on ({_first_line(error)}). Copy or write it again."
            ) from None


def table_records(name: str, table: Any) -> Iterator[Record]:
    """(name: row n, record) of each row of a `datasets.Dataset`, as it is stored: a class is its number."""
    number = 0
    for batch in table.with_format("arrow").iter(1000):
        for record in batch.to_pylist():
            yield f"{name}: row {number}", record
            number += 1


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
