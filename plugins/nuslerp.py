"""merge=nuslerp."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, RowGranularity, Spherical, arc
from lightning_embed.registry import register


@register("merge", "nuslerp")
@dataclass(frozen=True)
class NuSlerp(Spherical):
    """Spherical interpolation of exactly two sources, one parameter or one row at a time.

        merged = (sin((1 - t) a) V_1 + sin(t a) V_2) / sin(a),     a = angle(V_1, V_2),    t = w_2 / (w_1 + w_2)

    where V_i is the delta, or the weights, of source i. It is the arc of `slerp`, Shoemake (1985), SIGGRAPH, as MergeKit's
    operator of this name walks it: weights instead of t, of deltas where there is a base, and `granularity=row` as its
    nuslerp_flatten=false. Where we differ: rows are those of a matrix (theirs lie along the last dimension, which
    matters above two); between opposite vectors, near which theirs divides by rounding, and for zero vectors it is the
    straight line.

    Two sources only, so it cannot obey `single`.

    Args:
        of: delta (needs the base) or weights.
        granularity: tensor, row, layer or model.
    """

    num_sources: ClassVar[range] = range(2, 3)
    laws = frozenset({Law.copies, Law.permutation, Law.scale})

    granularity: RowGranularity = RowGranularity.tensor

    def coefficients(
        self, gram: Float[Tensor, "*rows sources sources"], weights: Sequence[float]
    ) -> Float[Tensor, "*rows sources"]:
        """One arc."""
        return torch.stack(arc(gram[..., 0, 0], gram[..., 1, 1], gram[..., 0, 1], weights[1]), dim=-1)
