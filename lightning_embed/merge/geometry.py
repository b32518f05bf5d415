"""Lengths, angles and sign conflicts of the sources, measured block by block and summed in float64."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.contract import Model
from lightning_embed.merge.stream import Block, for_each_parameter, read_blocks

_LAYER = re.compile(r"(?:^|.*?\.)\d+(?=\.)")


@dataclass(frozen=True)
class Sums:
    """What can be added up over blocks: everything else about the geometry follows from it."""

    source_squares: Float[Tensor, " sources"]
    gram: Float[Tensor, "sources sources"]  # of the deltas
    conflicts: int
    elements: int

    @classmethod
    def zero(cls, num_sources: int) -> "Sums":
        """Nothing measured yet."""
        zeros = torch.zeros(num_sources, num_sources, dtype=torch.float64)
        return cls(zeros[0], zeros, 0, 0)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.source_squares + other.source_squares,
            self.gram + other.gram,
            self.conflicts + other.conflicts,
            self.elements + other.elements,
        )


@dataclass(frozen=True)
class Geometry:
    """Where the sources lie, seen from the base.

    Args:
        source_norms: |source|.
        delta_norms: |source - base|.
        delta_cosines: cosine between each two deltas; 0 where one of them is zero.
        sign_conflict_share: share of all elements at which one delta is positive and another negative.
    """

    source_norms: list[float]
    delta_norms: list[float]
    delta_cosines: list[list[float]]
    sign_conflict_share: float


def group_of(name: str) -> str:
    """The layer that a parameter belongs to (`encoder.layer.3`), or, outside numbered layers, its module (`embeddings`)."""
    layer = _LAYER.match(name)
    return layer.group() if layer else name.partition(".")[0]


def measure(block: Block) -> Sums:
    """The sums of one block."""
    tensors, deltas = (
        t.reshape(len(t), -1) for t in (block.tensors, block.deltas)
    )  # a scalar has no dimension to flatten
    conflicts = (deltas.amin(0) < 0) & (deltas.amax(0) > 0)
    return Sums(
        torch.linalg.vector_norm(tensors, dim=1, dtype=torch.float64) ** 2,
        gram_matrix(deltas),
        int(torch.count_nonzero(conflicts)),
        deltas.shape[1],
    )


def summarise(groups: Mapping[str, Sums]) -> Geometry:
    """The geometry of all that was measured."""
    total = reduce(Sums.__add__, groups.values())
    norms = total.gram.diagonal().sqrt()
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    return Geometry(
        total.source_squares.sqrt().tolist(),
        norms.tolist(),
        (scale[:, None] * total.gram * scale).clamp(-1, 1).tolist(),
        total.conflicts / max(total.elements, 1),
    )


def gram_matrix(vectors: Float[Tensor, "*rows sources elements"]) -> Float[Tensor, "*rows sources sources"]:
    """Inner products of all pairs, in float64: the angle between fine-tunes of one base is lost in float32."""
    exact = vectors.double()
    return exact @ exact.mT


def gram_matrices(sources: Sequence[Model], base: Model | None) -> dict[str, Float[Tensor, "sources sources"]]:
    """For every parameter, the inner products of the deltas; without a base, of the sources."""
    zero = torch.zeros(len(sources), len(sources), dtype=torch.float64)

    def gram(name: str) -> Float[Tensor, "sources sources"]:
        return sum((gram_matrix(block.deltas.flatten(1)) for block in read_blocks(name, sources, base)), zero)

    return for_each_parameter(sources[0].parameters, gram)
