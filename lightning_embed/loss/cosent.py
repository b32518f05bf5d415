"""`loss=cosent`."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_embed.loss.base import Loss, check_temperature
from lightning_embed.loss.order import order_loss
from lightning_embed.loss.pairs import graded
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "cosent")
@dataclass(frozen=True)
class CoSENT(Loss):
    """CoSENT: for every two pairs, the one with the higher score should have the higher cosine.

        L = log( 1 + sum over pairs i, j with y_i < y_j of exp( (s_i - s_j) / t ) )

    s_i is the cosine of pair i, y_i its score, t the temperature. Only the order of the scores
    counts, as in Spearman's correlation. All rows of the global batch are compared with each other. Of queries and
    documents, and of labelled texts, a row's positives are pairs of score 1 and its own negatives pairs of score 0: our
    reading of CoDiEmb's baseline that has CoSENT everywhere.

    Source: Su 2022, "CoSENT: a more efficient sentence vector scheme than Sentence-BERT" (blog, no paper); used as a
    baseline by CoDiEmb (Zhang et al. 2025, arXiv 2508.11442) with t = 0.05.

    Args:
        temperature: divides the differences of cosines; in (0, inf), typically 0.05.
        cross_device: compare the pairs of all ranks.

    Raises:
        ConfigError: temperature not positive.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    temperature: float = 0.05
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("cosent", self.temperature)

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        cosine, score = graded(batch)
        return LossOutput(order_loss(cosine / self.temperature, score), {})

    def needs_negatives(self, task: Task) -> bool:
        """True for all tasks except STS: positives alone all have the same score."""
        return task is not Task.sts
