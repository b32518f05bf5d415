"""The rows of a part of a file, checked and as Arrow, with the hashes of their texts: the work of a worker process."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import xxhash

from lightning_embed.data.cells import Cells
from lightning_embed.data.column_notes import note
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import Part
from lightning_embed.data.row_format import BadRow, Row, parser
from lightning_embed.errors import DataError, LightningEmbedError
from lightning_embed.types import Task

DOCUMENTS, NEGATIVES = "document_hashes", "negative_hashes"
"""Columns of 64-bit hashes: of the texts of a row that must not stand in both train and dev, and of its negatives."""

_TEXT, _TEXTS, _SCORES, _HASHES = pa.string(), pa.list_(pa.string()), pa.list_(pa.float32()), pa.list_(pa.uint64())
_LABELLED = {"text": _TEXT, "label": _TEXT, "prompt": _TEXT}
COLUMNS: Mapping[Task, Mapping[str, pa.DataType]] = {
    Task.retrieval: {
        "query": _TEXT,
        "positives": _TEXTS,
        "negatives": _TEXTS,
        "positive_scores": _SCORES,  # null: the row has none
        "negative_scores": _SCORES,
        "prompt": _TEXT,  # null: that of the dataset
    },
    Task.sts: {"text1": _TEXT, "text2": _TEXT, "score": pa.float64(), "prompt": _TEXT},
    Task.classification: _LABELLED,
    Task.clustering: _LABELLED,
}


@dataclass
class PreparedPart:
    """The rows of a part.

    Args:
        batch: the rows and the hashes of their texts, as a message of Arrow.
        rows: number of rows.
        found: column -> number of the first row of the part with a value in it, from 1; None: no row has one.
        problem: the first invalid row, with file, line and reason; None: all are valid.
        size: of the part, in the unit of the part; 0: unknown.
    """

    batch: bytes = b""
    rows: int = 0
    found: dict[str, int | None] = field(default_factory=dict)
    problem: LightningEmbedError | None = None
    size: int = 0


@dataclass(frozen=True)
class PartReader:
    """Reads parts of one file.

    Args:
        options: options of the dataset.
        first: first record of the file, which decides what its columns mean.
    """

    options: DatasetOptions
    first: Mapping[str, Any]

    def __call__(self, part: Part) -> PreparedPart:
        """Read a part up to its first invalid row."""
        prepared = PreparedPart(size=getattr(part, "size", 0))
        with _no_search_for_cycles():
            try:
                rows = list(self._rows(part, prepared))
                prepared.batch = _batch(rows, self.options.task).serialize().to_pybytes()
            except LightningEmbedError as problem:
                prepared.problem = problem
        return prepared

    def _rows(self, part: Part, prepared: PreparedPart) -> Iterator[Row]:
        parse, full = parser(self.options, self.first), set[str]()
        for where, record in part:
            prepared.rows += 1
            note(record, prepared.rows, prepared.found, full)
            try:
                yield parse(read(record, self.options) if self.options.ignore_columns else record)
            except BadRow as reason:
                raise DataError(f"{where}: {reason}.") from None


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Let Python not look through thousands of rows, again and again, for what it could free: two fifths of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read(record: Mapping[str, Any], options: DatasetOptions) -> Mapping[str, Any]:
    """A record without the ignored columns."""
    kept = {name: value for name, value in record.items() if name not in options.ignore_columns}
    return Cells(kept) if isinstance(record, Cells) else kept


def schema(task: Task) -> pa.Schema:
    """The columns of the rows of a task, then those of their hashes."""
    hashes = (DOCUMENTS, NEGATIVES) if task is Task.retrieval else (DOCUMENTS,)
    return pa.schema([*COLUMNS[task].items(), *((name, _HASHES) for name in hashes)])


def text_hash(text: str) -> int:
    """64 bits of a text, the same on every machine."""
    return xxhash.xxh3_64_intdigest(text.encode())


def _batch(rows: Sequence[Row], task: Task) -> pa.RecordBatch:
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in COLUMNS[task]}
    match task:
        case Task.retrieval:
            documents = [[query, *texts] for query, texts in zip(columns["query"], columns["positives"], strict=True)]
            columns[NEGATIVES] = list(map(_hashes, columns["negatives"]))
        case Task.sts:
            documents = [list(pair) for pair in zip(columns["text1"], columns["text2"], strict=True)]
        case _:
            documents = [[text] for text in columns["text"]]
    columns[DOCUMENTS] = list(map(_hashes, documents))
    return pa.RecordBatch.from_pydict(columns, schema(task))


def _hashes(texts: Sequence[str]) -> list[int]:
    return [text_hash(text) for text in texts]
