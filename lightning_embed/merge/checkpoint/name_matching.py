"""Making the parameter names of foreign model directories agree: by rule, with no list of architectures."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.layer_names import layer_of

SHOWN_DIFFERENCES = 5
_OLD_WORDS = re.compile(r"LayerNorm\.(gamma|beta)$")


@dataclass(frozen=True)
class TensorInfo:
    """What the header of a file says about a tensor."""

    dtype: torch.dtype
    shape: torch.Size


Header = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Names:
    """One model's part of an agreement.

    Args:
        kept: common name -> own name of what all models have.
        dropped: own names of what is left out.
        lent: common name -> own name of what not every model has, and the merged one takes from here as it is.
    """

    kept: dict[str, str]
    dropped: list[str]
    lent: dict[str, str] = field(default_factory=dict)


def agree(headers: Sequence[Header], labels: Sequence[str]) -> list[Names]:
    """Find the names that all models share.

        1. Of each model the prefix is stripped that makes most names agree (`bert.` of a masked language model).
           The gamma and beta of old LayerNorms are read as weight and bias, as transformers does.
        2. Integer `position_ids` are dropped: they are counted up anew wherever they are needed.
        3. Top-level modules that not every model has are dropped where they are heads, which stand beside the prefix
           (`cls`). Others (`pooler`) are lent by the first model that has them: a model without them would not be whole.
        4. Numbered layers must be the same in all models. A module of them that some lack (T5's `decoder`) is dropped,
           or lent by the first model, only if all have another such module (`encoder`).

    Raises:
        CheckpointMismatch: a name or a shape still differs from the first model.
    """
    prefixes = _prefixes(headers)
    tables = [_strip(header, prefix) for header, prefix in zip(headers, prefixes, strict=True)]
    lenders = _lenders(tables, prefixes)
    names = [_select(number, table, headers[number], lenders) for number, table in enumerate(tables)]
    for number in range(1, len(headers)):
        _refuse_differences(names, headers, labels, number)
    return names


def _prefixes(headers: Sequence[Header]) -> list[str]:
    """The prefixes under which most names agree; the shortest of those that do equally well."""

    def agreement(reference: str) -> tuple[int, int, list[str]]:
        common = _strip(headers[0], reference).keys()
        found = [max((len(common & _strip(h, p).keys()), -len(p), p) for p in prefixes_of(h)) for h in headers[1:]]
        prefixes = [reference, *(prefix for _, _, prefix in found)]
        return sum(count for count, _, _ in found), -sum(map(len, prefixes)), prefixes

    return max(map(agreement, prefixes_of(headers[0])))[2]


def prefixes_of(names: Collection[str]) -> list[str]:
    """No prefix, and those that most names carry."""
    counts = Counter(name[: dot.end()] for name in names for dot in re.finditer(r"\.", name))
    return ["", *(prefix for prefix, count in counts.items() if count > len(names) / 2)]


def _strip(header: Header, prefix: str) -> dict[str, str]:
    """Map name without `prefix`, in today's words -> own name."""
    return {_OLD_WORDS.sub(_today, name.removeprefix(prefix)): name for name in header}


def _today(old: re.Match[str]) -> str:
    return "LayerNorm.weight" if old.group(1) == "gamma" else "LayerNorm.bias"


def _lenders(tables: Sequence[Mapping[str, str]], prefixes: Sequence[str]) -> dict[str, int | None]:
    """Top-level modules that not every model has -> the number of the model that lends it; None: it is dropped."""
    modules = [{_module(name) for name in table} for table in tables]
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
    """Whether a model has this module, and under its prefix: not beside it, as a head."""
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
