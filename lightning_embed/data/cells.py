"""Cells of text files without types: numbers and lists are read where a column asks for them."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LIST = re.compile(r"\s*\[\s*(['\"].*)?\]\s*", re.DOTALL)
_NUMBERS = frozenset({"score", "positive_scores", "negative_scores"})
_LISTS = frozenset({"positives", "negatives"})


class BadCell(ValueError):
    """A cell that cannot be what it looks like."""


class Cells(dict[str, Any]):
    """A record whose values are texts, or None where a cell is empty."""


def typed(record: Cells, columns: Mapping[str, str]) -> Cells:
    """The record, with the numbers and lists that its task reads.

    Args:
        record: the cells by column of the file.
        columns: our column -> that of the file.

    Raises:
        BadCell: it looks like a list and cannot be read as one.
    """
    made = Cells(record)
    for ours, theirs in columns.items():
        value = record.get(theirs)
        if not isinstance(value, str):
            continue
        if ours in _NUMBERS:
            made[theirs] = _number(value)
        elif ours in _LISTS:
            made[theirs] = _texts(value, theirs)
    return made


def _number(cell: str) -> Any:
    """A number, or a list of numbers; other cells as they are, for the message that refuses them."""
    if _NUMBER.fullmatch(cell):
        return float(cell)
    found = _json_list(cell, (int, float, type(None)))
    return cell if found is None else found


def _texts(cell: str, name: str) -> Any:
    """A list of texts in JSON or as Python prints it; a cell that is none is a text."""
    if not _LIST.fullmatch(cell):
        return cell
    if (found := _json_list(cell, (str,))) is not None:
        return found
    try:
        found = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if isinstance(found, list) and all(isinstance(text, str) for text in found) and repr(found) == cell.strip():
        return found  # else ['a' 'b'], as numpy prints lists, would be one text
    raise BadCell(f'{name!r} looks like a list of texts and is not JSON: {cell[:60]!r}. Write ["one", "two"]')


def _json_list(cell: str, kinds: tuple[type, ...]) -> list[Any] | None:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(found, list) and all(isinstance(each, kinds) and not isinstance(each, bool) for each in found)
    return found if is_list else None
