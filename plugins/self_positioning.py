"""merge=self_positioning."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Learned, Numbers, arc
from lightning_embed.registry import register


@register("merge", "self_positioning")
@dataclass(frozen=True)
class SelfPositioning(Learned):
    """Finds its place among the sources by the loss on the probe: a direction by N numbers a_i, a norm by one, lambda.

        slerp(U, V, a_u, a_v) = (sin(a_v / (a_u + a_v) alpha) U + sin(a_u / (a_u + a_v) alpha) V) / sin(alpha)
        V_(1..n) = slerp(V_(1..n-1), V_n, (a_1 + ... + a_(n-1)) / (n - 1), a_n),      V_(1) = V_1
        merged = base + lambda V_(1..N)
        (a, lambda) = argmin  mean over the probe of loss(merged)  +  mu lambda

    with V_i = source_i - base and alpha the angle between U and V. Vectors are not normalised; where sin(alpha) is 0,
    slerp is the straight line. V_(1..N) is a combination of the V_i whose coefficients depend on a and on the inner
    products of the V_i alone, so they and their derivatives cost nothing (see `Learned`). Adam starts from a = 1 and
    lambda = 1. Neither is bounded, as in the paper. One angle for the whole model, and no dropout, are our reading.

    "Self Positioning" (2024), arXiv 2410.15035, eq. 9 to 11, with its own orientation of slerp: a larger a_i moves the
    result away from V_i (in `merge=slerp` a larger weight means more). Its values are the defaults of this class: learning
    rate 5e-3 and 1,000 steps, there of 32 rows; mu was 0, 0.05 or 0.1. (conf/merge/self_positioning.yaml has a tenth of the
    steps, at four times the rate; self_positioning_paper.yaml has the paper's.) Where we differ: `granularity` gives each
    layer its own a and lambda, the penalty is then mu times the mean of the lambdas; the losses are those of the tasks,
    the paper's is contrastive.

    It obeys neither `copies` nor `single`, because it finds the norm; nor `scale`, because the probe does not; nor, for
    three sources and more, `permutation`: at a = 1 the last source has half of the arc, the first two a quarter each.

    Args:
        mu: price of the norm, in units of the loss (balanced, if it is); 0 to 0.1 in the paper.

    Raises:
        ConfigError: a negative mu.
    """

    learning_rate: float = 5e-3
    steps: int = 1000
    mu: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0:
            raise ConfigError(f"merge=self_positioning: mu={self.mu} would pay for length. Give 0 or more.")

    def start(self, num_groups: int, num_sources: int) -> dict[str, Float[Tensor, "..."]]:
        """In the middle, as long as the sources."""
        ones = torch.ones(num_groups, num_sources, dtype=torch.float64)
        return {"a": ones, "lambda": ones[:, 0].clone()}

    def coefficients(
        self, numbers: Numbers, grams: Float[Tensor, "groups sources sources"]
    ) -> Float[Tensor, "groups sources"]:
        """Arc after arc, and then the norm."""
        a, unit = numbers["a"], torch.eye(grams.shape[-1], dtype=grams.dtype)
        position = unit[0].expand_as(a)
        for number in range(1, a.shape[1]):
            before = a[:, :number].mean(1)
            products = torch.einsum("gi,gij->gj", position, grams)
            keep, take = arc(
                (products * position).sum(1),
                grams[:, number, number],
                products[:, number],
                before / (before + a[:, number]),
            )
            position = keep[:, None] * position + take[:, None] * unit[number]
        return numbers["lambda"][:, None] * position

    def penalty(self, numbers: Numbers) -> Float[Tensor, ""]:
        """Long vectors cost."""
        return self.mu * numbers["lambda"].mean()
