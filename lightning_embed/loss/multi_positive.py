"""`loss=multi_positive`."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_embed.loss.base import Contrastive, check_score, check_temperature
from lightning_embed.loss.blocks import MAX_LOGITS, first_equal
from lightning_embed.loss.mean import part_of_mean
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput

NO_HASH = torch.iinfo(torch.int64).min  # hash of an empty slot


@register("loss", "multi_positive")
@dataclass(frozen=True)
class MultiPositive(Contrastive):
    """InfoNCE with one sum over all positives of a query: its own, and those of related rows.

        L(i) = -log  sum over d in P_i of exp(s(q_i, d) / t)  /  sum over d in P_i and N_i of exp(s(q_i, d) / t)

    s is the dot product of L2-normalised embeddings, t the temperature. Equal documents of the global batch
    count as one document. P_i holds the positives of row i and, with `mined`, those of every row that has the same
    query or shares a positive with row i. N_i holds all other documents, hard negatives included, except one equal to
    the query. A document that is both a positive and a negative is a positive. The loss is the mean over the rows of
    the global batch that have a positive; `positives` in the logs is their mean number per row.

    In `infonce` every positive must be more similar than the negatives; here it suffices that one of them is.

    Source: the multi-positive InfoNCE and the mining of CoDiEmb (Zhang et al. 2025, arXiv 2508.11442; the code has
    dropped it since). The definition of positives across rows is our reading.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02 to 0.05.
        mined: also take the positives of related rows.
        min_score: a pair with a score is a positive from this score on; in [0, 1], typically 1 (only the highest).
        in_batch: also take the documents of other rows as negatives. False: only the row's own hard negatives.
        cross_device: take the documents of all ranks.

    Raises:
        ConfigError: temperature not positive, or min_score out of range.
    """

    temperature: float = 0.05
    mined: bool = True
    min_score: float = 1.0
    in_batch: bool = True
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("multi_positive", self.temperature)
        check_score("multi_positive", self.min_score)

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        given = self.positives(batch)
        losses, counts = self._in_blocks(batch, given)
        value = part_of_mean(losses, self._has_positive(batch, given), batch.rows)
        return LossOutput(value, {"positives": counts.to(value).mean()})

    def _in_blocks(
        self, batch: LossInput, given: Bool[Tensor, "rows slots"]
    ) -> tuple[Float[Tensor, " local"], Int[Tensor, " local"]]:
        """Loss and number of positives of the rows of this rank.

        If there is more than one block of rows, each is computed again in the backward pass, so that at most one block
        of the similarity matrix is in memory.
        """
        index = torch.cat([batch.positives.flatten(), batch.negatives.flatten()])
        first = first_equal(batch.hashes[index.clamp(min=0)].where(index >= 0, NO_HASH))
        rows = torch.arange(len(batch.query), device=index.device)[batch.rows]

        def block(
            embeddings: Float[Tensor, "texts dim"], rows: Int[Tensor, " block"]
        ) -> tuple[Float[Tensor, " block"], Int[Tensor, " block"]]:
            positive = self._positive(batch, rows, given, first)
            negative = self._candidate(batch, rows, index, first) & ~positive
            logits = embeddings[batch.query[rows]] @ embeddings[index.clamp(min=0)].T / self.temperature
            ours, others = (torch.logsumexp(logits.masked_fill(~of, -torch.inf), 1) for of in (positive, negative))
            return torch.logaddexp(ours, others) - ours, positive.sum(1)

        size, embeddings = max(1, MAX_LOGITS // len(index)), batch.embeddings.final
        if len(rows) <= size:
            return block(embeddings, rows)
        losses, counts = [], []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            loss, count = checkpoint(block, embeddings, part, use_reentrant=False, preserve_rng_state=False)
            losses.append(loss)
            counts.append(count)
        return torch.cat(losses), torch.cat(counts)

    def _positive(
        self,
        batch: LossInput,
        rows: Int[Tensor, " part"],
        given: Bool[Tensor, "rows slots"],
        first: Int[Tensor, " all"],
    ) -> Bool[Tensor, "part all"]:
        """Mask of the positives of each row."""
        own = first[: given.numel()].view_as(given)
        related = rows[:, None] == torch.arange(len(given), device=rows.device)
        if self.mined:
            query = batch.hashes[batch.query]
            related |= query[rows][:, None] == query
            for mine in own.where(given, -1)[rows].T:
                for theirs in own.where(given, -2).T:
                    related |= mine[:, None] == theirs
        positive = (related[:, :, None] & given).flatten(1)
        counts = torch.zeros(len(rows), len(first), dtype=torch.int32, device=rows.device)
        return counts.index_add_(1, own.flatten(), positive.int()) > 0

    def _candidate(
        self, batch: LossInput, rows: Int[Tensor, " part"], index: Int[Tensor, " all"], first: Int[Tensor, " all"]
    ) -> Bool[Tensor, "part all"]:
        """Mask of the negatives of each row, positives not removed yet; of equal documents, the first only."""
        here = torch.arange(len(index), device=index.device)
        distinct = (index >= 0) & (first == here)
        candidate = distinct & (batch.hashes[index.clamp(min=0)] != batch.hashes[batch.query[rows]][:, None])
        if self.in_batch:
            return candidate
        negatives = here[batch.positives.numel() :].view_as(batch.negatives)
        return candidate & torch.zeros_like(candidate).scatter_(1, first[negatives[rows]], True)

    def _has_positive(self, batch: LossInput, given: Bool[Tensor, "rows slots"]) -> Bool[Tensor, " rows"]:
        """Mask of the rows that have a positive, given or mined."""
        has = given.any(1)
        if not self.mined:
            return has
        first = first_equal(batch.hashes[batch.query])
        return torch.zeros_like(first).index_add_(0, first, has.long())[first] > 0
