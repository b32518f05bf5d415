"""`loss=rank_kl`."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lightning_embed.loss.base import Loss, check_temperature
from lightning_embed.loss.pairs import cosines, scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "rank_kl")
@dataclass(frozen=True)
class RankKL(Loss):
    """Divergence between two distributions over the pairs: one from the ranks of the scores, one from the cosines.

        P = softmax(u / t),  u_i = (n - 1 - r_i) / (n - 1)      r_i: rank of score i, 0 the highest; equal scores share
        Q = softmax(s / t)                                       the mean of their ranks; u = 0 if n = 1
        L = KL(P || Q) / n

    s_i is the cosine of pair i, t the temperature, n the rows of the global batch. The step from one rank to the next
    is the same whatever the scores' distribution.

    Source: a term of CoDiEmb (Zhang et al. 2025, arXiv 2508.11442), whose code divides by n, so that the loss shrinks
    as the batch grows: `divide_by_rows=false` is the plain divergence.

    Args:
        temperature: of both distributions; in (0, inf), typically 0.05.
        divide_by_rows: divide by n, as CoDiEmb's code does.
        cross_device: rank the pairs of all ranks together.

    Raises:
        ConfigError: temperature not positive.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    temperature: float = 0.05
    divide_by_rows: bool = True
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("rank_kl", self.temperature)

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        cosine, score = cosines(batch), scores(batch)
        log_q = (cosine / self.temperature).log_softmax(0)
        log_p = (_relative_rank(score).to(cosine) / self.temperature).log_softmax(0)
        divergence = (log_p.exp() * (log_p - log_q)).sum()
        return LossOutput(divergence / len(score) if self.divide_by_rows else divergence, {})


def _relative_rank(score: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Share of the other rows with a lower score, equal scores counted half: (n - 1 - rank) / (n - 1)."""
    lower = (score[:, None] > score).sum(1)
    equal = (score[:, None] == score).sum(1) - 1
    return (lower + equal / 2) / max(1, len(score) - 1)
