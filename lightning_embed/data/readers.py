"""Readers of jsonl and parquet files and of splits on the hub, into memory-mapped Arrow rows.

jsonl has its own reader: the json loader of `datasets` accepts wrong types and missing fields, and loses line numbers.
The Arrow file is kept in the cache folder under a key of everything that it depends on.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value
from datasets import List as ListFeature
from datasets.arrow_writer import ArrowWriter

from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.row_format import BadRow, parser
from lightning_embed.errors import DataError
from lightning_embed.storage import hub
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.storage.seal import is_whole, seal
from lightning_embed.types import Task

MAX_LINE = 2**26  # bytes; a longer line is a file without line breaks
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

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
    if not path.is_file():
        raise DataError(f"{path}: expected a file of rows ({', '.join(SUFFIXES)}), found {_found(path)}.")
    content = sha256(path)
    target = cache / f"{_key(content, options)}.arrow"
    is_new = not is_whole(target)
    rows = _cached(target, _records(path), options, str(path))
    if is_new and sha256(path) != content:
        discard(target)
        raise DataError(f"{path} changed while it was read. Start again.")
    return rows


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
    records = ((f"{name}[{split}]: row {number}", row) for number, row in enumerate(rows))
    return _cached(cache / f"{_key(rows._fingerprint, options)}.arrow", records, options, f"{name}[{split}]")


def _found(path: Path) -> str:
    return "a folder" if path.is_dir() else "nothing"


def _key(content: str, options: DatasetOptions) -> str:
    """Changes with the content, with how it is parsed, and with the code that parses it."""
    layout = (options.task, options.format, sorted(options.columns.items()), options.score_range)
    code = fingerprint(Path(__file__).parent)
    return blake2b(repr((content, code, *layout)).encode(), digest_size=16).hexdigest()


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, record) of each row; lazy: nothing is read before the first."""
    if path.name.endswith(".parquet"):
        return _parquet(path)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return json_lines(path)
    raise DataError(f"{path}: expected {', '.join(SUFFIXES)}.")


def json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(file: line n, object) of each line of a .jsonl or .jsonl.gz file.

    Raises:
        DataError: a line that is not one JSON object in UTF-8.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(_whole(file, path), 1):
            where = f"{path}: line {number}"
            if len(line) > MAX_LINE:
                raise DataError(f"{where}: longer than {MAX_LINE / 2**20:.0f} MiB; expected one JSON object per line.")
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: byte {error.start} is not UTF-8.") from None
            except json.JSONDecodeError as error:
                reason = f"broken JSON, {error.msg} at character {error.pos}" if line.strip() else "a blank line"
                raise DataError(f"{where}: {reason}; expected one JSON object.") from None
            if not isinstance(record, dict):
                raise DataError(f"{where}: expected one JSON object, found {type(record).__name__}.")
            yield where, record


def _whole(file: BufferedIOBase, path: Path) -> Iterator[bytes]:
    try:
        while line := file.readline(MAX_LINE + 1):
            yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}): cut short in copying?") from None


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file ({error}).") from None
    number = 0
    for batch in file.iter_batches(batch_size=1000):
        for record in batch.to_pylist():
            yield f"{path}: row {number}", record
            number += 1


def _cached(
    target: Path, records: Iterator[tuple[str, Mapping[str, Any]]], options: DatasetOptions, name: str
) -> Dataset:
    """Write the parsed records as Arrow, once, and memory-map the file."""
    if not is_whole(target):
        first = next(records, None)
        if first is None:
            raise DataError(f"{name}: no rows.")
        discard(target)
        _write(target, chain([first], records), options, first[1])
        seal(target)
    return Dataset.from_file(str(target))


def _write(
    target: Path, records: Iterator[tuple[str, Mapping[str, Any]]], options: DatasetOptions, first: Mapping[str, Any]
) -> None:
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
