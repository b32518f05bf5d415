"""The columns of all rows of a file, noted while it is read and kept beside its Arrow file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset

from lightning_embed.data.column_names import chosen
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import Record
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import cached_json

_NOTHING: tuple[object, ...] = (None, "", [])


@dataclass(frozen=True)
class Columns:
    """The columns of a file.

    Args:
        read: our column -> that of the file.
        found: column -> number of the first row with a value in it, from 1; None: no row has one.
    """

    read: Mapping[str, str]
    found: Mapping[str, int | None]


def noted(records: Iterator[Record], options: DatasetOptions, target: Path) -> Iterator[Record]:
    """The records without the ignored columns; at their end the columns are noted beside `target`.

    An Arrow file in `target` that has no note is removed, so that it is made again.
    """
    if target.exists() and _kept(target) is None:  # in this order: a note is written before its Arrow file
        target.unlink(missing_ok=True)
    return _noted(records, options, target)


def columns_of(table: Dataset) -> Columns:
    """The columns of the file that `table` was read from."""
    kept = _kept(Path(table.cache_files[0]["filename"]))
    assert kept is not None, "see noted"
    return kept


def _noted(records: Iterator[Record], options: DatasetOptions, target: Path) -> Iterator[Record]:
    found: dict[str, int | None] = {}
    full: set[str] = set()
    read: dict[str, str] = {}
    for number, (where, record) in enumerate(records, 1):
        for name in record.keys() - full:
            found.setdefault(name, None)
            if record[name] not in _NOTHING:
                found[name] = number
                full.add(name)
        if options.ignore_columns:
            record = {name: value for name, value in record.items() if name not in options.ignore_columns}
        read = read or chosen(options, record)
        yield where, record
    if read:  # of no rows, the reader leaves nothing in the cache
        write_whole(_note(target), json.dumps(asdict(Columns(read, found))))


def _note(target: Path) -> Path:
    return target.with_suffix(".columns.json")


def _kept(target: Path) -> Columns | None:
    """The note beside an Arrow file; None: there is none, or it is broken."""
    kept = cached_json(_note(target), Columns)
    return None if kept is None else Columns(kept["read"], kept["found"])
