"""merge=slerp."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import SEVERAL, Law, Spherical, arc
from lightning_embed.registry import register


@register("merge", "slerp")
@dataclass(frozen=True)
class Slerp(Spherical):
    """Spherical interpolation: along the arc between two vectors, and from that point on to the next vector.

        slerp(U, V, t) = (sin((1 - t) a) U + sin(t a) V) / sin(a),        a = angle(U, V)
        U_1 = V_1,     U_n = slerp(U_(n-1), V_n, w_n / (w_1 + ... + w_n))

    where V_i is the delta, or the weights, of source i. Vectors are not normalised, so the norms are interpolated too.
    At a = 0, for opposite vectors and for zero vectors it is the straight line, (1 - t) U + t V. Every step is a
    combination of the V_i, and every angle follows from their inner products.

    Shoemake (1985), SIGGRAPH; on task vectors, with one angle for the whole model and applied N - 1 times, a baseline
    of "Self Positioning" (2024), arXiv 2410.15035, eq. 4. Where we differ: in the printed formula a larger a_i moves
    the result away from V_i; here a larger weight means more of that source. Our reading: one angle for the whole
    model (the tool that the paper names has one per tensor); step n takes the share of w_n in the sum of the weights
    so far, so that a small angle gives the weighted average.

    `delta` is the default, as in the paper. The weights of fine-tunes of one base are nearly parallel, so that their
    slerp is their average. It does not obey `permutation`: for more than two sources the steps depend on the order.

    Args:
        of: delta (needs the base) or weights.
        granularity: model, layer, tensor (as most tools do) or row.
    """

    num_sources = SEVERAL
    laws = frozenset({Law.copies, Law.scale})

    def coefficients(
        self, gram: Float[Tensor, "*rows sources sources"], weights: Sequence[float]
    ) -> Float[Tensor, "*rows sources"]:
        """The coefficients after N - 1 arcs."""
        found = torch.zeros_like(gram[..., 0])
        found[..., 0] = 1
        total = weights[0]
        for number, weight in enumerate(weights[1:], start=1):
            total += weight
            products = (gram @ found[..., None]).squeeze(-1)
            squares = (products * found).sum(-1), gram[..., number, number]
            keep, take = arc(*squares, products[..., number], weight / total if total else 0.0)
            found = found * keep[..., None]
            found[..., number] = take
        return found
