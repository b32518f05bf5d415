"""Names of columns: those that each task reads, by format, and the option that reads others."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from lightning_embed.data.column_words import meant
from lightning_embed.data.options import DatasetOptions, Format
from lightning_embed.errors import ConfigError
from lightning_embed.types import Task

FIELDS = {
    Task.retrieval: ("query", "positives", "negatives", "positive_scores", "negative_scores", "prompt"),
    Task.sts: ("text1", "text2", "score", "prompt"),
    Task.classification: ("text", "label", "prompt"),
    Task.clustering: ("text", "label", "prompt"),
}
"""Our columns of each task."""

OPTIONAL = frozenset({"negatives", "positive_scores", "negative_scores", "prompt"})

_PEERS = {
    (Task.retrieval, Format.sentence_transformers): (
        "anchor",
        "positive",
        "negative",
        "positive_scores",
        "negative_scores",
        "prompt",
    ),
    (Task.retrieval, Format.flag_embedding): ("query", "pos", "neg", "pos_scores", "neg_scores", "prompt"),
    (Task.sts, Format.sentence_transformers): ("sentence1", "sentence2", "score", "prompt"),
}

_BY_ID = [
    (query, positives, negatives, positive_scores, negative_scores, "prompt")
    for query, positives, negatives, positive_scores, negative_scores in (
        ("query", "positive_ids", "negative_ids", "positive_scores", "negative_scores"),
        ("query", "pos_ids", "neg_ids", "pos_scores", "neg_scores"),
        ("query", "pos_id", "neg_id", "pos_scores", "neg_scores"),
        ("query", "positive_id", "negative_id", "positive_scores", "negative_scores"),
        ("anchor", "positive_id", "negative_id", "positive_scores", "negative_scores"),
    )
]
"""Columns of ids, which are read before those of texts where there is a corpus."""

_OTHER_VALUES = ("null", "none", "true", "false", "yes", "no", "on", "off", "nan", "inf")  # of YAML and Hydra


def chosen(options: DatasetOptions, first: Collection[str]) -> dict[str, str]:
    """Our column -> that of the file, from the options and the columns of the first row.

    Raises:
        ConfigError: `format` has no rows of the task.
    """
    ours = FIELDS[options.task]
    formats = {Format.rows: ours} | {form: names for (task, form), names in _PEERS.items() if task == options.task}
    if options.format is not Format.auto:
        if options.format not in formats:
            raise ConfigError(f"format={options.format} has no {options.task} rows: use {' or '.join(formats)}.")
        return dict(zip(ours, formats[options.format], strict=True)) | options.columns
    for names in (*(_BY_ID if options.corpus else ()), *formats.values()):
        columns = dict(zip(ours, names, strict=True)) | options.columns
        if all(columns[our] in first for our in ours if our not in OPTIONAL):
            return columns
    return dict(zip(ours, ours, strict=True)) | options.columns


def numbered(name: str, columns: Collection[str]) -> list[str]:
    """The columns <name>_1, <name>_2 ..., as sentence-transformers writes several negatives."""
    return [key for key in columns if key.startswith(f"{name}_") and key[len(name) + 1 :].isdecimal()]


def unused(columns: Mapping[str, str], present: Collection[str]) -> list[str]:
    """The columns in `present` that are not read; `columns` is our column -> that of the file."""
    more = numbered(columns["negatives"], present) if "negatives" in columns else []
    read = {*columns.values(), *more}
    return [name for name in present if name not in read]


def suggestion(options: DatasetOptions, columns: Mapping[str, str], record: Mapping[str, Any]) -> str:
    """The option `columns` that reads a record: unused columns for the missing ones; empty: none fits.

    Args:
        options: options of the dataset.
        columns: our column -> that of the file, at present.
        record: a row, in which a required column is missing.
    """
    missing = [ours for ours, theirs in columns.items() if record.get(theirs) is None]
    found: dict[str, str] = {}
    for name in unused(columns, record):
        field = meant(name, options.task)
        if field in missing:
            found.setdefault(field, stem(name) if field == "negatives" else name)
    return as_override({**options.columns, **found}) if set(found) - OPTIONAL else ""


def stem(name: str) -> str:
    """A name without its number: neg of neg_1."""
    return re.sub(r"_\d+$", "", name)


def as_override(columns: Mapping[str, str]) -> str:
    """{query: question, positives: 'the answer'}: for YAML and for the command line."""
    return "{" + ", ".join(f"{ours}: {quoted(theirs)}" for ours, theirs in columns.items()) + "}"


def quoted(name: str) -> str:
    """A name as YAML and the command line take it: in quotes unless it is a plain word."""
    if re.fullmatch(r"[A-Za-z]\w+", name, re.ASCII) and name.lower() not in _OTHER_VALUES:
        return name
    return "'" + name.replace("'", "\\'") + "'" if name.isprintable() else ascii(name)
