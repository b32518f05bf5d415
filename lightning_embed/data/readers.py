"""Readers of jsonl and parquet files and of splits on the hub, into memory-mapped Arrow rows.

The Arrow file is kept in the cache folder under a key of everything that it depends on.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value
from datasets import List as ListFeature
from datasets.arrow_writer import ArrowWriter

from lightning_embed.data.column_notes import noted
from lightning_embed.data.file_access import SUFFIXES, readable
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import Record, records
from lightning_embed.data.row_format import BadRow, parser
from lightning_embed.errors import DataError
from lightning_embed.storage import hub
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.storage.seal import made_once
from lightning_embed.types import Task

_LABELLED = Features({"text": Value("string"), "label": Value("string")})
_FEATURES = {
    Task.retrieval: Features(
        {
            "query": Value("string"),
            "positives": ListFeature(Value("string")),
            "negatives": ListFeature(Value("string")),
            "positive_scores": ListFeature(Value("float32")),  # null: the row has none
            "negative_scores": ListFeature(Value("float32")),
        }
    ),
    Task.sts: Features({"text1": Value("string"), "text2": Value("string"), "score": Value("float64")}),
    Task.classification: _LABELLED,
    Task.clustering: _LABELLED,
}


def read_rows(path: Path, options: DatasetOptions, cache: Path) -> Dataset:
    """Rows of a file, checked against the Row contract.

    Raises:
        DataError: the first invalid row, with file, line and reason; an unreadable or empty file.
    """
    with readable(path, f"a file of rows ({', '.join(SUFFIXES)})"):
        content = sha256(path)
    target = cache / f"{_key(content, options)}.arrow"
    return _cached(target, noted(_unchanged(path, content), options, target), options, str(path))


def read_hub(name: str, split: str, options: DatasetOptions, cache: Path) -> Dataset:
    """Rows of a split of a dataset on the Hugging Face hub (or in its local cache).

    Raises:
        DataError: the split cannot be loaded, or a row breaks the Row contract.
    """
    from datasets import load_dataset

    commit = hub.commit(name, options.revision, "dataset") or options.revision
    try:
        rows = load_dataset(name, split=split, revision=commit)
    except Exception as error:  # datasets raises whatever its many back ends raise
        raise DataError(
            f"{name}: no such folder or file, and the hub has no split {split!r} of it ({error})."
        ) from error
    found = ((f"{name}[{split}]: row {number}", row) for number, row in enumerate(rows))
    target = cache / f"{_key(rows._fingerprint, options)}.arrow"
    return _cached(target, noted(found, options, target), options, f"{name}[{split}]")


def _unchanged(path: Path, content: str) -> Iterator[Record]:
    """The records of a file; an error at their end if its digest is not `content` any more."""
    yield from records(path)
    if sha256(path) != content:
        raise DataError(f"{path} changed while it was read. Start again.")


def _key(content: str, options: DatasetOptions) -> str:
    """Changes with the content, with how it is parsed, and with the code that parses it."""
    layout = (
        options.task,
        options.format,
        sorted(options.columns.items()),
        options.score_range,
        options.ignore_columns,
    )
    code = fingerprint(Path(__file__).parent)
    return blake2b(repr((content, code, *layout)).encode(), digest_size=16).hexdigest()


def _cached(target: Path, records: Iterator[Record], options: DatasetOptions, name: str) -> Dataset:
    """Write the parsed records as Arrow, once, and memory-map the file."""
    with made_once(target) as is_missing:
        if is_missing:
            first = next(records, None)
            if first is None:
                raise DataError(f"{name}: no rows.")
            discard(target)
            _write(target, chain([first], records), options, first[1])
    return Dataset.from_file(str(target))


def _write(target: Path, records: Iterator[Record], options: DatasetOptions, first: Mapping[str, Any]) -> None:
    parse = parser(options, first)
    with (
        published_file(target) as partial,
        partial.open("wb") as stream,
        ArrowWriter(stream=stream, features=_FEATURES[options.task]) as writer,
    ):
        for where, record in records:
            try:
                writer.write(parse(record))
            except BadRow as reason:
                raise DataError(f"{where}: {reason}.") from None
        writer.finalize(close_stream=False)
