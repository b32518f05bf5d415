"""`loss=mid_nce`."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lightning_embed.loss.base import Loss, check_score, check_temperature
from lightning_embed.loss.pairs import scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "mid_nce")
@dataclass(frozen=True)
class MidNCE(Loss):
    """InfoNCE at the middle layer, for pairs that mean the same.

        L = mean over i with y_i >= min_score of  -log  exp(m(a_i, b_i) / t) / sum_j exp(m(a_i, b_j) / t)

    m is the dot product of L2-normalised embeddings from the middle layer, (a_i, b_i) pair i, y_i its score, t the
    temperature; j runs over all pairs of the global batch, whatever their score. L = 0 if no pair qualifies. An
    auxiliary loss: alone it does not train the layers above the middle.

    Source: a term of CoDiEmb (Zhang et al. 2025, arXiv 2508.11442), which keeps passages equal to the anchor or to its
    own passage among the negatives: `mask_equal=true` leaves them out.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02.
        min_score: pairs from this score on are anchors; in [0, 1], typically 1 (only the highest score).
        mask_equal: passages equal to the anchor or to its own passage are no negatives.
        cross_device: take the passages of all ranks.

    Raises:
        ConfigError: temperature not positive, or min_score out of range.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    temperature: float = 0.02
    min_score: float = 1.0
    mask_equal: bool = False
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("mid_nce", self.temperature)
        check_score("mid_nce", self.min_score)

    @property
    def needs_middle(self) -> bool:
        """True."""
        return True

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        assert batch.embeddings.middle is not None, "needs_middle"
        anchor, passage = batch.query, batch.positives[:, 0]
        logits = batch.embeddings.middle[anchor] @ batch.embeddings.middle[passage].T / self.temperature
        target = logits.diagonal()
        if self.mask_equal:
            text = batch.hashes[passage]
            equal = (batch.hashes[anchor][:, None] == text) | (text[:, None] == text)
            logits = logits.masked_fill(equal & ~torch.eye(len(text), dtype=torch.bool, device=text.device), -torch.inf)
        counts = scores(batch) >= self.min_score
        losses = (torch.logsumexp(logits, 1) - target).where(counts, 0)
        return LossOutput(losses.sum() / counts.sum().clamp(min=1), {})
