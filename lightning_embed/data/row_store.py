"""The rows of a file in the cache: checked once per machine, by all its cores, then memory-mapped Arrow.

The file has the texts of each row and their 64-bit hashes, so that what compares texts need not read them again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from sys import stdout
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from datasets import Dataset
from datasets.table import InMemoryTable, MemoryMappedTable
from jaxtyping import Int, UInt64
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lightning_embed.data.column_names import chosen
from lightning_embed.data.column_notes import Columns, add_part, keep, kept
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import Part
from lightning_embed.data.row_part import COLUMNS, DOCUMENTS, PartReader, PreparedPart, read, schema
from lightning_embed.errors import DataError
from lightning_embed.runtime.workers import WorkerDied, in_order
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.storage.seal import made_once

_OWN_PARTS = 24  # of 1 MB or 5,000 rows: about two seconds, which worker processes need for their start
_MOST_WORKERS = 16  # above, this process is the slowest: it reads the file and writes the rows


def stored(target: Path, parts: Iterable[Part], options: DatasetOptions, name: str, size: int | None = None) -> Dataset:
    """The rows of a file, from the cache, or checked and written there first; other processes wait meanwhile.

    Args:
        target: the Arrow file; its name changes with the content of the file and with how it is read.
        parts: the records of the file; not iterated if they are in the cache.
        options: options of the dataset.
        name: of the file, for messages.
        size: sum of the `size` of all parts, for the progress bar; None: unknown.

    Raises:
        DataError: the first invalid row, with file, line and reason, for any number of workers; no rows.
    """
    if target.exists() and kept(target) is None:  # in this order: a note is written before its Arrow file
        discard(target)
    with made_once(target) as is_missing:
        if is_missing:
            discard(target)
            _write(target, iter(parts), options, name, size)
    table = MemoryMappedTable.from_file(str(target)).select(list(COLUMNS[options.task]))
    return Dataset(table, fingerprint=target.stem)


def arrow_file(table: Dataset) -> Path:
    """The Arrow file of a table from `stored`."""
    return Path(table.cache_files[0]["filename"])


def stored_hashes(table: Dataset, column: str) -> pa.ChunkedArray:
    """The hashes of the texts of each row of the file of `table`, memory-mapped; see `row_part.DOCUMENTS`."""
    return MemoryMappedTable.from_file(str(arrow_file(table))).table.column(column)


def document_hashes(table: Dataset) -> tuple[UInt64[np.ndarray, " documents"], Int[np.ndarray, " rows"]]:
    """The hashes of the documents of the rows of a table, row after row, and the number of documents of each row."""
    hashes = stored_hashes(table, DOCUMENTS)
    if table._indices is not None:
        hashes = hashes.take(table._indices.column(0))
    return compute.list_flatten(hashes).to_numpy(), compute.list_value_length(hashes).to_numpy()


def selected(table: Dataset, rows: Sequence[int] | Int[np.ndarray, " _"]) -> Dataset:
    """Rows of a table, by 4 bytes each (`Dataset.select` makes a Python object of each first)."""
    numbers = np.asarray(rows, dtype=np.int64)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(table):
        raise IndexError(f"Expected rows in 0 to {len(table) - 1}, got {numbers.min()} to {numbers.max()}.")
    chosen_rows = pa.array(numbers.astype(np.uint32 if len(table) < 2**32 else np.uint64))
    if table._indices is not None:
        chosen_rows = table._indices.column(0).take(chosen_rows).combine_chunks()
    indices = InMemoryTable(pa.table({"indices": chosen_rows}))
    fingerprint = f"{table._fingerprint[:32]}-{joblib.hash(chosen_rows.to_numpy())}"
    return Dataset(table.data, info=table.info, split=table.split, indices_table=indices, fingerprint=fingerprint)


def _write(target: Path, parts: Iterator[Part], options: DatasetOptions, name: str, size: int | None) -> None:
    record, parts = _first(parts, name)
    first, layout, rows = read(record, options), schema(options.task), 0
    columns = Columns(chosen(options, first), {})
    with (
        published_file(target) as partial,
        partial.open("wb") as stream,
        pa.ipc.new_stream(stream, layout) as writer,
    ):
        for part in _prepared(PartReader(options, first), parts, name, size):
            add_part(columns.found, part.found, rows)
            rows += part.rows
            if part.problem is not None:
                raise part.problem
            writer.write_batch(pa.ipc.read_record_batch(pa.py_buffer(part.batch), layout))
        keep(columns, target)


def _first(parts: Iterator[Part], name: str) -> tuple[Mapping[str, Any], Iterator[Part]]:
    """The first record, and the parts from its part on."""
    for part in parts:
        for _, record in part:
            return record, chain([part], parts)
    raise DataError(f"{name}: no rows.")


def _prepared(reader: PartReader, parts: Iterator[Part], name: str, size: int | None) -> Iterator[PreparedPart]:
    workers = min(joblib.cpu_count(), _MOST_WORKERS)
    with _progress(name, size) as (progress, task):
        try:
            for part in in_order(reader, parts, workers, own=_OWN_PARTS):
                yield part
                progress.update(task, advance=part.size, rows=progress.tasks[task].fields["rows"] + part.rows)
        except WorkerDied as died:
            raise DataError(f"{name}: {died} Often its memory was full. Start again, with more memory.") from None


@contextmanager
def _progress(name: str, size: int | None) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on a terminal, which goes when all is done."""
    shown = TextColumn("{task.description}: {task.fields[rows]:,} rows checked")
    with Progress(shown, BarColumn(), TimeElapsedColumn(), transient=True, disable=not stdout.isatty()) as progress:
        yield progress, progress.add_task(Path(name).name, total=size, rows=0)
