"""Readers of files, of splits on the hub and of other sources, into memory-mapped Arrow rows.

The Arrow file is kept in the cache folder under a key of everything that it depends on.
"""

from hashlib import blake2b
from pathlib import Path

from datasets import Dataset

from lightning_embed.data.corpus import Corpus, with_texts
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.records import parts_of
from lightning_embed.data.row_store import stored
from lightning_embed.data.sources import Source, of_file, of_hub
from lightning_embed.storage.code_fingerprint import fingerprint


def read_rows(path: Path, options: DatasetOptions, cache: Path) -> Dataset:
    """Rows of a file, checked against the Row contract.

    Raises:
        DataError: the first invalid row, with file, line and reason; an unreadable or empty file.
    """
    return read_source(of_file(path), options, cache)


def read_hub(name: str, split: str, options: DatasetOptions, cache: Path) -> Dataset:
    """Rows of a split of a dataset on the Hugging Face hub (or in its local cache).

    Raises:
        DataError: the split cannot be loaded, or a row breaks the Row contract.
    """
    return read_source(of_hub(name, options.subset, split, options.revision), options, cache)


def read_source(source: Source, options: DatasetOptions, cache: Path, corpus: Corpus | None = None) -> Dataset:
    """Rows of a source, checked against the Row contract.

    Args:
        source: where the records come from.
        options: options of the dataset.
        cache: folder of Arrow files.
        corpus: the documents, where the rows have their ids; None: the rows have texts.

    Raises:
        DataError: the first invalid row, with its place and the reason; a source without rows.
    """
    content = source.content if corpus is None else f"{source.content} {corpus.content}"
    parts = source.parts() if corpus is None else parts_of(with_texts(source.records(), corpus, options))
    target = cache / f"{_key(content, options)}.arrow"
    return stored(target, parts, options, source.name, source.size if corpus is None else None)


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
