"""`loss=infonce`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "infonce")
@dataclass(frozen=True)
class InfoNCE(Loss):
    """InfoNCE with in-batch and hard negatives, several positives and documents of all ranks.

    For query i, positive slot p and temperature t, with s the dot product of L2-normalised embeddings:

        L(i, p) = -log  exp(s(q_i, d+_ip) / t) / [ sum_j exp(s(q_i, d+_jp) / t) + sum_jn exp(s(q_i, d-_jn) / t) ]

    j runs over the rows of all ranks, n over their hard negatives. The positives of other slots are not candidates,
    so a query's other positives are never its negatives. The loss is the mean over the (query, slot) pairs that
    exist in the global batch. A candidate that reads the same as the query or as one of its positives is no
    negative and leaves the sum: repeated documents would otherwise be pushed away from themselves.

    Papers: van den Oord et al. 2018, arXiv 1807.03748; slots and cross-device documents as in CoDiEmb (Zhang et al.
    2025, arXiv 2508.11442). Where we differ: CoDiEmb keeps repeated documents as negatives, and fills missing
    positives by repetition.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.02 (the three papers) to 0.05.
        in_batch: also take the documents of other rows as negatives. False: only the row's own negatives (grouped
            tasks: classification, clustering).
        symmetric: also let every positive look for its query among all queries; the loss is the mean of both ways.
        cross_device: take the documents of all ranks.

    Raises:
        ConfigError: temperature not positive, or `symmetric` without `in_batch`.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.retrieval, Task.classification, Task.clustering, Task.sts})

    temperature: float = 0.05
    in_batch: bool = True
    symmetric: bool = False
    cross_device: bool = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"infonce: temperature must be positive, got {self.temperature}.")
        if self.symmetric and not self.in_batch:
            raise ConfigError(
                "infonce: symmetric looks for the query among the batch's queries: set in_batch=true, or symmetric=false."
            )

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        value, masked = self._to_documents(batch)
        if self.symmetric:
            value = (value + self._to_queries(batch)) / 2
        return LossOutput(value, {"masked": masked})

    def _to_documents(self, batch: LossInput) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Each local query among its candidates: mean loss, and masked candidates per query."""
        embeddings, rows = batch.embeddings.final, batch.rows
        queries = batch.query[rows]
        own = self._similar_to_own_texts(batch)
        losses, exists, masked = [], [], embeddings.new_zeros(())
        for slot in range(batch.positives.shape[1]):
            positive = batch.positives[rows, slot]
            candidates = self._candidates(batch, slot)
            valid = candidates >= 0
            keep = valid & ~own.gather(1, candidates.clamp(min=0))
            masked = masked + (valid & ~keep).sum() - (positive >= 0).sum() * self.in_batch
            logits = self._logits(embeddings, queries, candidates).masked_fill(~keep, -torch.inf)
            target = (embeddings[queries] * embeddings[positive.clamp(min=0)]).sum(1) / self.temperature
            losses.append(torch.logaddexp(target, torch.logsumexp(logits, 1)) - target)
            exists.append(positive >= 0)
        return _share(torch.stack(losses), torch.stack(exists), batch), masked / len(queries)

    def _candidates(self, batch: LossInput, slot: int) -> Int[Tensor, "local candidates"]:
        """Indices of the texts that compete with positive `slot`; -1 where there is none."""
        if not self.in_batch:
            return batch.negatives[batch.rows]
        documents = torch.cat([batch.positives[:, slot], batch.negatives.flatten()])
        return documents.expand(len(batch.query[batch.rows]), -1)

    def _logits(
        self, embeddings: Float[Tensor, "texts dim"], queries: Int[Tensor, " local"], candidates: Int[Tensor, "local c"]
    ) -> Float[Tensor, "local c"]:
        if self.in_batch:  # every query has the same candidates: one matrix product
            return embeddings[queries] @ embeddings[candidates[0].clamp(min=0)].T / self.temperature
        return torch.einsum("qd,qcd->qc", embeddings[queries], embeddings[candidates.clamp(min=0)]) / self.temperature

    def _similar_to_own_texts(self, batch: LossInput) -> Bool[Tensor, "local texts"]:
        """Which texts of the batch read the same as the query of a row or as one of its positives."""
        rows = batch.rows
        own = torch.cat([batch.query[rows, None], batch.positives[rows]], 1)
        same = batch.hashes[own.clamp(min=0), None] == batch.hashes
        return (same & (own >= 0)[..., None]).any(1)

    def _has_document(self, batch: LossInput, documents: Int[Tensor, " local"]) -> Bool[Tensor, "local rows"]:
        """Which rows have a positive that reads the same as the document: their queries are right answers too."""
        same = batch.hashes[documents][:, None, None] == batch.hashes[batch.positives.clamp(min=0)]
        return (same & (batch.positives >= 0)).any(-1)

    def _to_queries(self, batch: LossInput) -> Float[Tensor, ""]:
        """Each positive of a local row among the queries of all rows."""
        embeddings, rows = batch.embeddings.final, batch.rows
        losses = []
        for slot in range(batch.positives.shape[1]):
            index = batch.positives[rows, slot].clamp(min=0)
            positive = embeddings[index]
            right = self._has_document(batch, index) | self._similar_to_own_texts(batch)[:, batch.query]
            logits = (positive @ embeddings[batch.query].T / self.temperature).masked_fill(right, -torch.inf)
            target = (positive * embeddings[batch.query[rows]]).sum(1) / self.temperature
            losses.append(torch.logaddexp(target, torch.logsumexp(logits, 1)) - target)
        return _share(torch.stack(losses), (batch.positives[rows] >= 0).T, batch)


def _share(
    losses: Float[Tensor, "slots local"], exists: Bool[Tensor, "slots local"], batch: LossInput
) -> Float[Tensor, ""]:
    """This rank's part of the mean over all (query, slot) pairs: parts average over ranks to the global mean."""
    ranks = len(batch.query) / losses.shape[1]
    return losses.where(exists, 0).sum() * ranks / (batch.positives >= 0).sum()
