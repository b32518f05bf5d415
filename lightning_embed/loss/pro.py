"""`loss=pro`."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lightning_embed.loss.base import Loss, check_temperature
from lightning_embed.loss.pairs import cosines, scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task

EPSILON = 1e-8  # scores that differ by less are equal


@register("loss", "pro")
@dataclass(frozen=True)
class PRO(Loss):
    """Preference ranking: every pair against all pairs with lower scores, weighted by the difference.

        T_k = { j : y_k - y_j > 1e-8 },  w_kj = y_k - y_j,  w_k = max over T_k of w_kj
        L_k = -log  exp(w_k s_k / t) / [ exp(w_k s_k / t) + sum over T_k of exp(w_kj s_j / t) ]
        L = mean of L_k over k with T_k not empty

    s_i is the cosine of pair i, y_i its score in [0, 1], t the temperature. All rows of the global batch are compared;
    L = 0 where all scores are equal. Unlike CoSENT it depends on the scale of the scores.

    Papers: Song et al. 2023, arXiv 2306.17492 (preference ranking of answers), by way of query rewriting at Taobao,
    which the code names; for graded pairs a term of CoDiEmb (Zhang et al. 2025, arXiv 2508.11442), whose code, a loop
    over sorted pairs, this equals.

    Args:
        temperature: divides the weighted cosines; in (0, inf), typically 0.05.
        cross_device: compare the pairs of all ranks.

    Raises:
        ConfigError: temperature not positive.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    temperature: float = 0.05
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("pro", self.temperature)

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        cosine, score = cosines(batch) / self.temperature, scores(batch)
        weight = score[:, None] - score
        below = weight > EPSILON
        target = (score - score.min()) * cosine  # the lowest score is in every T_k, and furthest away
        others = (weight * cosine).masked_fill(~below, -torch.inf)
        losses = torch.logsumexp(torch.cat([target[:, None], others], 1), 1) - target
        counts = below.any(1)
        return LossOutput(losses.where(counts, 0).sum() / counts.sum().clamp(min=1), {})
