"""A corpus: documents by id, their texts memory-mapped; and rows whose documents are ids of it."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter

from lightning_embed.data.cells import Cells
from lightning_embed.data.column_names import chosen, numbered
from lightning_embed.data.file_access import ROWS, SUFFIXES, exists, readable
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import Record, records
from lightning_embed.data.row_format import BadRow, require_unicode, show
from lightning_embed.errors import DataError
from lightning_embed.storage.checksum import sha256
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.publish import discard, published_file
from lightning_embed.storage.seal import made_once

_FEATURES = Features({"hash": Value("int64"), "id": Value("string"), "text": Value("string")})


def texts_file(folder: Path, name: str) -> Path:
    """corpus.jsonl or queries.jsonl of a folder, or the same with another end of a file of rows."""
    return next((f for suffix in SUFFIXES if exists(f := folder / f"{name}{suffix}")), folder / f"{name}.jsonl")


def documents(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """(where, id, title, text) of each document: {"id" or "_id", "title"?, "text"}.

    Raises:
        DataError: a record in a different format.
    """
    for where, record in records(file):
        try:
            title = _string(record, "title") if record.get("title") is not None else ""
            yield where, _id_of(record), title, _string(record, "text")
        except BadRow as reason:
            raise DataError(f"{where}: {reason}.") from None


class Corpus:
    """The documents of a file, as title and text joined by a space, as mteb does.

    Args:
        file: any file of rows.
        cache: the folder for the Arrow file.

    Raises:
        DataError: a record in a different format; an id that stands twice.
    """

    def __init__(self, file: Path, cache: Path) -> None:
        self.file = file
        with readable(file, f"a file of documents ({ROWS})"):
            self.content = sha256(file)
        key = blake2b(f"{self.content} {fingerprint(Path(__file__).parent)}".encode(), digest_size=16).hexdigest()
        self._arrow = cache / f"corpus-{key}.arrow"

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.text(key) is not None

    def text(self, key: str) -> str | None:
        """The text of a document; None: there is no such id."""
        hashes, order = self._index
        wanted = _hash(key)
        at = int(np.searchsorted(hashes, wanted))
        if at == len(hashes) or int(hashes[at]) != wanted:
            return None
        row = self._table[int(order[at])]
        return str(row["text"]) if row["id"] == key else None

    @cached_property
    def _table(self) -> Dataset:
        with made_once(self._arrow) as is_missing:
            if is_missing:
                discard(self._arrow)
                self._write()
        return Dataset.from_file(str(self._arrow))

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of the ids in ascending order, and the row of each."""
        hashes = self._table.with_format("numpy")["hash"][:] if len(self._table) else np.zeros(0, np.int64)
        order = hashes.argsort(kind="stable")
        hashes = hashes[order]
        if len(twice := np.flatnonzero(hashes[1:] == hashes[:-1])):
            first, second = int(order[twice[0]]), int(order[twice[0] + 1])
            name = self._table[second]["id"]
            raise DataError(
                f"{self.file}: documents {first + 1} and {second + 1} have the id {name!r}. Remove one, or rename it."
            )
        return hashes, order

    def _write(self) -> None:
        with (
            published_file(self._arrow) as partial,
            partial.open("wb") as stream,
            ArrowWriter(stream=stream, features=_FEATURES) as writer,
        ):
            for _, key, title, text in documents(self.file):
                joined = f"{title} {text}".strip() if title else text.strip()
                writer.write({"hash": _hash(key), "id": key, "text": joined})
            writer.finalize(close_stream=False)
        if sha256(self.file) != self.content:
            raise DataError(f"{self.file} changed while it was read. Start again.")


def with_texts(found: Iterator[Record], corpus: Corpus, options: DatasetOptions) -> Iterator[Record]:
    """The records, with the documents in place of their ids.

    Raises:
        DataError: an id that the corpus does not have, with file and line.
    """
    read: dict[str, str] = {}
    for where, record in found:
        read = read or chosen(options, record)
        names = [read["positives"], read["negatives"], *numbered(read["negatives"], record)]
        try:
            texts = {name: _texts(record[name], name, corpus) for name in names if record.get(name) is not None}
        except BadRow as reason:
            raise DataError(f"{where}: {reason}.") from None
        yield where, Cells(record, **texts) if isinstance(record, Cells) else {**record, **texts}


def _hash(key: str) -> int:
    """63 bits: a number of Arrow's int64."""
    return xxhash.xxh3_64_intdigest(key.encode(errors="surrogatepass")) >> 1


def _texts(value: Any, name: str, corpus: Corpus) -> list[str]:
    if isinstance(value, str) and value.lstrip().startswith("["):  # a cell of a csv
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRow(f"{name!r} must be an id or a JSON list of ids, got {show(value)}") from None
    return [_document(key, name, corpus) for key in (value if isinstance(value, list) else [value])]


def _document(key: Any, name: str, corpus: Corpus) -> str:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise BadRow(f"{name!r} must be an id of {corpus.file.name}, got {show(key)}")
    if (text := corpus.text(str(key))) is None:
        raise BadRow(f"{name!r}: {corpus.file} has no document {str(key)!r}. Add it, or leave corpus out for texts")
    return text


def _id_of(record: Mapping[str, Any]) -> str:
    name = "_id" if "_id" in record else "id"
    value = record.get(name)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(record, name)


def _string(record: Mapping[str, Any], name: str) -> str:
    if name not in record:
        raise BadRow(f"column {name!r} is missing; the line has {', '.join(map(repr, record)) or 'none'}")
    value = record[name]
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be a text, got {show(value)}")
    require_unicode(value, name)
    return value
