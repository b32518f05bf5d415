"""The log of the sum over many candidates, without the similarity matrix."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 2**23  # of a block, at most: 32 MiB in float32

Excluded = Callable[[slice, Float[Tensor, "anchors block"]], Bool[Tensor, "anchors block"]]


def log_sum_exp(
    anchors: Float[Tensor, "anchors dim"],
    candidates: Float[Tensor, "candidates dim"],
    temperature: float,
    excluded: Excluded,
) -> tuple[Float[Tensor, " anchors"], Int[Tensor, " anchors"]]:
    """Log of the sum over candidates of exp(similarity / temperature), exactly, and the excluded candidates per anchor.

    Candidates come in blocks; more than one block is computed again in the backward pass, so that of a matrix of
    16,384 x 16,384 similarities never more than a block exists.

    Args:
        anchors: embeddings.
        candidates: embeddings.
        temperature: divides the similarities.
        excluded: of a slice of the candidates and their logits, which to leave out; detached.
    """

    def block(
        anchors: Float[Tensor, "anchors dim"], part: Float[Tensor, "block dim"], where: slice
    ) -> tuple[Float[Tensor, " anchors"], Int[Tensor, " anchors"]]:
        logits = anchors @ part.T / temperature
        out = excluded(where, logits.detach())
        return torch.logsumexp(logits.masked_fill(out, -torch.inf), 1), out.sum(1)

    size = max(1, MAX_LOGITS // max(1, len(anchors)))
    if len(candidates) <= size:
        return block(anchors, candidates, slice(0, len(candidates)))
    sums, counts = [], []
    for start in range(0, len(candidates), size):
        where = slice(start, min(start + size, len(candidates)))
        sum_, count = checkpoint(
            block, anchors, candidates[where], where, use_reentrant=False, preserve_rng_state=False
        )
        sums.append(sum_)
        counts.append(count)
    return torch.logsumexp(torch.stack(sums), 0), torch.stack(counts).sum(0)


def equal_to_any(own: Int[Tensor, "anchors hashes"], hashes: Int[Tensor, " block"]) -> Bool[Tensor, "anchors block"]:
    """Which of `hashes` are among the anchor's own."""
    same = own[:, :1] == hashes
    for column in range(1, own.shape[1]):
        same = same | (own[:, column, None] == hashes)
    return same
