"""Which parameters share their numbers: all of a model, those of a layer, or none."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.gram import group_of
from lightning_embed.merge.methods.linear import ALL


class Grouping(StrEnum):
    """model: one group. layer: one per numbered layer, and one per module outside them. tensor: one per parameter."""

    model = "model"
    layer = "layer"
    tensor = "tensor"


def groups(names: Iterable[str], granularity: str) -> dict[str, str]:
    """The group of each parameter; ALL is the group of all."""
    if granularity == Grouping.model:
        return dict.fromkeys(names, ALL)
    return {name: group_of(name) if granularity == Grouping.layer else name for name in names}


def summed(found: Mapping[str, Float[Tensor, "..."]], groups: Mapping[str, str]) -> dict[str, Float[Tensor, "..."]]:
    """Group -> the sum of what was found for its parameters."""
    sums: dict[str, Tensor] = {}
    for name, value in found.items():
        group = groups[name]
        sums[group] = sums[group] + value if group in sums else value
    return sums


def spread(found: Mapping[str, list[float]], groups: Mapping[str, str]) -> dict[str, list[float]]:
    """The coefficients of a plan, from those of each group."""
    return dict(found) if ALL in found else {name: found[group] for name, group in groups.items()}
