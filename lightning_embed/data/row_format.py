"""The Row contract: the fields of a row of each task, and the columns of a file that hold them.

retrieval                   {query, positives: [text, ...], negatives: [text, ...],
                             positive_scores: [number, ...]?, negative_scores: [number, ...]?}   a teacher's
sts                         {text1, text2, score}        score in [0, 1]
classification, clustering  {text, label}
all                         {prompt?}                    before the query, both texts of a pair, or the text, in place
                                                         of the dataset's; may be an empty text: none
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lightning_embed.data.cells import BadCell, Cells, typed
from lightning_embed.data.column_names import FIELDS, chosen, numbered, suggestion
from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task

Row = dict[str, Any]

_LARGEST = (2 - 2**-23) * 2.0**127  # of float32


class BadRow(ValueError):
    """A row that breaks the contract; the reader adds file and line."""


class _Missing(BadRow):
    """A row without a required column."""


def parser(options: DatasetOptions, first: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Row]:
    """Choose the conversion of the records of a file to rows, from its options and its first record.

    Raises:
        ConfigError: `columns` names a column that the task does not have.
    """
    wrong = set(options.columns) - set(FIELDS[options.task])
    if wrong:
        raise ConfigError(
            f"columns: {options.task} has no column {min(wrong)!r}. {nearest(min(wrong), FIELDS[options.task])}"
        )
    columns = chosen(options, first)
    convert = _conversion(options, columns)
    hint = suggestion(options, columns, first)

    def parse(record: Mapping[str, Any]) -> Row:
        try:
            return convert(typed(record, columns) if isinstance(record, Cells) else record)
        except _Missing as missing:
            if hint:
                raise BadRow(f"{missing}. To read these, give the dataset columns: {hint}") from None
            raise
        except BadCell as reason:
            raise BadRow(str(reason)) from None

    return parse


def _conversion(options: DatasetOptions, columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Row]:
    match options.task:
        case Task.retrieval:
            return lambda record: _retrieval(record, columns)
        case Task.sts:
            low, high = options.score_range
            return lambda record: _sts(record, columns, low, high)
        case _:
            return lambda record: {
                "text": _text(record, columns["text"]),
                "label": _label(record, columns["label"]),
                "prompt": _prompt(record, columns["prompt"]),
            }


def _retrieval(record: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    positives = _texts(record, columns["positives"])
    if not positives:
        raise BadRow(f"{columns['positives']!r} is empty: a query needs at least one positive")
    name = columns["negatives"]
    names = (name, *numbered(name, record))
    negatives = [text for key in names if record.get(key) is not None for text in _texts(record, key)]
    return {
        "query": _text(record, columns["query"]),
        "positives": positives,
        "negatives": negatives,
        "positive_scores": _scores(record, columns["positive_scores"], positives, columns["positives"]),
        "negative_scores": _scores(record, columns["negative_scores"], negatives, name),
        "prompt": _prompt(record, columns["prompt"]),
    }


def _scores(record: Mapping[str, Any], name: str, texts: Sequence[str], of: str) -> list[float | None] | None:
    """A teacher's score of each text, None for a text without one; None: the row has no scores."""
    value = record.get(name)
    if value is None:
        return None
    scores = value if isinstance(value, list) else [value]
    if len(scores) != len(texts):
        raise BadRow(f"{name!r} has {len(scores)} numbers for the {len(texts)} texts of {of!r}: give one each")
    return [None if score is None else _number(score, name) for score in scores]


def _sts(record: Mapping[str, Any], columns: Mapping[str, str], low: float, high: float) -> Row:
    name = columns["score"]
    score = _number(_present(record, name), name)
    if not low <= score <= high:
        raise BadRow(
            f"{name!r} is {score:g}, outside of score_range [{low:g}, {high:g}]. Give the dataset score_range: [lowest, "
            "highest] of what can be"
        )
    return {
        "text1": _text(record, columns["text1"]),
        "text2": _text(record, columns["text2"]),
        "score": (score - low) / (high - low),
        "prompt": _prompt(record, columns["prompt"]),
    }


def _prompt(record: Mapping[str, Any], name: str) -> str | None:
    """The row's own prompt, which may be empty; None: it has none."""
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be a text, the prompt of this row, got {show(value)}")
    require_unicode(value, name)
    return value


def _present(record: Mapping[str, Any], name: str) -> Any:
    if record.get(name) is None:
        raise _Missing(_what_is_missing(record, name))
    return record[name]


def _what_is_missing(record: Mapping[str, Any], name: str) -> str:
    if not isinstance(record, Cells):
        return f"column {name!r} is missing; the row has {_listed(record)}"
    if name in record:
        return f"column {name!r} is empty; the row has {_listed(each for each, cell in record.items() if cell is not None)}"
    return f"column {name!r} is missing; the header, its first line, has {_listed(record)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _text(record: Mapping[str, Any], name: str) -> str:
    return _checked(_present(record, name), name)


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    value = _present(record, name)
    return [_checked(text, name) for text in value] if isinstance(value, list) else [_checked(value, name)]


def _checked(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be a text, got {show(value)}")
    if not value.strip():
        raise BadRow(f"{name!r} is an empty text")
    require_unicode(value, name)
    return value


def require_unicode(value: str, name: str) -> None:
    r"""Refuse a text with half of a surrogate pair, which JSON can write (\ud800) and no file or tokenizer can.

    Raises:
        BadRow: with the position.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise BadRow(
            f"{name!r} has {half} at character {error.start}, half of a surrogate pair: a text cut in the middle of a "
            "character? Mend or remove it"
        ) from None


def _number(value: Any, name: str) -> float:
    # the bound refuses infinity, NaN and numbers beyond float32
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        raise BadRow(f"{name!r} must be a number, got {show(value)}")
    return float(value)


def _label(record: Mapping[str, Any], name: str) -> str:
    value = _present(record, name)
    if not isinstance(value, (str, int)):
        raise BadRow(f"{name!r} must be a text or a whole number, got {show(value)}")
    if isinstance(value, str):
        require_unicode(value, name)
    return str(value)


def show(value: Any) -> str:
    """Type and beginning of a value, for messages."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
