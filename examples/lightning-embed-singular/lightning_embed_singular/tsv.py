"""merge=tsv."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_embed.merge import Cut, Law, MergeStrategy, Plan
from lightning_embed.registry import register


@register("merge", "tsv")
@dataclass(frozen=True)
class TSV(MergeStrategy):
    """The leading singular vectors of every delta, made orthogonal to those of the others before they are added up.

        delta_i ~ U_i S_i V_i^T,     the r = ceil(rank / N) largest singular values of each of N sources
        U = [U_1 ... U_N],  V = [V_1 ... V_N],  S = diag(S_1, ..., S_N)
        merged = base + scale * near(U) S near(V)^T          near(A) = P Q^T of A = P D Q^T, the nearest orthogonal matrix

    for matrices; everything else is the base plus the scaled mean of the deltas. Gargiulo et al. (2024), "Task singular
    vectors: reducing task interference in model merging", arXiv 2412.00081: their TSV-Merge. Our reading: matrices with
    more than `max_rows` rows, the tables of a vocabulary, are averaged like everything else.

    It does not obey `copies`: N copies of a delta have the same singular vectors, which cannot all be made orthogonal.

    Args:
        scale: of the merged delta, usually 0.5 to 1.
        max_rows: above so many rows a matrix is a table; usually more than the widest layer.
    """

    needs_base = True
    cut = Cut.tensor
    laws = frozenset({Law.single, Law.permutation, Law.scale})

    scale: float = 1.0
    max_rows: int = 8192

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        """Put the leading directions of all deltas side by side."""
        assert base is not None
        deltas = tensors - base
        if base.dim() != 2 or len(base) > self.max_rows:
            return base + self.scale * deltas.mean(0)
        # in float64: the last digits of a decomposition depend on where its memory lies
        left, values, right = torch.linalg.svd(deltas.double(), full_matrices=False)
        rank = -(-values.shape[1] // len(deltas))
        left = torch.cat(list(left[:, :, :rank]), dim=1)
        right = torch.cat(list(right[:, :rank]), dim=0)
        merged = (_nearest(left) * values[:, :rank].flatten()) @ _nearest(right)
        return base + self.scale * merged.float()


def _nearest(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right
