"""`loss=pearson`."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss
from lightning_embed.loss.pairs import cosines, scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "pearson")
@dataclass(frozen=True)
class Pearson(Loss):
    """One minus Pearson's correlation of cosines and scores.

        L = 1 - cov(s, y) / sqrt( (var(s) + epsilon) var(y) )

    s_i is the cosine of pair i, y_i its score; moments are those of the population (divided by n), over all rows of
    the global batch. If all scores are equal, the correlation is undefined, and L = 0.

    Source: a term of CoDiEmb (Zhang et al. 2025, arXiv 2508.11442). Where we differ: its code has no epsilon and is
    undefined where all cosines are equal; here that gives 1 and a finite gradient.

    Args:
        epsilon: added to the variance of the cosines; in (0, inf), small beside it (typically 0.01 to 0.1).
        cross_device: correlate the pairs of all ranks.

    Raises:
        ConfigError: epsilon not positive.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    epsilon: float = 1e-8
    cross_device: bool = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ConfigError(f"pearson: epsilon must be positive, got {self.epsilon}. Try 1e-8.")

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        cosine, score = cosines(batch), scores(batch).to(batch.embeddings.final)
        varies = score.max() > score.min()  # exact, unlike a comparison of the computed variance with 0
        cosine, score = cosine - cosine.mean(), score - score.mean()
        variance = score.square().mean().where(varies, 1)
        correlation = (cosine * score).mean() / ((cosine.square().mean() + self.epsilon) * variance).sqrt()
        return LossOutput((1 - correlation).where(varies, 0), {})
