"""Matching of parameter names between models from other programs, by rules without a list of architectures."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.layer_names import layer_of

SHOWN_DIFFERENCES = 5
_OTHER_TABLES = re.compile(r"position|wpe|type_emb|token_type|segment|rel_|relative", re.IGNORECASE)
_OLD_TERMS = re.compile(r"LayerNorm\.(gamma|beta)$")


@dataclass(frozen=True)
class TensorInfo:
    """Dtype and shape of a tensor, from the header of its file."""

    dtype: torch.dtype
    shape: torch.Size


Header = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Names:
    """The names of one model's tensors in the merge.

    Args:
        kept: common name -> own name of the tensors that all models have.
        dropped: own names of the tensors that are left out.
        lent: common name -> own name of tensors that some models lack, and that the merged model has from this one.
    """

    kept: dict[str, str]
    dropped: list[str]
    lent: dict[str, str] = field(default_factory=dict)


def agree(headers: Sequence[Header], labels: Sequence[str]) -> list[Names]:
    """Find the names that all models share.

        1. The prefix of each model is stripped that makes most names agree (`bert.` of a masked language model).
           The gamma and beta of old LayerNorms are read as weight and bias, as in transformers.
        2. Integer `position_ids` are dropped: models compute them again.
        3. A top-level module that some models lack is dropped if it is a head, outside the prefix (`cls`). Otherwise
           (`pooler`) the first model that has it lends it, because a model without it would be incomplete.
        4. Numbered layers must be the same in all models. A module with layers that some models lack (T5's `decoder`)
           is dropped, or lent by the first model, only if all models share a different module with layers (`encoder`).

    Raises:
        CheckpointMismatch: a name or a shape differs from the first model after these rules.
    """
    prefixes = _prefixes(headers)
    tables = [_strip(header, prefix) for header, prefix in zip(headers, prefixes, strict=True)]
    lenders = _lenders(tables, prefixes)
    names = [_select(number, table, headers[number], lenders) for number, table in enumerate(tables)]
    for number in range(1, len(headers)):
        _refuse_differences(names, headers, labels, number)
    return names


def may_have_rows_of_tokens(name: str) -> bool:
    """Whether a tensor can have a row per token: outside of numbered layers, and no table of positions or segments."""
    layer = layer_of(name)
    return not any(part.isdigit() for part in layer.split(".")) and not _OTHER_TABLES.search(name)


def _prefixes(headers: Sequence[Header]) -> list[str]:
    """The prefixes with which most names agree; the shortest ones among equals."""

    def agreement(reference: str) -> tuple[int, int, list[str]]:
        common = _strip(headers[0], reference).keys()
        found = [max((len(common & _strip(h, p).keys()), -len(p), p) for p in prefixes_of(h)) for h in headers[1:]]
        prefixes = [reference, *(prefix for _, _, prefix in found)]
        return sum(count for count, _, _ in found), -sum(map(len, prefixes)), prefixes

    return max(map(agreement, prefixes_of(headers[0])))[2]


def prefixes_of(names: Collection[str]) -> list[str]:
    """The empty prefix, and all prefixes of more than half of the names."""
    counts = Counter(name[: dot.end()] for name in names for dot in re.finditer(r"\.", name))
    return ["", *(prefix for prefix, count in counts.items() if count > len(names) / 2)]


def _strip(header: Header, prefix: str) -> dict[str, str]:
    """Name without `prefix`, in current terms -> own name."""
    return {_OLD_TERMS.sub(_current_term, name.removeprefix(prefix)): name for name in header}


def _current_term(old: re.Match[str]) -> str:
    return "LayerNorm.weight" if old.group(1) == "gamma" else "LayerNorm.bias"


def _lenders(tables: Sequence[Mapping[str, str]], prefixes: Sequence[str]) -> dict[str, int | None]:
    """Top-level module that some models lack -> number of the model that lends it; None: the module is dropped."""
    modules = [{_module(name) for name in table} for table in tables]
    # a module with numbered layers has parameters whose layer is not the module itself
    layered = {_module(name) for table in tables for name in table if layer_of(name) != _module(name)}
    common = modules[0].intersection(*modules)
    found: dict[str, int | None] = {}
    for module in set().union(*modules) - common:
        if module not in layered:
            owners = (number for number, table in enumerate(tables) if _is_inside(module, table, prefixes[number]))
            found[module] = next(owners, None)
        elif common & layered:
            found[module] = 0 if module in modules[0] else None
    return found


def _module(name: str) -> str:
    return name.partition(".")[0]


def _is_inside(module: str, table: Mapping[str, str], prefix: str) -> bool:
    """Whether a model has this module under its prefix; heads are outside the prefix."""
    return any(_module(name) == module and own.startswith(prefix) for name, own in table.items())


def _select(number: int, table: Mapping[str, str], header: Header, lenders: Mapping[str, int | None]) -> Names:
    names = Names({}, [])
    for name, own in table.items():
        if name.endswith("position_ids") and not header[own].dtype.is_floating_point:
            names.dropped.append(own)
        elif _module(name) not in lenders:
            names.kept[name] = own
        elif lenders[_module(name)] == number:
            names.lent[name] = own
        else:
            names.dropped.append(own)
    names.dropped.sort()
    return names


def _refuse_differences(names: Sequence[Names], headers: Sequence[Header], labels: Sequence[str], number: int) -> None:
    first, other = names[0].kept, names[number].kept
    differences = [f"{name} is only in {labels[0]!r}" for name in sorted(first.keys() - other.keys())]
    differences += [f"{name} is only in {labels[number]!r}" for name in sorted(other.keys() - first.keys())]
    by_rows = not differences
    for name in sorted(first.keys() & other.keys()):
        left, right = headers[0][first[name]], headers[number][other[name]]
        if left.shape != right.shape:
            by_rows &= left.shape[1:] == right.shape[1:] and may_have_rows_of_tokens(name)
            differences.append(
                f"{name} is {list(left.shape)} in {labels[0]!r} and {list(right.shape)} in {labels[number]!r}"
            )
        elif left.dtype.is_floating_point != right.dtype.is_floating_point:
            by_rows = False
            differences.append(f"{name} is {left.dtype} in {labels[0]!r} and {right.dtype} in {labels[number]!r}")
    if differences:
        more = f"; and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        remedy = (
            " If only their vocabularies differ, vocabulary=first (or base) merges them by token." if by_rows else ""
        )
        raise CheckpointMismatch(
            f"Only models of one architecture and vocabulary can be merged; {labels[0]!r} and {labels[number]!r} "
            f"differ in {len(differences)} tensors: {'; '.join(differences[:SHOWN_DIFFERENCES])}{more}.{remedy}"
        )
