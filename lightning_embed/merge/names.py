"""Making the parameter names of foreign model directories agree: by rule, with no list of architectures."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lightning_embed.errors import CheckpointMismatch

SHOWN_DIFFERENCES = 5
_LAYER_NUMBER = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class TensorInfo:
    """What the header of a file says about a tensor."""

    dtype: torch.dtype
    shape: torch.Size


Header = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Names:
    """One model's part of an agreement: `kept` maps the common name to its own, `dropped` are own names left out."""

    kept: dict[str, str]
    dropped: list[str]


def agree(headers: Sequence[Header], labels: Sequence[str]) -> list[Names]:
    """Find the names that all models share.

        1. Of each model the prefix is stripped that makes most names agree (`bert.` of a masked language model).
        2. Integer `position_ids` are dropped: they are counted up anew wherever they are needed.
        3. Heads are dropped: top-level modules without numbered layers that not every model has (`cls`, `pooler`).

    Raises:
        CheckpointMismatch: a name or a shape still differs from the first model.
    """
    tables = [_strip(header, prefix) for header, prefix in zip(headers, _prefixes(headers), strict=True)]
    heads = _heads(tables)
    names = [_select(table, header, heads) for table, header in zip(tables, headers, strict=True)]
    for number in range(1, len(headers)):
        _refuse_differences(names, headers, labels, number)
    return names


def _prefixes(headers: Sequence[Header]) -> list[str]:
    """The prefixes under which most names agree; the shortest of those that do equally well."""

    def agreement(reference: str) -> tuple[int, int, list[str]]:
        common = _strip(headers[0], reference).keys()
        found = [max((len(common & _strip(h, p).keys()), -len(p), p) for p in _candidates(h)) for h in headers[1:]]
        prefixes = [reference, *(prefix for _, _, prefix in found)]
        return sum(count for count, _, _ in found), -sum(map(len, prefixes)), prefixes

    return max(map(agreement, _candidates(headers[0])))[2]


def _candidates(header: Header) -> list[str]:
    """No prefix, and those that most names carry."""
    counts = Counter(name[: dot.end()] for name in header for dot in re.finditer(r"\.", name))
    return ["", *(prefix for prefix, count in counts.items() if count > len(header) / 2)]


def _strip(header: Header, prefix: str) -> dict[str, str]:
    """Map name without `prefix` -> own name."""
    return {name.removeprefix(prefix): name for name in header}


def _heads(tables: Sequence[Mapping[str, str]]) -> set[str]:
    modules: list[set[str]] = [{name.partition(".")[0] for name in table} for table in tables]
    layered = {name.partition(".")[0] for table in tables for name in table if _LAYER_NUMBER.search(name)}
    return set().union(*modules) - modules[0].intersection(*modules) - layered


def _select(table: Mapping[str, str], header: Header, heads: set[str]) -> Names:
    def is_dropped(name: str) -> bool:
        counted = name.endswith("position_ids") and not header[table[name]].dtype.is_floating_point
        return counted or name.partition(".")[0] in heads

    dropped = sorted(own for name, own in table.items() if is_dropped(name))
    return Names({name: own for name, own in table.items() if not is_dropped(name)}, dropped)


def _refuse_differences(names: Sequence[Names], headers: Sequence[Header], labels: Sequence[str], number: int) -> None:
    first, other = names[0].kept, names[number].kept
    differences = [f"{name} is only in {labels[0]!r}" for name in sorted(first.keys() - other.keys())]
    differences += [f"{name} is only in {labels[number]!r}" for name in sorted(other.keys() - first.keys())]
    for name in sorted(first.keys() & other.keys()):
        left, right = headers[0][first[name]], headers[number][other[name]]
        if left.shape != right.shape:
            differences.append(
                f"{name} is {list(left.shape)} in {labels[0]!r} and {list(right.shape)} in {labels[number]!r}"
            )
        elif left.dtype.is_floating_point != right.dtype.is_floating_point:
            differences.append(f"{name} is {left.dtype} in {labels[0]!r} and {right.dtype} in {labels[number]!r}")
    if differences:
        more = f"; and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        raise CheckpointMismatch(
            f"Only models of one architecture and vocabulary can be merged; {labels[0]!r} and {labels[number]!r} differ in "
            f"{len(differences)} tensors: {'; '.join(differences[:SHOWN_DIFFERENCES])}{more}."
        )
