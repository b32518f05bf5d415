"""Log-sum-exp over many candidates, without the whole similarity matrix."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 2**23  # of a block, at most: 32 MiB in float32

Excluded = Callable[[slice, Float[Tensor, "anchors block"]], Bool[Tensor, "anchors block"]]
InSum = Callable[[slice, Float[Tensor, "anchors block"]], Float[Tensor, "anchors block"]]


def log_sum_exp(
    anchors: Float[Tensor, "anchors dim"],
    candidates: Float[Tensor, "candidates dim"],
    temperature: float | Float[Tensor, ""],
    excluded: Excluded,
    in_sum: InSum | None = None,
) -> tuple[Float[Tensor, " anchors"], Int[Tensor, " anchors"]]:
    """Log of the sum over candidates of exp(similarity / temperature), and the number of excluded ones, per anchor.

    Exact. Candidates are processed in blocks; if there is more than one, each is computed again in the backward pass,
    so that at most one block of the similarity matrix is in memory.

    Args:
        anchors: embeddings.
        candidates: embeddings.
        temperature: divides the similarities.
        excluded: from a slice of the candidates and their detached logits, the mask of those to leave out.
        in_sum: from a slice of the candidates and their logits, the logits that stand in the sum. None: as they are.
    """

    def block(
        anchors: Float[Tensor, "anchors dim"], part: Float[Tensor, "block dim"], where: slice
    ) -> tuple[Float[Tensor, " anchors"], Int[Tensor, " anchors"]]:
        logits = anchors @ part.T / temperature
        out = excluded(where, logits.detach())
        logits = logits if in_sum is None else in_sum(where, logits)
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
    """Mask of the `hashes` that are among the anchor's own."""
    same = own[:, :1] == hashes
    for column in range(1, own.shape[1]):
        same = same | (own[:, column, None] == hashes)
    return same


def first_equal(hashes: Int[Tensor, " texts"]) -> Int[Tensor, " texts"]:
    """For each hash, the index of its first occurrence."""
    ordered, order = hashes.sort(stable=True)
    begins = torch.cat([torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]])
    start = torch.arange(len(hashes), device=hashes.device).where(begins, 0).cummax(0).values
    return torch.empty_like(order).scatter_(0, order, order[start])
