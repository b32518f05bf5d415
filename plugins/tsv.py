"""merge=tsv."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, PerMatrix, without_rounding
from lightning_embed.registry import register


@register("merge", "tsv")
@dataclass(frozen=True)
class Tsv(PerMatrix):
    """The leading singular vectors of every delta, made orthogonal to those of the others before they are added up.

        delta_i ~ U_i S_i V_i^T,     the r largest singular values of each of N sources, r = max(1, floor(rank / N))
        U = [U_1 ... U_N],  V = [V_1 ... V_N],  S = diag(S_1, ..., S_N)
        merged = base + scale * near(U) S near(V)^T,         near(A) = P Q^T of A = P D Q^T, the nearest orthogonal matrix

    for linear layers, where rank = min(rows, columns); everything else is the base plus the scaled mean of the deltas.

    Gargiulo et al. (2024), "Task singular vectors: reducing task interference in model merging", arXiv 2412.00081: their
    TSV-Merge. Where we differ: directions whose singular value is a rounding error, as in folded LoRA adapters and in
    dependent columns of U and V, are left out, because their vectors are arbitrary. Our reading: tables of embeddings are
    averaged like everything else that is not a linear layer; the authors have vision models, without a vocabulary.

    It does not obey `copies`: N copies of a delta have the same singular vectors, which cannot all be made orthogonal.

    Costs: N + 2 decompositions per linear layer, in float64: 10 s of one core for four MiniLM; time grows with rows *
    columns * min(rows, columns), memory is about 40 bytes per element and source of the layer.

    Args:
        scale: of the merged delta, usually 0.5 to 1.
        max_rows: of a linear layer, at least 1; a matrix with more is the table of a vocabulary.

    Raises:
        ConfigError: a max_rows below 1.
    """

    laws = frozenset({Law.single, Law.permutation, Law.scale})

    def merged_delta(self, deltas: Float[Tensor, "sources rows columns"]) -> Float[Tensor, "rows columns"]:
        """The leading directions of all deltas, side by side."""
        kept = max(1, min(deltas.shape[1:]) // len(deltas))
        found = [without_rounding(*torch.linalg.svd(delta, full_matrices=False)) for delta in deltas]
        left = torch.cat([u[:, :kept] for u, _, _ in found], dim=1)
        values = torch.cat([s[:kept] for _, s, _ in found])
        right = torch.cat([v[:kept] for _, _, v in found], dim=0)
        return (_nearest(left) * values) @ _nearest(right)


def _nearest(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The nearest matrix with orthonormal rows or columns, in the space that its rows and columns span."""
    left, _, right = without_rounding(*torch.linalg.svd(matrix, full_matrices=False))
    return left @ right
