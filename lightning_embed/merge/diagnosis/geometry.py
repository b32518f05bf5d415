"""Norms, angles and sign conflicts of the deltas, measured block by block and summed in float64."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge.blocks.gram import _cosines, cosine_matrix, gram_matrix
from lightning_embed.merge.blocks.stream import BLOCK_ELEMENTS, Block
from lightning_embed.merge.diagnosis.finding import Finding
from lightning_embed.merge.layer_names import layer_of


@dataclass(frozen=True)
class Sums:
    """Sums over blocks, from which the geometry follows."""

    base_square: float
    gram: Float[Tensor, "sources sources"]  # of the deltas
    merged: Float[Tensor, " sources_and_itself"] | None  # inner products of the merged model's delta
    conflicts: int
    moved: int

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.base_square + other.base_square,
            self.gram + other.gram,
            None if self.merged is None or other.merged is None else self.merged + other.merged,
            self.conflicts + other.conflicts,
            self.moved + other.moved,
        )


@dataclass(frozen=True)
class GroupGeometry:
    """Norms, angles and sign conflicts of the deltas in a group of parameters.

    Args:
        base_norm: |base|; 0 without a base, and the deltas are then the sources themselves.
        delta_norms: |source - base|.
        delta_cosines: cosine of each pair of deltas; 0 if one of them is zero.
        sign_conflict_share: share of the changed elements that have deltas of both signs; 1 - 2^(1 - sources) for
            random signs.
        effective_directions: number of independent directions of the deltas, from 1 (all parallel) to their number
            (orthogonal): exp(-sum_k p_k ln p_k), p the eigenvalues of the matrix of cosines, divided by their sum.
            As the effective rank of Roy and Vetterli (EUSIPCO 2007), with two differences: singular values are squared,
            because shares of squared length add up; and deltas have length 1, because `delta_norms` has the lengths.
        merged_norm: |merged - base|; None without a merged model.
        merged_cosines: cosine of the merged delta with the delta of each source.
        stable_ranks: mean over the matrices A of the delta of |A|_F^2 / |A|_2^2, the approximate number of directions
            of A, for each source. Only in an examination without a merge.
    """

    base_norm: float
    delta_norms: list[float]
    delta_cosines: list[list[float]]
    sign_conflict_share: float
    effective_directions: float
    merged_norm: float | None = None
    merged_cosines: list[float] | None = None
    stable_ranks: list[float] | None = None

    @property
    def pair_cosines(self) -> list[float]:
        """The cosines of all pairs, in the order of `itertools.combinations`."""
        return [self.delta_cosines[i][j] for i, j in combinations(range(len(self.delta_norms)), 2)]


@dataclass(frozen=True)
class Geometry(GroupGeometry):
    """Geometry of the whole model and of each layer, with advice about merging the sources."""

    groups: dict[str, GroupGeometry] = field(default_factory=dict)
    expectations: list[Finding] = field(default_factory=list)


def measure(block: Block, merged: Float[Tensor, "*shape"] | None = None) -> Sums:
    """The sums of one block, and of the merged block where it is given."""
    deltas = block.deltas.unsqueeze(-1).flatten(1)  # a scalar has no dimension to flatten
    least, most = deltas.amin(0).numpy(), deltas.amax(0).numpy()  # NumPy compares in half the time
    toward = None
    if merged is not None:
        moved = (merged if block.base is None else merged - block.base).flatten()
        toward = torch.cat([_products(deltas, moved), _products(moved, moved)[None]])
    return Sums(
        0.0 if block.base is None else float(torch.linalg.vector_norm(block.base, dtype=torch.float64)) ** 2,
        gram_matrix(deltas) if block.base is None else _products(deltas, deltas.T),
        toward,
        int(np.count_nonzero((least < 0) & (most > 0))),
        int(np.count_nonzero((least < 0) | (most > 0))),
    )


def _products(left: Float[Tensor, "*rows elements"], right: Float[Tensor, "elements ..."]) -> Float[Tensor, "..."]:
    """Inner products, left @ right, in float32 within a block and in float64 over blocks.

    Six digits in a third of the time, enough for a report of wide angles between deltas. Too coarse for angles between
    sources, and for the coefficients of a merge, whose deltas may be parallel.
    """
    cuts = zip(torch.split(left, BLOCK_ELEMENTS, dim=-1), torch.split(right, BLOCK_ELEMENTS), strict=True)
    products: Tensor = torch.stack([(one @ other).double() for one, other in cuts]).sum(0)
    return products


def summarise(groups: Mapping[str, Sums], stable_ranks: Mapping[str, list[float]] | None = None) -> Geometry:
    """The geometry of the whole model and of each layer.

    Args:
        groups: sums by layer.
        stable_ranks: of each parameter that is a matrix; None: not measured.
    """
    parts = {group: _part(groups[group], _mean(stable_ranks, group)) for group in sorted(groups, key=_place)}
    whole = _part(reduce(Sums.__add__, groups.values()), _mean(stable_ranks, None))
    return Geometry(**vars(whole), groups=parts)


def _place(group: str) -> list[tuple[bool, int, str]]:
    """Sort key, with layer.9 before layer.10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in group.split(".")]


def _mean(stable_ranks: Mapping[str, list[float]] | None, group: str | None) -> list[float] | None:
    chosen = [ranks for name, ranks in (stable_ranks or {}).items() if group in (None, layer_of(name))]
    return torch.tensor(chosen).mean(0).tolist() if chosen else None


def _part(sums: Sums, stable_ranks: list[float] | None) -> GroupGeometry:
    norms, cosines = sums.gram.diagonal().sqrt(), cosine_matrix(sums.gram)
    part = GroupGeometry(
        base_norm=sums.base_square**0.5,
        delta_norms=norms.tolist(),
        delta_cosines=cosines.tolist(),
        sign_conflict_share=sums.conflicts / max(sums.moved, 1),
        effective_directions=effective_directions(cosines),
        stable_ranks=stable_ranks,
    )
    if sums.merged is None:
        return part
    length = sums.merged[-1].sqrt()
    toward = _cosines(sums.merged[:-1], norms * length)
    return replace(part, merged_norm=float(length), merged_cosines=toward.tolist())


def effective_directions(cosines: Float[Tensor, "sources sources"]) -> float:
    """The number of independent directions of unit vectors with these cosines; see `GroupGeometry`."""
    values = torch.linalg.eigvalsh(cosines).clamp(min=0)
    shares = values[values > 0] / values.sum()
    return float((-(shares * shares.log()).sum()).exp()) if len(shares) else 0.0
