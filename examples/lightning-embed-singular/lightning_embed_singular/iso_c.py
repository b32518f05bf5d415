"""merge=iso_c."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_embed.merge import Cut, Law, MergeStrategy, Plan
from lightning_embed.registry import register


@register("merge", "iso_c")
@dataclass(frozen=True)
class IsoC(MergeStrategy):
    """The sum of the deltas with all singular values made equal, so that no direction of a task is drowned by another.

        U S V^T = svd(sum_i delta_i),      merged = base + scale * mean(S) U V^T      for matrices
        merged = base + scale * mean_i delta_i                                        for everything else

    Marczak et al. (2025), "No task left behind: isotropic model merging with common and task-specific subspaces", arXiv
    2502.04959: their Iso-C. Our reading: matrices with more than `max_rows` rows, the tables of a vocabulary, are
    averaged like everything else.

    It obeys neither `copies` nor `single`: a spectrum that was not flat is flat afterwards.

    Args:
        scale: of the merged delta, usually 0.5 to 2.
        max_rows: above so many rows a matrix is a table; usually more than the widest layer.
    """

    needs_base = True
    cut = Cut.tensor
    laws = frozenset({Law.permutation, Law.scale})

    scale: float = 1.0
    max_rows: int = 8192

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        """Flatten the spectrum of a matrix."""
        assert base is not None
        deltas = tensors - base
        if base.dim() != 2 or len(base) > self.max_rows:
            return base + self.scale * deltas.mean(0)
        # in float64: the last digits of a decomposition depend on where its memory lies
        left, values, right = torch.linalg.svd(deltas.sum(0).double(), full_matrices=False)
        return base + self.scale * (values.mean() * (left @ right)).float()
