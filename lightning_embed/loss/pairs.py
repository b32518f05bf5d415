"""What the losses of graded pairs look at."""

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
