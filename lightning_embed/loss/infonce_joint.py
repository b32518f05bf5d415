"""`loss=infonce_joint`."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.blocks import equal_to_any, log_sum_exp
from lightning_embed.loss.infonce import InfoNCE, is_own_row, own_hashes
from lightning_embed.registry import register
from lightning_embed.types import LossInput


@register("loss", "infonce_joint")
@dataclass(frozen=True)
class InfoNCEJoint(InfoNCE):
    """InfoNCE with one sum over documents and queries, seen from the query and from its document.

        L(i, p) = -log  exp(s(q_i, d+_ip) / t) / Z_ip
        Z_ip = sum of exp(s(q_i, d) / t) over the documents d, as in infonce
             + sum over j != i of exp(s(q_i, q_j) / t)              query_query
             + sum over j      of exp(s(q_j, d+_ip) / t)            document_query
             + sum over d of other rows of exp(s(d+_ip, d) / t)     document_document

    Documents d are the positives of slot p and all hard negatives of all rows. As the second sum over queries contains
    j = i, the positive counts twice with `document_query`, as in the paper. With `mask_equal`, a query that is equal to
    a text of row i or has d+_ip among its own positives is left out of both sums over queries, and a document that is
    equal to a text of row i of the last sum. `margin` leaves out what is more similar than the positive in every sum.
    `masked` in the logs counts the first sum. No similarity matrix is in memory as a whole.

    Papers: all terms: GTE (Li et al. 2023, arXiv 2308.03281); without `document_query`, with a margin of 0.1
    (`loss=infonce_joint_qwen3`): Qwen3 Embedding (Zhang et al. 2025, arXiv 2506.05176). As `directions` with
    `partition_mode="joint"` of sentence-transformers. Where we differ: GTE has no hard negatives in this loss; Qwen3 has
    those of the row itself alone (ours, and sentence-transformers': of all rows); what it leaves out by equal texts is
    given for documents, for queries it is our reading.

    Args:
        temperature: divides the similarities; in (0, inf), typically 0.01 (GTE) to 0.05.
        in_batch: true: queries and documents of other rows are what the further sums are over.
        symmetric: the loss is the mean of this one and of that from positives to queries, as in infonce.
        margin: as in infonce.
        mask_equal: as in infonce.
        min_score: as in infonce.
        cross_device: take queries and documents of all ranks.
        query_query: queries are candidates of a query.
        document_query: queries are candidates of the positive.
        document_document: documents of other rows are candidates of the positive.

    Raises:
        ConfigError: as infonce, or without `in_batch`.
    """

    query_query: bool = True
    document_query: bool = True
    document_document: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.in_batch:
            raise ConfigError(
                "infonce_joint: compares queries and documents of different rows: set in_batch=true, or take "
                "infonce_grouped for rows that have only their own negatives."
            )

    def _beside(self, batch: LossInput, slot: int, target: Float[Tensor, " local"]) -> list[Float[Tensor, " local"]]:
        """The sums beside that over the documents."""
        embeddings, rows = batch.embeddings.final, batch.rows
        positive = embeddings[batch.positives[rows, slot].clamp(min=0)]
        sums = []
        if self.query_query:
            sums.append(self._sum_of_queries(batch, embeddings[batch.query[rows]], slot, target))
        if self.document_query:
            sums += [target, self._sum_of_queries(batch, positive, slot, target)]
        if self.document_document:
            sums += [
                self._sum_of_others(batch, positive, documents, target)
                for documents in (batch.positives[:, slot : slot + 1], batch.negatives)
            ]
        return sums

    def _sum_of_others(
        self,
        batch: LossInput,
        positive: Float[Tensor, "local dim"],
        documents: Int[Tensor, "rows width"],
        target: Float[Tensor, " local"],
    ) -> Float[Tensor, " local"]:
        """Log-sum-exp over the documents of other rows, from the positive."""
        flat, width, own = documents.flatten(), documents.shape[1], own_hashes(batch)[batch.rows]
        index = flat.clamp(min=0)

        def excluded(where: slice, logits: Float[Tensor, "local block"]) -> Bool[Tensor, "local block"]:
            out = is_own_row(batch, where, width) | (flat[where] < 0) | self._beyond(logits, target)
            return out | equal_to_any(own, batch.hashes[index[where]]) if self.mask_equal else out

        return log_sum_exp(positive, batch.embeddings.final[index], self.temperature, excluded)[0]
