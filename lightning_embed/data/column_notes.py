"""The columns of all rows of a file, noted while it is read and kept beside its Arrow file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

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
    found: dict[str, int | None]


def note(record: Mapping[str, Any], number: int, found: dict[str, int | None], full: set[str]) -> None:
    """Note the columns of row `number`; `full` are those with a value in an earlier row."""
    for name in record.keys() - full:
        found.setdefault(name, None)
        if record[name] not in _NOTHING:
            found[name] = number
            full.add(name)


def add_part(found: dict[str, int | None], part: Mapping[str, int | None], before: int) -> None:
    """Add what was noted in a part of a file, `before` rows from its beginning."""
    for name, number in part.items():
        if found.get(name) is None:
            found[name] = None if number is None else before + number


def columns_of(table: Dataset) -> Columns:
    """The columns of the file that `table` was read from."""
    columns = kept(Path(table.cache_files[0]["filename"]))
    assert columns is not None, "see row_store"
    return columns


def keep(columns: Columns, target: Path) -> None:
    """Write the note beside the Arrow file `target`, before that is published."""
    write_whole(_note(target), json.dumps(asdict(columns)))


def kept(target: Path) -> Columns | None:
    """The note beside an Arrow file; None: there is none, or it is broken."""
    found = cached_json(_note(target), Columns)
    return None if found is None else Columns(found["read"], found["found"])


def _note(target: Path) -> Path:
    return target.with_suffix(".columns.json")
