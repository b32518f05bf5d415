"""merge=nuslerp."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lightning_embed.merge import Law, RowGranularity, Spherical, along
from lightning_embed.registry import register


@register("merge", "nuslerp")
@dataclass(frozen=True)
class NuSlerp(Spherical):
    """Spherical interpolation of exactly two sources, one parameter or one row at a time.

        merged = (sin((1 - t) a) V_1 + sin(t a) V_2) / sin(a),     a = angle(V_1, V_2),    t = w_2 / (w_1 + w_2)

    where V_i is the delta, or the weights, of source i. It is the arc of `slerp`, Shoemake (1985), SIGGRAPH, in the
    form of MergeKit's operator of this name: weights instead of t, deltas if it has a base, and `granularity=row` for
    its nuslerp_flatten=false. Where we differ: our rows are slices of the first dimension, MergeKit's are vectors
    along the last dimension, which matters above two dimensions; and we use the straight line for zero vectors, and go
    over to it from 168 degrees on (`arc`), where MergeKit divides by a sine that is a rounding error in the end. The
    result is at most five times as long as the longer V_i.

    It takes exactly two sources, so `single` does not apply.

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
        """The coefficients of a point on one arc."""
        return along(gram, weights[1:])
