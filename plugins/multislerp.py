"""merge=multislerp."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import CLEAR, Law, Of, RowGranularity, Spherical, smooth_step
from lightning_embed.registry import register


@register("merge", "multislerp")
@dataclass(frozen=True)
class MultiSlerp(Spherical):
    """Mean on the sphere in one step: the mean direction of the sources, with their mean norm.

        m = sum_i w_i V_i / |V_i|,        merged = (sum_i w_i |V_i|) m / |m|,        sum_i w_i = 1

    where V_i is source i, or its delta, one parameter at a time.

    The merge of BOOM (2026), arXiv 2602.05787: (sum_i w_i |V_i|) exp_M(sum_i w_i log_M(V_i / |V_i|)) with M = m / |m|,
    for which its README names MergeKit's operator (https://goddard.blog/posts/multislerp-wow-what-a-cool-idea).
    MergeKit uses the projection onto the tangent plane as log_M. The projections of these vectors sum to zero, which
    leaves exactly the formula above. `karcher` has the true logarithm; its first step is BOOM's formula as printed.

    Where we differ: no 1e-8 is added to the norms, so tiny parameters are merged like others; and where m vanishes, for
    zero tensors and vectors that cancel, the result is the weighted average, for any number of sources. It goes over
    to it smoothly where |m| < 0.01. The result is never longer than the longest V_i.

    The formula is second-hand, and the authors' merge config is not published: `weights`, which the formula has, is our
    reading. Fine-tunes of one base are nearly parallel, and the result is then nearly their average; with `of=delta` it
    differs. `scale` holds for `of=delta`, but not for weights, whose angles do not scale with the deltas.

    Args:
        of: weights or delta (needs the base).
        granularity: tensor, row, layer or model.
    """

    laws = frozenset({Law.copies, Law.single, Law.permutation})

    of: Of = Of.weights
    granularity: RowGranularity = RowGranularity.tensor

    def coefficients(
        self, gram: Float[Tensor, "*rows sources sources"], weights: Sequence[float]
    ) -> Float[Tensor, "*rows sources"]:
        """w_i (sum_j w_j |V_j|) / (|V_i| |m|), or w_i."""
        shares = gram.new_tensor(weights)
        norms = gram.diagonal(dim1=-2, dim2=-1).sqrt()
        mean = torch.where(norms > 0, shares / norms, 0.0)
        length = torch.einsum("...i,...ij,...j->...", mean, gram, mean).clamp(min=0).sqrt()[..., None]
        defined = smooth_step(length / CLEAR)
        directed = mean * (norms @ shares)[..., None] / torch.where(defined > 0, length, 1.0)
        return defined * directed + (1 - defined) * shares
