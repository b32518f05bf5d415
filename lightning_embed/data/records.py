"""Records of jsonl and parquet files, and lines of text files.

jsonl has its own reader: the json loader of `datasets` accepts wrong types and missing fields, and loses line numbers.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from lightning_embed.data.file_access import SUFFIXES, readable, require_content
from lightning_embed.errors import DataError

MAX_LINE = 2**26  # bytes; a longer line is a file without line breaks

Record = tuple[str, Mapping[str, Any]]
"""(file: line n, object)"""


def records(path: Path) -> Iterator[Record]:
    """(where, record) of each row of a .jsonl, .jsonl.gz or .parquet file; lazy: nothing is read before the first.

    Raises:
        DataError: a file that is not what its name says; a damaged part; a line that is not one JSON object in UTF-8.
    """
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: expected {', '.join(SUFFIXES)}.")
    return _parquet(path) if path.name.endswith(".parquet") else json_lines(path)


def json_lines(path: Path) -> Iterator[Record]:
    """(file: line n, object) of each line of a .jsonl or .jsonl.gz file.

    Raises:
        DataError: a line that is not one JSON object in UTF-8.
    """
    for where, line in text_lines(path):
        try:
            record = _decoder.decode(line)
        except json.JSONDecodeError as error:
            reason = f"broken JSON, {error.msg} at character {error.pos}" if line.strip() else "a blank line"
            raise DataError(f"{where}: {reason}; expected one JSON object.") from None
        except RecursionError:
            raise DataError(f"{where}: JSON nested too deeply; expected one JSON object.") from None
        except ValueError as error:
            raise DataError(f"{where}: {_reason(error)}; expected one JSON object.") from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected one JSON object, found {type(record).__name__}.")
        yield where, record


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(file: line n, text) of each line of a UTF-8 file, unpacked by .gz, without the byte order mark.

    Raises:
        DataError: a file that is not what its name says; a line that is too long or not UTF-8.
    """
    with readable(path):
        require_content(path)
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(_whole(file, path), 1):
                where = f"{path}: line {number}"
                if len(line) > MAX_LINE:
                    raise DataError(
                        f"{where}: longer than {MAX_LINE / 2**20:.0f} MiB; expected one JSON object per line."
                    )
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{where}: byte {error.start} is not UTF-8.") from None
                yield where, text


def _whole(file: BufferedIOBase, path: Path) -> Iterator[bytes]:
    try:
        while line := file.readline(MAX_LINE + 1):
            yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}): cut short in copying?") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that stands twice would lose its first value."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return made


class _Decoder(json.JSONDecoder):
    def decode(self, s: str, *args: Any) -> Any:
        if s.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", s, 0)
        return super().decode(s, *args)


_decoder = _Decoder(object_pairs_hook=_object)


def _reason(error: ValueError) -> str:
    return "a number of more than 4,300 digits" if "int_max_str_digits" in str(error) else str(error)


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with readable(path):
        require_content(path)
        number = 0
        try:
            with ParquetFile(path, page_checksum_verification=True) as file:
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
