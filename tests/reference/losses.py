"""The losses, as their formulas read."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def infonce(
    query: Sequence[Tensor],
    positives: Sequence[Sequence[Tensor]],
    negatives: Sequence[Sequence[Tensor]],
    temperature: float,
    in_batch: bool = True,
    same: object = None,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """papers.md 3.1.2, with repeated documents left out.

    same(i, document, p) tells whether a document is no negative of positive p of row i, because it reads like the query
    or a positive; documents are (row, "p" or "n", slot). rows: whose loss is wanted; None: of all.
    """
    reads_like = same if callable(same) else (lambda row, document, slot: False)
    losses = []
    for i in range(len(query)) if rows is None else rows:
        for p in range(len(positives[i])):
            target = math.e ** (query[i] @ positives[i][p] / temperature)
            total = target
            for j in range(len(query)):
                if j != i and not in_batch:
                    continue
                if j != i and p < len(positives[j]) and not reads_like(i, (j, "p", p), p):
                    total = total + math.e ** (query[i] @ positives[j][p] / temperature)
                for n, negative in enumerate(negatives[j]):
                    if not reads_like(i, (j, "n", n), p):
                        total = total + math.e ** (query[i] @ negative / temperature)
            losses.append(-torch.log(target / total))
    return torch.stack(losses).mean()


def infonce_to_queries(
    query: Sequence[Tensor],
    positives: Sequence[Sequence[Tensor]],
    temperature: float,
    right: Callable[[int, int, int], bool] = lambda row, slot, other: False,
) -> Tensor:
    """Every positive among all queries but those, right(row, slot, other), for which it is a right answer too."""
    losses = []
    for i in range(len(query)):
        for p, positive in enumerate(positives[i]):
            target = math.e ** (positive @ query[i] / temperature)
            total = target
            for j in range(len(query)):
                if j != i and not right(i, p, j):
                    total = total + math.e ** (positive @ query[j] / temperature)
            losses.append(-torch.log(target / total))
    return torch.stack(losses).mean()


def cosent(text1: Sequence[Tensor], text2: Sequence[Tensor], score: Sequence[float], temperature: float) -> Tensor:
    """log(1 + sum over y_i < y_j of exp((s_i - s_j) / t))."""
    cosine = [a @ b / (a.norm() * b.norm()) for a, b in zip(text1, text2, strict=True)]
    total = torch.ones((), dtype=torch.float64)
    for i in range(len(score)):
        for j in range(len(score)):
            if score[i] < score[j]:
                total = total + math.e ** ((cosine[i] - cosine[j]) / temperature)
    return torch.log(total)
