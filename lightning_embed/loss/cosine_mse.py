"""`loss=cosine_mse`."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_embed.loss.base import Loss
from lightning_embed.loss.pairs import cosines, scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "cosine_mse")
@dataclass(frozen=True)
class CosineMSE(Loss):
    """Mean squared difference of cosine and score.

        L = mean_i ( s_i - y_i )^2

    s_i is the cosine of pair i, y_i its score in [0, 1]. A mean over rows: pairs are not compared with each other.

    Reimers & Gurevych 2019, arXiv 1908.10084; CosineSimilarityLoss in sentence-transformers.

    Args:
        cross_device: take the pairs of all ranks; the value is the same, because it is a mean over rows.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    cross_device: bool = True

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        # Ranks have equally many rows: the mean of their means is the mean of all.
        return LossOutput((cosines(batch) - scores(batch))[batch.rows].square().mean(), {})
