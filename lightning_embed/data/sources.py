"""Sources of records: files, folders of `datasets`, splits on the hub, rows in memory; a digest of what each holds."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from lightning_embed.data.file_access import ROWS, readable
from lightning_embed.data.records import Part, Record, parts, parts_of, table_records
from lightning_embed.errors import DataError
from lightning_embed.storage import hub
from lightning_embed.storage.checksum import sha256

Reader = Callable[[], Iterator[Part]]


@dataclass(frozen=True)
class Source:
    """Where the records of a part come from.

    Args:
        name: of the file, folder or split, for messages.
        content: changes with what it holds.
        readers: the records in their order, in parts: one reader for each file.
        size: sum of the sizes of the parts; None: unknown.
    """

    name: str
    content: str
    readers: Sequence[Reader]
    size: int | None = None

    def parts(self) -> Iterator[Part]:
        """All records, in order, in parts that worker processes can read."""
        for reader in self.readers:
            yield from reader()

    def records(self) -> Iterator[Record]:
        """All records, in order."""
        return chain.from_iterable(self.parts())


def of_file(file: Path) -> Source:
    """The rows of a file.

    Raises:
        DataError: it cannot be read.
    """
    with readable(file, f"a file of rows ({ROWS})"):
        content = sha256(file)
    size = file.stat().st_size if file.suffix == ".jsonl" else None
    return Source(str(file), content, [partial(_unchanged, file, content)], size)


def joined(sources: Sequence[Source]) -> Source:
    """The rows of several sources, one after the other."""
    if len(sources) == 1:
        return sources[0]
    name = f"{sources[0].name} and {len(sources) - 1} more"
    sizes = [source.size for source in sources]
    size = None if None in sizes else sum(filter(None, sizes))
    readers = [reader for source in sources for reader in source.readers]
    return Source(name, _digest_of([source.content for source in sources]), readers, size)


def is_saved(folder: Path) -> bool:
    """Whether a folder is a `datasets.Dataset` as save_to_disk writes it."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def saved_files(folder: Path) -> list[Path]:
    """The files of a folder of save_to_disk."""
    return sorted(file for file in folder.iterdir() if file.is_file())


def of_saved(folder: Path) -> Source:
    """The rows of a folder of save_to_disk.

    Raises:
        DataError: it cannot be read.
    """
    from datasets import load_from_disk

    try:
        table = load_from_disk(str(folder))
    except Exception as error:  # of json, pyarrow, fsspec: whatever a broken folder does to them
        raise DataError(f"{folder}: a folder of save_to_disk that cannot be read ({error}). Save it again.") from error
    content = _digest_of([sha256(file) for file in saved_files(folder)])
    return Source(str(folder), content, [lambda: parts_of(table_records(str(folder), table))])


def of_hub(name: str, subset: str | None, split: str, revision: str | None) -> Source:
    """The rows of a split of a dataset on the Hugging Face hub, or in its local cache.

    Raises:
        DataError: it cannot be loaded.
    """
    from datasets import load_dataset

    commit = hub.commit(name, revision, "dataset") or revision
    which = (name,) if subset is None else (name, subset)
    try:
        table = load_dataset(*which, split=split, revision=commit)
    except Exception as error:  # datasets raises whatever its many back ends raise
        named = f" in the subset {subset!r}" if subset is not None else ""
        raise DataError(
            f"{name}: no such folder or file, and the hub has no split {split!r} of it{named} ({error})."
        ) from error
    shown = f"{':'.join(which)}[{split}]"
    return Source(shown, table._fingerprint, [lambda: parts_of(table_records(shown, table))])


def is_in_memory(place: Any) -> bool:
    """Whether an option holds rows, or a dict of rows by part, and not the path of files."""
    if isinstance(place, (list, tuple)):
        return any(not isinstance(each, (str, int)) for each in place)
    return place is not None and not isinstance(place, (str, int, Path))


def of_memory(name: str, rows: Any) -> Source:
    """Rows in memory: a list of dicts, a `datasets.Dataset`, a table of pyarrow, or a DataFrame of pandas or polars.

    Raises:
        DataError: anything else.
    """
    if hasattr(rows, "_fingerprint"):
        return Source(name, str(rows._fingerprint), [lambda: parts_of(table_records(name, rows))])
    listed = _listed(name, rows)
    digest = hashlib.sha256()
    for record in listed:
        digest.update(repr(record).encode(errors="surrogatepass") + b"\n")
    return Source(name, digest.hexdigest(), [lambda: parts_of(_numbered(name, listed))])


def _listed(name: str, rows: Any) -> Sequence[Mapping[str, Any]]:
    if hasattr(rows, "to_pylist"):  # pyarrow
        rows = rows.to_pylist()
    elif hasattr(rows, "to_dicts"):  # polars
        rows = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        rows = rows.to_dict("records")
    if not isinstance(rows, (list, tuple)):
        raise DataError(
            f"{name}: expected a list of dicts, a datasets.Dataset or a DataFrame, got {type(rows).__name__}. Convert it."
        )
    if wrong := [number for number, row in enumerate(rows) if not isinstance(row, Mapping)]:
        found = type(rows[wrong[0]]).__name__
        raise DataError(f"{name}: row {wrong[0]}: expected a dict of column and value, got {found}.")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Without the types of numpy and pandas, and None for the NaN by which pandas marks a missing value."""
    if hasattr(value, "tolist"):  # an array, or a number of numpy
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return None
    return value


def _numbered(name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    for number, record in enumerate(rows):
        yield f"{name}: row {number}", record


def _unchanged(path: Path, content: str) -> Iterator[Part]:
    """The parts of a file; an error at their end if its digest is not `content` any more."""
    yield from parts(path)
    if sha256(path) != content:
        raise DataError(f"{path} changed while it was read. Start again.")


def _digest_of(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
