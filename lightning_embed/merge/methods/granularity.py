"""Granularity: the size of the parts of a model that have their own numbers.

Each enum holds the words of an option `granularity`, and its name is the finest of them. In all of them a layer is a
numbered layer, or a top-level module outside numbered layers.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.layer_names import layer_of
from lightning_embed.merge.methods.linear import ALL


class TensorGranularity(StrEnum):
    """The model, a layer, or a tensor (one parameter): parameters are never divided."""

    model = "model"
    layer = "layer"
    tensor = "tensor"


class RowGranularity(StrEnum):
    """The model, a layer, a tensor, or a row of a matrix. A parameter of fewer than two dimensions is one row."""

    model = "model"
    layer = "layer"
    tensor = "tensor"
    row = "row"


def groups(names: Iterable[str], granularity: str) -> dict[str, str]:
    """The group of each parameter: its own name, its layer, or ALL.

    Args:
        names: of the parameters.
        granularity: model, layer or tensor.
    """
    if granularity == TensorGranularity.model:
        return dict.fromkeys(names, ALL)
    return {name: layer_of(name) if granularity == TensorGranularity.layer else name for name in names}


def summed(found: Mapping[str, Float[Tensor, "..."]], groups: Mapping[str, str]) -> dict[str, Float[Tensor, "..."]]:
    """The sum over the parameters of each group.

    Args:
        found: parameter -> a tensor; those of a group have one shape.
        groups: parameter -> its group.
    """
    sums: dict[str, Tensor] = {}
    for name, value in found.items():
        group = groups[name]
        sums[group] = sums[group] + value if group in sums else value
    return sums


def spread(found: Mapping[str, list[float]], groups: Mapping[str, str]) -> dict[str, list[float]]:
    """The coefficients of a plan, from those of each group."""
    return dict(found) if ALL in found else {name: found[group] for name, group in groups.items()}
