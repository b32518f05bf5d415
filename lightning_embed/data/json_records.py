"""Records of jsonl files and of JSON arrays.

Both have their own reader: the json loader of `datasets` accepts wrong types and missing fields, and loses line numbers.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lightning_embed.data.text_blocks import TextBlock
from lightning_embed.data.text_lines import first_bytes, text_blocks, whole_text
from lightning_embed.errors import DataError

_BLANK = re.compile(r"[ \t\r\n]*")


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file: line n, object) of each line of a jsonl file.

    Raises:
        DataError: a line that is not one JSON object in UTF-8.
    """
    return chain.from_iterable(json_parts(path))


def json_parts(path: Path) -> Iterator["JsonLines"]:
    """The same in parts of some MB, which worker processes can read."""
    return map(JsonLines, text_blocks(path))


@dataclass(frozen=True)
class JsonLines:
    """The objects of whole lines of a file."""

    block: TextBlock

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.block.content)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for where, line in self.block:
            yield where, _object_of(where, line)


def _object_of(where: str, line: str) -> dict[str, Any]:
    try:
        record = _decoder.decode(line)
    except (ValueError, RecursionError) as error:
        reason = _reason(error, lambda broken: f"at character {broken.pos}") if line.strip() else "a blank line"
        raise DataError(f"{where}: {reason}; expected one JSON object.") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected one JSON object, found {type(record).__name__}.")
    return record


def json_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each object of a .json file: one array of objects, or in truth jsonl.

    An array is read into memory as a whole.

    Raises:
        DataError: neither of them; a broken object, with its line.
    """
    head = first_bytes(path, 2**16).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _array(whole_text(path), path) if head.startswith(b"[") else json_lines(path)


def _array(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    at, line, counted, number = _after_blanks(text, text.index("[") + 1), 1, 0, 0
    if text.startswith("]", at):
        return
    while True:
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        where = f"{path}: line {line}, object {number}"
        record, at = _decoded(text, at, where)
        yield where, record
        at = _after_blanks(text, at)
        if text.startswith("]", at):
            break
        if not text.startswith(",", at):
            raise DataError(f"{where}: expected a comma or the end of the array after it, found {_found(text, at)}.")
        at = _after_blanks(text, at + 1)
    if _after_blanks(text, at + 1) < len(text):
        line += text.count("\n", counted, at)
        raise DataError(f"{path}: line {line}: expected nothing after the array, found {_found(text, at + 1)}.")


def _decoded(text: str, at: int, where: str) -> tuple[dict[str, Any], int]:
    try:
        record, end = _decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        reason = _reason(error, lambda broken: f"at line {broken.lineno}, character {broken.colno - 1}")
        raise DataError(f"{where}: {reason}; expected an array of JSON objects.") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an array of JSON objects, found {type(record).__name__} in it.")
    return record, end


def _after_blanks(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None
    return blank.end()


def _found(text: str, at: int) -> str:
    return repr(text[_after_blanks(text, at) :][:20]) if text[at:].strip() else "the end of the file"


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


def _reason(error: ValueError | RecursionError, place: Callable[[json.JSONDecodeError], str]) -> str:
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON, {error.msg} {place(error)}"
    return "a number of more than 4,300 digits" if "int_max_str_digits" in str(error) else str(error)
