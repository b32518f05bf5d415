"""`loss=gist`."""

from dataclasses import dataclass, field
from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Contrastive, check_score, check_temperature
from lightning_embed.loss.blocks import equal_to_any, log_sum_exp
from lightning_embed.loss.mean import part_of_mean
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput


class MarginOf(StrEnum):
    """What the margin of a guide is: a difference of similarities, or a share of the positive's."""

    absolute = "absolute"
    relative = "relative"


@register("loss", "gist")
@dataclass(frozen=True)
class Gist(Contrastive):
    """InfoNCE whose false negatives a guide leaves out: candidates that it holds more similar than the positive.

    For query i with positive slot p and temperature t, s the similarities of the model and g those of the guide:

        L(i, p) = -log  exp(s(q_i, d+_ip) / t) / [ exp(s(q_i, d+_ip) / t) + sum_c exp(s(a_c, c) / t) ]

    c are the positives (slot p) and hard negatives of all rows of all ranks, with a_c = q_i; with `contrast_queries` the
    other queries, a_c = q_i; with `contrast_positives` the other positives, a_c = d+_ip. A candidate is left out if

        g(a_c, c) > g(q_i, d+_ip) - margin           (absolute)
        g(a_c, c) > g(q_i, d+_ip) - |g(q_i, d+_ip)| margin   (relative)

    and, as in `infonce`, if its text is that of the query or of one of its positives. The guide is the teacher of the run
    (the group `teacher`), whose embeddings are computed once before the training, with its own prompts. `masked` in the
    logs is the number of candidates left out per query. The whole similarity matrix is never in memory.

    Solatorio 2024 (GISTEmbed), arXiv 2402.16829; margins as in sentence-transformers' GISTEmbedLoss, which it equals for
    rows of one positive and distinct texts. Where we differ: equal texts are left out whatever the guide says, which
    holds them as similar as the positive, not more; several positives and ragged negatives.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.01.
        margin: in [0, 2]; 0: a candidate is left out if the guide prefers it to the positive.
        margin_of: absolute or relative.
        contrast_queries: other queries are negatives too, as in the paper.
        contrast_positives: positives are negatives of each other too, as in the paper; false may suit retrieval better.
        min_score: a pair with a score (STS) is a positive from this score on, in [0, 1].
        cross_device: take the texts of all ranks.

    Raises:
        ConfigError: temperature not positive, or a margin or score out of range.
    """

    temperature: float = 0.01
    margin: float = 0.0
    margin_of: MarginOf = MarginOf.absolute
    contrast_queries: bool = True
    contrast_positives: bool = True
    min_score: float = 1.0
    cross_device: bool = True
    in_batch: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check_temperature("gist", self.temperature)
        check_score("gist", self.min_score)
        if not 0 <= self.margin <= 2:
            raise ConfigError(f"gist: margin must be in [0, 2], got {self.margin}.")

    @property
    def needs_teacher_embeddings(self) -> bool:
        """True: its guide."""
        return True

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class. Of a batch without a guide, such as that of a merge's probe, only equal texts are left out."""
        embeddings, rows = batch.embeddings.final, batch.rows
        query, exists = batch.query[rows], self.positives(batch)
        losses, masked = [], embeddings.new_zeros(())
        for slot in range(batch.positives.shape[1]):
            positive, candidates = batch.positives[rows, slot].clamp(min=0), batch.positives[:, slot]
            target = (embeddings[query] * embeddings[positive]).sum(1) / self.temperature
            groups = [(query, candidates), (query, batch.negatives.flatten())]
            groups += [(query, batch.query)] if self.contrast_queries else []
            groups += [(positive, candidates)] if self.contrast_positives else []
            found = [self._sum(batch, positive, anchors, others) for anchors, others in groups]
            losses.append(torch.logsumexp(torch.stack([target, *(sums for sums, _ in found)]), 0) - target)
            counts = torch.stack([count for _, count in found]).sum(0)
            masked = masked + (counts * exists[rows, slot]).sum()
        return LossOutput(part_of_mean(torch.stack(losses, 1), exists, rows), {"masked": masked / len(query)})

    def _sum(
        self,
        batch: LossInput,
        positive: Int[Tensor, " local"],
        anchors: Int[Tensor, " local"],
        candidates: Int[Tensor, " candidates"],
    ) -> tuple[Float[Tensor, " local"], Int[Tensor, " local"]]:
        """Log-sum-exp of each anchor over candidates, and how many the guide or equal texts left out."""
        index, limit = candidates.clamp(min=0), self._limit(batch, positive)
        documents = torch.where(batch.positives >= 0, batch.positives, batch.query[:, None])
        own = batch.hashes[torch.cat([batch.query[:, None], documents], 1)[batch.rows]]

        def excluded(where: slice, logits: Float[Tensor, "local block"]) -> Bool[Tensor, "local block"]:
            out = equal_to_any(own, batch.hashes[index[where]]) | (candidates[where] < 0)
            if batch.teacher is None or limit is None:
                return out
            guide = batch.teacher.to(logits)
            return out | (guide[anchors] @ guide[index[where]].T > limit[:, None])

        final = batch.embeddings.final
        sums, out = log_sum_exp(final[anchors], final[index], self.temperature, excluded)
        return sums, out - (candidates < 0).sum()

    def _limit(self, batch: LossInput, positive: Int[Tensor, " local"]) -> Float[Tensor, " local"] | None:
        """The guide's similarity above which a candidate is no negative."""
        if batch.teacher is None:
            return None
        guide = batch.teacher.to(batch.embeddings.final)
        similarity = (guide[batch.query[batch.rows]] * guide[positive]).sum(1)
        return similarity - self.margin * (similarity.abs() if self.margin_of == MarginOf.relative else 1)
