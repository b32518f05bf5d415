"""The Row contract: the fields of a row of each task, and the columns of a file that hold them.

retrieval                   {query, positives: [text, ...], negatives: [text, ...],
                             positive_scores: [number, ...]?, negative_scores: [number, ...]?}   a teacher's
sts                         {text1, text2, score}        score in [0, 1]
classification, clustering  {text, label}
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_embed.data.options import DatasetOptions, Format
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task

Row = dict[str, Any]

_ROWS = {
    Task.retrieval: ("query", "positives", "negatives", "positive_scores", "negative_scores"),
    Task.sts: ("text1", "text2", "score"),
    Task.classification: ("text", "label"),
    Task.clustering: ("text", "label"),
}
_PEERS = {
    (Task.retrieval, Format.sentence_transformers): (
        "anchor",
        "positive",
        "negative",
        "positive_scores",
        "negative_scores",
    ),
    (Task.retrieval, Format.flag_embedding): ("query", "pos", "neg", "pos_scores", "neg_scores"),
    (Task.sts, Format.sentence_transformers): ("sentence1", "sentence2", "score"),
}
_OPTIONAL = {"negatives", "positive_scores", "negative_scores"}


_LARGEST = (2 - 2**-23) * 2.0**127  # of float32


class BadRow(ValueError):
    """A row that breaks the contract; the reader adds file and line."""


def parser(options: DatasetOptions, first: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Row]:
    """Choose the conversion of the records of a file to rows, from its options and its first record.

    Raises:
        ConfigError: `columns` names a column that the task does not have.
    """
    columns = {**_columns(options, first), **options.columns}
    wrong = set(options.columns) - set(_ROWS[options.task])
    if wrong:
        raise ConfigError(
            f"columns: {options.task} has no column {min(wrong)!r}. {nearest(min(wrong), _ROWS[options.task])}"
        )
    match options.task:
        case Task.retrieval:
            return lambda record: _retrieval(record, columns)
        case Task.sts:
            low, high = options.score_range
            return lambda record: _sts(record, columns, low, high)
        case _:
            return lambda record: {"text": _text(record, columns["text"]), "label": _label(record, columns["label"])}


def _columns(options: DatasetOptions, first: Mapping[str, Any]) -> dict[str, str]:
    ours = _ROWS[options.task]
    formats = {Format.rows: ours} | {form: names for (task, form), names in _PEERS.items() if task == options.task}
    if options.format is not Format.auto:
        if options.format not in formats:
            raise ConfigError(f"format={options.format} has no {options.task} rows: use {' or '.join(formats)}.")
        return dict(zip(ours, formats[options.format], strict=True))
    for names in formats.values():
        if all(name in first for our, name in zip(ours, names, strict=True) if our not in _OPTIONAL):
            return dict(zip(ours, names, strict=True))
    return dict(zip(ours, ours, strict=True))


def _retrieval(record: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    positives = _texts(record, columns["positives"])
    if not positives:
        raise BadRow(f"{columns['positives']!r} is empty: a query needs at least one positive")
    name = columns["negatives"]
    # sentence-transformers: negative_1, negative_2, ...
    numbered = [key for key in record if key.startswith(f"{name}_") and key[len(name) + 1 :].isdecimal()]
    negatives = [text for key in (name, *numbered) if record.get(key) is not None for text in _texts(record, key)]
    return {
        "query": _text(record, columns["query"]),
        "positives": positives,
        "negatives": negatives,
        "positive_scores": _scores(record, columns["positive_scores"], positives, columns["positives"]),
        "negative_scores": _scores(record, columns["negative_scores"], negatives, name),
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
        raise BadRow(f"{name!r} is {score:g}, outside of score_range [{low:g}, {high:g}]")
    return {
        "text1": _text(record, columns["text1"]),
        "text2": _text(record, columns["text2"]),
        "score": (score - low) / (high - low),
    }


def _present(record: Mapping[str, Any], name: str) -> Any:
    if record.get(name) is None:
        raise BadRow(f"column {name!r} is missing; the row has {', '.join(map(repr, record)) or 'none'}")
    return record[name]


def _text(record: Mapping[str, Any], name: str) -> str:
    return _checked(_present(record, name), name)


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    value = _present(record, name)
    return [_checked(text, name) for text in value] if isinstance(value, list) else [_checked(value, name)]


def _checked(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name!r} must be a text, got {_show(value)}")
    if not value.strip():
        raise BadRow(f"{name!r} is an empty text")
    return value


def _number(value: Any, name: str) -> float:
    # the bound refuses infinity, NaN and numbers beyond float32
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        raise BadRow(f"{name!r} must be a number, got {_show(value)}")
    return float(value)


def _label(record: Mapping[str, Any], name: str) -> str:
    value = _present(record, name)
    if not isinstance(value, (str, int)):
        raise BadRow(f"{name!r} must be a text or a whole number, got {_show(value)}")
    return str(value)


def _show(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
