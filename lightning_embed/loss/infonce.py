"""`loss=infonce`."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Contrastive, check_score, check_temperature
from lightning_embed.loss.blocks import equal_to_any, log_sum_exp
from lightning_embed.loss.mean import part_of_mean
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput


@register("loss", "infonce")
@dataclass(frozen=True)
class InfoNCE(Contrastive):
    """InfoNCE with in-batch and hard negatives, several positives and documents of all ranks.

    For query i, positive slot p and temperature t, with s the dot product of L2-normalised embeddings:

        L(i, p) = -log  exp(s(q_i, d+_ip) / t) / [ sum_j exp(s(q_i, d+_jp) / t) + sum_jn exp(s(q_i, d-_jn) / t) ]

    j runs over the rows of all ranks, n over their hard negatives. The positives of other slots are not candidates,
    so a query's other positives are never its negatives. The loss is the mean over the (query, slot) pairs that
    exist in the global batch. The whole similarity matrix of a large batch is never in memory.

    False negatives: with `mask_equal`, a candidate equal to the query or to one of its positives is left out of the sum
    (a repeated document would otherwise be pushed away from itself); with `margin`, so is a candidate that is much more
    similar than the positive. `masked` in the logs is the number of candidates left out per query.

    Papers: van den Oord et al. 2018, arXiv 1807.03748; slots and cross-device documents as in CoDiEmb (Zhang et al.
    2025, arXiv 2508.11442); margin as in Qwen3 Embedding (Zhang et al. 2025, arXiv 2506.05176). The code of CoDiEmb and
    of BOOM (2026, arXiv 2602.05787) keeps repeated documents as negatives (`mask_equal=false`), and fills up rows that
    are short of positives or negatives (`pad: repeat` of a dataset).

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02 (the three papers) to 0.05.
        in_batch: also take the documents of other rows as negatives. False: only the row's own negatives (grouped
            tasks: classification, clustering).
        symmetric: also contrast every positive with all queries; the loss is the mean of both directions.
        margin: leave out candidates whose similarity exceeds the positive's by more than this; in [0, 2], typically
            0.1. None: no margin.
        mask_equal: texts equal to the query or to one of its positives are no negatives; false, as in the papers' code:
            they are, and only the positive itself is not.
        min_score: a pair with a score (STS) is a positive from this score on, in [0, 1]; the documents of
            the other pairs are negatives only.
        cross_device: take the documents of all ranks.

    Raises:
        ConfigError: temperature not positive, a margin or score out of range, or `symmetric` without `in_batch`.
    """

    temperature: float = 0.05
    in_batch: bool = True
    symmetric: bool = False
    margin: float | None = None
    mask_equal: bool = True
    min_score: float = 1.0
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("infonce", self.temperature)
        if self.margin is not None and not 0 <= self.margin <= 2:
            raise ConfigError(f"infonce: margin must be in [0, 2] or null, got {self.margin}.")
        check_score("infonce", self.min_score)
        if self.symmetric and not self.in_batch:
            raise ConfigError(
                "infonce: symmetric contrasts positives with all queries of the batch: "
                "set in_batch=true, or symmetric=false."
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        value, masked = self._to_documents(batch)
        if self.symmetric:
            value = (value + self._to_queries(batch)) / 2
        return LossOutput(value, {"masked": masked})

    def _to_documents(self, batch: LossInput) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Loss of local queries against documents: its mean, and the number of masked candidates per query."""
        embeddings, rows = batch.embeddings.final, batch.rows
        queries, own = embeddings[batch.query[rows]], own_hashes(batch)[rows]
        losses, masked, exists = [], embeddings.new_zeros(()), self.positives(batch)
        for slot in range(batch.positives.shape[1]):
            target = (queries * embeddings[batch.positives[rows, slot].clamp(min=0)]).sum(1) / self.temperature
            if not slot or self.margin is not None:  # else the negatives are the same for every slot
                hard, counts_of_hard = (
                    self._sum_of_batch(batch, queries, own, target, batch.negatives, negatives=True)
                    if self.in_batch
                    else self._sum_of_own(batch, queries, own, target)
                )
            sums, counts = [hard], counts_of_hard
            if self.in_batch:
                others, equal = self._sum_of_batch(batch, queries, own, target, batch.positives[:, slot : slot + 1])
                sums.append(others)
                counts = counts + equal - (batch.positives[rows, slot] >= 0).long()  # the positive itself
            sums.extend(self._beside(batch, slot, target))
            losses.append(torch.logsumexp(torch.stack([target, *sums]), 0) - target)
            masked = masked + (counts * exists[rows, slot]).sum()
        return part_of_mean(self._weighted(torch.stack(losses, 1)), exists, rows), masked / len(queries)

    def _beside(
        self,
        batch: LossInput,  # noqa: ARG002
        slot: int,  # noqa: ARG002
        target: Float[Tensor, " local"],  # noqa: ARG002
    ) -> list[Float[Tensor, " local"]]:
        """Further log-sums in the denominator of a slot of positives: none."""
        return []

    def _weighted(self, losses: Float[Tensor, "local slots"]) -> Float[Tensor, "local slots"]:
        """The losses as they count in the mean: as they are."""
        return losses

    def _in_sum(
        self,
        logits: Float[Tensor, "local block"],
        batch: LossInput,  # noqa: ARG002
        negatives: bool,  # noqa: ARG002
        where: slice | None,  # noqa: ARG002
    ) -> Float[Tensor, "local block"]:
        """The logits of queries and documents as they stand in the sum: as they are.

        Args:
            logits: of local queries and a block of documents.
            batch: the input of the loss.
            negatives: whether the documents are hard negatives.
            where: documents of all rows, in their order. None: those of the row itself.
        """
        return logits

    def _sum_of_batch(
        self,
        batch: LossInput,
        queries: Float[Tensor, "local dim"],
        own: Int[Tensor, "local hashes"],
        target: Float[Tensor, " local"],
        documents: Int[Tensor, "rows width"],
        negatives: bool = False,
    ) -> tuple[Float[Tensor, " local"], Int[Tensor, " local"]]:
        """Log-sum-exp over documents of all rows, and the number of documents left out.

        Args:
            batch: the input of the loss.
            queries: local queries.
            own: hashes of each query and its positives.
            target: logit of the positive of each query.
            documents: the candidates, a slot of positives or all hard negatives.
            negatives: whether they are hard negatives; of positives, the query's own is left out in any case.
        """
        flat = documents.flatten()
        index = flat.clamp(min=0)

        def excluded(where: slice, logits: Float[Tensor, "local block"]) -> Bool[Tensor, "local block"]:
            if self.mask_equal:
                same = equal_to_any(own, batch.hashes[index[where]])
            else:
                same = torch.zeros_like(logits, dtype=torch.bool) if negatives else is_own_row(batch, where)
            return same | (flat[where] < 0) | self._beyond(logits, target)

        def in_sum(where: slice, logits: Float[Tensor, "local block"]) -> Float[Tensor, "local block"]:
            return self._in_sum(logits, batch, negatives, where)

        others, out = log_sum_exp(queries, batch.embeddings.final[index], self.temperature, excluded, in_sum)
        return others, out - (flat < 0).sum()

    def _sum_of_own(
        self,
        batch: LossInput,
        queries: Float[Tensor, "local dim"],
        own: Int[Tensor, "local hashes"],
        target: Float[Tensor, " local"],
    ) -> tuple[Float[Tensor, " local"], Int[Tensor, " local"]]:
        """Log-sum-exp over the row's own hard negatives, and the number left out."""
        documents = batch.negatives[batch.rows]
        index = documents.clamp(min=0)
        logits = torch.einsum("qd,qcd->qc", queries, batch.embeddings.final[index]) / self.temperature
        same = self._beyond(logits.detach(), target)
        if self.mask_equal:
            same = same | (batch.hashes[index][:, :, None] == own[:, None]).any(2)
        logits = self._in_sum(logits, batch, negatives=True, where=None).masked_fill(same | (documents < 0), -torch.inf)
        return torch.logsumexp(logits, 1), (same & (documents >= 0)).sum(1)

    def _to_queries(self, batch: LossInput) -> Float[Tensor, ""]:
        """Mean loss of local positives against the queries of all rows, except those that they answer or equal."""
        embeddings, rows = batch.embeddings.final, batch.rows
        losses = []
        for slot in range(batch.positives.shape[1]):
            index = batch.positives[rows, slot].clamp(min=0)
            target = (embeddings[index] * embeddings[batch.query[rows]]).sum(1) / self.temperature
            others = self._sum_of_queries(batch, embeddings[index], slot, target)
            losses.append(torch.logaddexp(target, others) - target)
        return part_of_mean(self._weighted(torch.stack(losses, 1)), self.positives(batch), rows)

    def _sum_of_queries(
        self, batch: LossInput, anchors: Float[Tensor, "local dim"], slot: int, target: Float[Tensor, " local"]
    ) -> Float[Tensor, " local"]:
        """Log-sum-exp over the queries of all rows, except those that the positive of the slot answers or equals.

        Args:
            batch: the input of the loss.
            anchors: local embeddings to compare with the queries: positives of the slot, or queries.
            slot: of positives.
            target: logit of the query and its positive.
        """
        hashes, all_own = batch.hashes[batch.query], own_hashes(batch)
        document = batch.hashes[batch.positives[batch.rows, slot].clamp(min=0)]

        def excluded(where: slice, logits: Float[Tensor, "local block"]) -> Bool[Tensor, "local block"]:
            if not self.mask_equal:
                return is_own_row(batch, where) | self._beyond(logits, target)
            answers = equal_to_any(all_own[where], document).T
            return answers | equal_to_any(all_own[batch.rows], hashes[where]) | self._beyond(logits, target)

        return log_sum_exp(anchors, batch.embeddings.final[batch.query], self.temperature, excluded)[0]

    def _beyond(
        self, logits: Float[Tensor, "local block"], target: Float[Tensor, " local"]
    ) -> Bool[Tensor, "local block"]:
        """Mask of the candidates that are too similar to be negatives."""
        if self.margin is None:
            return torch.zeros_like(logits, dtype=torch.bool)
        return logits > target.detach()[:, None] + self.margin / self.temperature


def is_own_row(batch: LossInput, where: slice, width: int = 1) -> Bool[Tensor, "local block"]:
    """Mask of the texts in `where` that belong to the local row itself, of `width` texts a row."""
    rows = torch.arange(len(batch.query), device=batch.query.device)[batch.rows]
    return rows[:, None] == torch.arange(where.start, where.stop, device=rows.device) // width


def own_hashes(batch: LossInput) -> Int[Tensor, "rows hashes"]:
    """Hashes of the query and the positives of each row; an empty slot repeats the query's."""
    positives = torch.where(batch.positives >= 0, batch.positives, batch.query[:, None])
    return batch.hashes[torch.cat([batch.query[:, None], positives], 1)]
