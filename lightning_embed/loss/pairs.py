"""Cosines and scores of pairs: the inputs of the losses for graded pairs."""

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.types import LossInput


def cosines(batch: LossInput) -> Float[Tensor, " rows"]:
    """The cosine of every pair."""
    embeddings = batch.embeddings.final
    return (embeddings[batch.query] * embeddings[batch.positives[:, 0]]).sum(1)


def scores(batch: LossInput) -> Float[Tensor, " rows"]:
    """The score of every pair, in [0, 1]."""
    assert batch.score is not None, "a loss of scores serves only tasks that have scores"
    return batch.score


def graded(batch: LossInput) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Cosine and score of every pair; in rows without a score, positives score 1 and negatives 0.

    An empty slot scores NaN, which is neither below nor above any score: to leave it out would make a GPU wait.
    """
    if batch.score is not None:
        return cosines(batch), batch.score
    documents = torch.cat([batch.positives, batch.negatives], 1)
    embeddings = batch.embeddings.final
    cosine = (embeddings[batch.query][:, None] * embeddings[documents]).sum(2)
    score = torch.zeros_like(cosine)
    score[:, : batch.positives.shape[1]] = 1
    return cosine.flatten(), score.masked_fill(documents < 0, torch.nan).flatten()
