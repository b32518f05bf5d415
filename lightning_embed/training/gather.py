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
        teacher=batch.teacher,
    )


def gathered(batch: Batch, embeddings: Embeddings) -> LossInput:
    """The rows of all ranks: texts concatenated in the order of ranks, indices shifted accordingly."""
    if distributed.world_size() == 1:
        return local(batch, embeddings)
    slots = batch.positives, batch.negatives, batch.positive_scores, batch.negative_scores
    widths = [0 if each is None else each.shape[1] for each in slots]
    # one message for all: ranks differ in their number of texts, and in the most documents of a row
    of_texts, *of_slots = zip(*distributed.counts([len(batch.tokens), *widths]), strict=True)
    texts, (positives, negatives, positive_scores, negative_scores) = list(of_texts), map(max, of_slots)
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
        positives=distributed.gather(_widen(shifted(batch.positives), positives), rows),
        negatives=distributed.gather(_widen(shifted(batch.negatives), negatives), rows),
        score=None if batch.score is None else distributed.gather(batch.score, rows),
        rows=slice(distributed.rank() * len(batch.query), (distributed.rank() + 1) * len(batch.query)),
        positive_scores=_gather_scores(batch.positive_scores, positive_scores, rows),
        negative_scores=_gather_scores(batch.negative_scores, negative_scores, rows),
        teacher=None if batch.teacher is None else distributed.gather(batch.teacher, texts),
    )


def _gather_scores(
    scores: Float[Tensor, "local slots"] | None, width: int, rows: list[int]
) -> Float[Tensor, "all most"] | None:
    return None if scores is None else distributed.gather(_widen(scores, width, torch.nan), rows)


def _widen(values: Num[Tensor, "rows slots"], width: int, missing: float = -1) -> Num[Tensor, "rows width"]:
    """Pad with `missing`."""
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=missing)
