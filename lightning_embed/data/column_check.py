"""Refusal of columns that are not read and look as if they were meant to be, and notes about the other ones."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from lightning_embed.data.column_names import as_override, numbered, quoted, stem, unused
from lightning_embed.data.column_notes import Columns
from lightning_embed.data.column_words import resembled
from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import ConfigError

_PROMPTS = ("prompt", "prompts", "instruction", "instructions")


def check(name: str, options: DatasetOptions, parts: Mapping[str, Columns]) -> list[str]:
    """Check the columns of a dataset.

    Args:
        name: name of the dataset.
        options: its options.
        parts: columns of the files of its train, dev and test rows.

    Returns:
        Lines about columns that are not read.

    Raises:
        ConfigError: a column that is not read and resembles one that is; an option that names a column of no file.
    """
    if not parts:
        return []
    if wrong := [*_absent(name, options, parts), *_resembling(name, options, parts)]:
        raise ConfigError("\n".join(wrong))
    left = sorted({each for columns in parts.values() for each in _unused(options, columns)})
    has_prompts = any(columns.found.get(columns.read["prompt"]) is not None for columns in parts.values())
    return list(_notes(name, left, has_prompts))


def _unused(options: DatasetOptions, columns: Columns) -> list[str]:
    """Columns with values that are not read and not ignored on purpose."""
    present = [each for each, row in columns.found.items() if row is not None]
    return [each for each in unused(columns.read, present) if each not in options.ignore_columns]


def _absent(name: str, options: DatasetOptions, parts: Mapping[str, Columns]) -> Iterator[str]:
    """Columns in the options that no row of the dataset has."""
    present = {each for columns in parts.values() for each in columns.found}
    full = {each for columns in parts.values() for each, row in columns.found.items() if row is not None}
    for ours, theirs in options.columns.items():
        if theirs not in full and not (ours == "negatives" and numbered(theirs, full)):
            what = "a value in the column" if theirs in present else "the column"
            yield f"{name}: columns: no row has {what} {theirs!r} ({ours}). {_nearest(theirs, full)}"
    for each in options.ignore_columns:
        if each not in present:
            yield f"{name}: ignore_columns: no row has the column {each!r}. {_nearest(each, present)}"


def _nearest(word: str, known: set[str]) -> str:
    close = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}The rows have {', '.join(map(repr, sorted(known))) or 'none'}."


def _resembling(name: str, options: DatasetOptions, parts: Mapping[str, Columns]) -> Iterator[str]:
    """A line for each part with columns that resemble ours and are not read."""
    lines: dict[tuple[str, ...], str] = {}
    for part, columns in parts.items():
        near = {each: field for each in _unused(options, columns) if (field := resembled(each, options.task))}
        if not near:
            continue
        option = f"data.datasets.{name}"
        read: dict[str, str] = {}
        for each, field in near.items():
            read.setdefault(field, stem(each) if field == "negatives" else each)
        first = min(row for each in near if (row := columns.found[each]) is not None)
        listed = ", ".join(
            repr(each) if each == field else f"{each!r} (like {field!r})" for each, field in near.items()
        )
        ignored = ", ".join(map(quoted, near))
        taken = [repr(theirs) for field in read if columns.found.get(theirs := columns.read[field]) is not None]
        instead = f" in place of {' and '.join(taken)}" if taken else ""
        lines.setdefault(
            tuple(near),
            f"{name}: the {part} rows, from row {first} on, have columns that are not read and resemble ours: {listed}. "
            f'To read them{instead}: "+{option}.columns={as_override(read)}"; to leave them out: '
            f'"{option}.ignore_columns=[{ignored}]".',
        )
    yield from lines.values()


def _notes(name: str, left: list[str], has_prompts: bool) -> Iterator[str]:
    if left:
        listed = ", ".join(map(repr, left[:20])) + (f" and {len(left) - 20} more" if len(left) > 20 else "")
        yield f"{name}: columns that are not read: {listed}."
    if not has_prompts and (prompts := [each for each in left if each.lower() in _PROMPTS]):
        yield (
            f"{name}: a prompt of each row ({prompts[0]!r}) is not used. To put it before the row's text in place of "
            f'query_prompt: "+data.datasets.{name}.columns={{prompt: {quoted(prompts[0])}}}".'
        )
