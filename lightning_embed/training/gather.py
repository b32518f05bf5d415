"""The input of a loss: a batch with the rows of this rank, or of all ranks."""

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from lightning_embed.runtime import distributed
from lightning_embed.types import Batch, Embeddings, LossInput


def local(batch: Batch, embeddings: Embeddings) -> LossInput:
    """The rows of this rank only."""
    return LossInput(
        embeddings=embeddings,
        hashes=batch.hashes,
        query=batch.query,
        positives=batch.positives,
        negatives=batch.negatives,
        score=batch.score,
        rows=slice(0, len(batch.query)),
        positive_scores=batch.positive_scores,
        negative_scores=batch.negative_scores,
    )


def gathered(batch: Batch, embeddings: Embeddings) -> LossInput:
    """The rows of all ranks: texts concatenated in the order of ranks, indices shifted accordingly."""
    if distributed.world_size() == 1:
        return local(batch, embeddings)
    texts = distributed.sizes(len(batch.tokens), batch.query.device)
    rows = [len(batch.query)] * distributed.world_size()  # a global batch is divided equally
    start = sum(texts[: distributed.rank()])

    def shifted(index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        return torch.where(index < 0, index, index + start)

    middle = embeddings.middle
    return LossInput(
        embeddings=Embeddings(
            distributed.gather(embeddings.final, texts), None if middle is None else distributed.gather(middle, texts)
        ),
        hashes=distributed.gather(batch.hashes, texts),
        query=distributed.gather(shifted(batch.query), rows),
        positives=distributed.gather(_widen(shifted(batch.positives)), rows),
        negatives=distributed.gather(_widen(shifted(batch.negatives)), rows),
        score=None if batch.score is None else distributed.gather(batch.score, rows),
        rows=slice(distributed.rank() * len(batch.query), (distributed.rank() + 1) * len(batch.query)),
        positive_scores=_gather_scores(batch.positive_scores, rows),
        negative_scores=_gather_scores(batch.negative_scores, rows),
    )


def _gather_scores(scores: Float[Tensor, "local slots"] | None, rows: list[int]) -> Float[Tensor, "all most"] | None:
    return None if scores is None else distributed.gather(_widen(scores, torch.nan), rows)


def _widen(values: Num[Tensor, "rows slots"], missing: float = -1) -> Num[Tensor, "rows most"]:
    """Pad with `missing` to the greatest width of all ranks."""
    most = max(distributed.sizes(values.shape[1], values.device))
    return torch.nn.functional.pad(values, (0, most - values.shape[1]), value=missing)
