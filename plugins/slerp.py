"""merge=slerp."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import SEVERAL, Law, Spherical, along
from lightning_embed.registry import register


@register("merge", "slerp")
@dataclass(frozen=True)
class Slerp(Spherical):
    """Spherical interpolation: along the arc between two vectors, and from that point on to the next vector.

        slerp(U, V, t) = (sin((1 - t) a) U + sin(t a) V) / sin(a),        a = angle(U, V)
        U_1 = V_1,     U_n = slerp(U_(n-1), V_n, w_n / (w_1 + ... + w_n))

    where V_i is the delta, or the weights, of source i. Vectors are not normalised, so the norms are interpolated too.
    At a = 0 and for zero vectors it is the straight line, (1 - t) U + t V. Every step is a combination of the V_i, and
    every angle follows from their inner products.

    Shoemake (1985), SIGGRAPH; on task vectors, with one angle for the whole model and applied N - 1 times, a baseline
    of "Self Positioning" (2024), arXiv 2410.15035, eq. 4. Where we differ: in the printed formula a larger a_i moves
    the result away from V_i; here a larger weight means more of that source. Our reading: one angle for the whole
    model (the tool that the paper names has one per tensor); step n takes the share of w_n in the sum of the weights
    so far, so that a small angle gives the weighted average. The formula has no limit at opposite vectors, and its
    coefficients have none near them: from 168 degrees on, the arc goes over smoothly into the straight line (`arc`),
    and a U_n longer than five times the longest vector is shortened to that (`along`; no two vectors reach it). So the
    result is at most five times as long as the longest V_i, whatever the sources.

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
        totals = list(accumulate(weights))[1:]
        return along(gram, [w / total if total else 0.0 for w, total in zip(weights[1:], totals, strict=True)])
