"""Kinds of the models of a folder (base, source, merge, ensemble), and labels of merges by their distinct options."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from lightning_embed.merge.record.record import read_record
from lightning_embed.report.scores.summary import is_ensemble
from lightning_embed.storage.names import visible, visible_in
from lightning_embed.types import BASE


class Kind(StrEnum):
    """The kind of a measured model."""

    base = "base"
    source = "source"
    merge = "merge"
    ensemble = "ensemble"


def kind_of(model: str, records: Mapping[str, Any]) -> Kind:
    """The kind of a model, given the records of all merges by name."""
    if model == BASE:
        return Kind.base
    if is_ensemble(model):
        return Kind.ensemble
    return Kind.merge if model in records else Kind.source


def read_records(folder: Path) -> dict[str, Any]:
    """Name of a merge -> its merge.json, for all merges of a run."""
    return {
        visible(file.parent.name): visible_in(read_record(file)) for file in sorted(folder.glob("merged/*/merge.json"))
    }


def labels(records: Mapping[str, Any], beside: Iterable[Mapping[str, Any]] = ()) -> dict[str, str]:
    """For each merge its strategy, and the options in which it differs from other merges of that strategy.

    The options include those of its probe. Merges with equal options, which differ in the seed for example, keep the
    hash of their folder.

    Args:
        records: name of a merge -> its merge.json.
        beside: merges of other folders, from which the labels must differ too.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for record in [*records.values(), *beside]:
        alike.setdefault(record["strategy"], []).append(_options(record))
    found = {name: _label(record, alike[record["strategy"]]) for name, record in records.items()}
    often = Counter(found.values())
    return {
        name: label if often[label] == 1 else f"{label} ({name.rpartition('-')[2]})" for name, label in found.items()
    }


def _label(record: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    options = _options(record)
    keys = [key for key in options if len(set(_values(key, others))) > 1]
    return " ".join([record["strategy"], *(f"{key}={_short(options[key])}" for key in keys)])


def _options(record: Mapping[str, Any]) -> dict[str, Any]:
    looks_at = {f"probe.{key}": value for key, value in record.get("looks_at", {}).items()}
    return {**record["options"], **looks_at}


def _values(key: str, options: Iterable[Mapping[str, Any]]) -> list[str]:
    return [repr(found.get(key)) for found in options]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_short(each)}' for key, each in value.items())}}}"
    if isinstance(value, float) and len(str(value)) > 6:  # drawn by a search
        return f"{value:.4g}"
    return f"[{','.join(map(_short, value))}]" if isinstance(value, list) else "null" if value is None else str(value)
