"""merge=self_positioning."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Learned, Numbers, along
from lightning_embed.registry import register

_LEAST_SUM = 0.1  # in |a_u| + |a_v|
_NONE = 1e-12  # less is no number to divide by


@register("merge", "self_positioning")
@dataclass(frozen=True)
class SelfPositioning(Learned):
    """A point among the sources, learnt on the probe: N numbers a_i for its direction, and lambda for its norm.

        slerp(U, V, a_u, a_v) = (sin(a_v / (a_u + a_v) alpha) U + sin(a_u / (a_u + a_v) alpha) V) / sin(alpha)
        V_(1..n) = slerp(V_(1..n-1), V_n, (a_1 + ... + a_(n-1)) / (n - 1), a_n),      V_(1) = V_1
        merged = base + lambda V_(1..N)
        (a, lambda) = argmin  mean over the probe of loss(merged)  +  mu lambda

    with V_i = source_i - base and alpha the angle between U and V. Vectors are not normalised; where sin(alpha) is 0,
    slerp is the straight line, to which it goes over between 168 and 180 degrees; a V_(1..n) longer than five times the
    longest V_i is shortened to that, which lambda can undo (as in `merge=slerp`). V_(1..N) is a combination of the V_i whose coefficients depend only on a and on the
    inner products of the V_i, so that they and their derivatives cost nothing (see `Learned`). Adam starts from a = 1
    and lambda = 1. Neither is bounded, as in the paper. One angle for the whole model, and no dropout, are our
    reading; and so is the sum a_u + a_v, which the formula divides by and which a search can bring to zero: here it is
    at least a tenth of |a_u| + |a_v|. The shares are then between -10 and 5.5, far beyond both ends of an arc.

    "Self Positioning" (2024), arXiv 2410.15035, eq. 9 to 11, with the paper's orientation of slerp: a larger a_i moves
    the result away from V_i (in `merge=slerp` a larger weight means more). The paper's values are the defaults of this
    class: learning rate 5e-3 and 1,000 steps, of 32 rows in the paper; mu is 0, 0.05 or 0.1. (self_positioning.yaml in
    conf/merge/ has a tenth of the steps at four times the rate; self_positioning_paper.yaml has the paper's values.)
    Where we differ: `granularity` can give each layer its own a and lambda, and the penalty is then mu times the mean
    of the lambdas; the losses are those of the tasks, and the paper's is contrastive.

    It obeys neither `copies` nor `single`, because the norm is learnt; nor `scale`, because the probe does not scale
    with the deltas; nor `permutation` for more than two sources: at a = 1 the last source has half of the arc, and the
    first two a quarter each.

    Args:
        mu: factor of the penalty, in units of the loss (balanced with `balance`); 0 to 0.1 in the paper.

    Raises:
        ConfigError: a negative mu.
    """

    learning_rate: float = 5e-3
    steps: int = 1000
    mu: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0:
            raise ConfigError(f"merge=self_positioning: mu={self.mu} would reward a large norm. Give 0 or more.")

    def start(self, num_groups: int, num_sources: int) -> dict[str, Float[Tensor, "..."]]:
        """All a and lambda are 1."""
        ones = torch.ones(num_groups, num_sources, dtype=torch.float64)
        return {"a": ones, "lambda": ones[:, 0].clone()}

    def coefficients(
        self, numbers: Numbers, grams: Float[Tensor, "groups sources sources"]
    ) -> Float[Tensor, "groups sources"]:
        """The coefficients after N - 1 arcs, times lambda."""
        a = numbers["a"]
        shares = [_share(a[:, :number].mean(1), a[:, number]) for number in range(1, a.shape[1])]
        return numbers["lambda"][:, None] * along(grams, shares)

    def penalty(self, numbers: Numbers) -> Float[Tensor, ""]:
        """The price of the norm: mu times the mean lambda."""
        return self.mu * numbers["lambda"].mean()


def _share(before: Float[Tensor, " groups"], own: Float[Tensor, " groups"]) -> Float[Tensor, " groups"]:
    """The share of the way to the next vector, before / (before + own), without the pole at before + own = 0."""
    least = (_LEAST_SUM * (before.abs() + own.abs())).clamp(min=_NONE)
    return before / torch.maximum(before + own, least)
