"""merge=iso_c."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, PerMatrix, without_rounding
from lightning_embed.registry import register


@register("merge", "iso_c")
@dataclass(frozen=True)
class IsoC(PerMatrix):
    """The sum of the deltas with all singular values made equal, so that no direction of a task is drowned by another.

        U S V^T = svd(sum_i delta_i),      merged = base + scale * mean(S) U V^T      for linear layers
        merged = base + scale * mean_i delta_i                                        for everything else

    Marczak et al. (2025), "No task left behind: isotropic model merging with common and task-specific subspaces", arXiv
    2502.04959: their Iso-C. Where we differ: directions whose singular value is a rounding error, as in folded LoRA
    adapters, stay zero and do not count in the mean; their vectors are arbitrary, and the authors' code gives them the
    same length as all others. Our reading: tables of embeddings are averaged like everything else that is not a linear
    layer; the authors have vision models, without a vocabulary.

    It obeys neither `copies` nor `single`: a spectrum that was not flat is flat afterwards.

    Costs: one decomposition per linear layer, in float64: 2 s of one core for MiniLM; time grows with rows * columns *
    min(rows, columns), memory is about 16 bytes per element and source of the layer.

    Args:
        scale: of the merged delta, usually 0.5 to 2.
        max_rows: of a linear layer, at least 1; a matrix with more is the table of a vocabulary.

    Raises:
        ConfigError: a max_rows below 1.
    """

    laws = frozenset({Law.permutation, Law.scale})

    def merged_delta(self, deltas: Float[Tensor, "sources rows columns"]) -> Float[Tensor, "rows columns"]:
        """The sum with a flat spectrum."""
        left, values, right = without_rounding(*torch.linalg.svd(deltas.sum(0), full_matrices=False))
        return values.mean() * (left @ right) if len(values) else deltas[0]
