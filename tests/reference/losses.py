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


def infonce_hard(
    query: Sequence[Tensor],
    positives: Sequence[Sequence[Tensor]],
    negatives: Sequence[Sequence[Tensor]],
    temperature: float,
    strength: float,
    hardened: str,
) -> Tensor:
    """One positive a row, no masks; the weight of a negative is computed on values, so that it has no gradient."""
    losses = []
    for i in range(len(query)):
        target = math.e ** (query[i] @ positives[i][0] / temperature)
        total = target
        for j in range(len(query)):
            for kind, texts in (("p", positives[j][:1] if j != i else []), ("n", negatives[j])):
                for text in texts:
                    similarity = query[i] @ text
                    counts = {"own": kind == "n" and j == i, "others": j != i, "all": True}[hardened]
                    weight = math.exp(strength * float(similarity.detach())) if counts else 1.0
                    total = total + weight * math.e ** (similarity / temperature)
        losses.append(-torch.log(target / total))
    return torch.stack(losses).mean()


def infonce_joint(
    query: Sequence[Tensor],
    positives: Sequence[Sequence[Tensor]],
    negatives: Sequence[Sequence[Tensor]],
    temperature: float,
    terms: Sequence[str],
    left_out: Callable[[int, int, str, Tensor, Tensor], bool],
) -> Tensor:
    """left_out(i, p, what, text, excess) tells whether a "query" or "document" is no candidate of slot p of row i.

    excess: its similarity beyond that of the positive.
    """
    losses = []
    for i, q in enumerate(query):
        for p, d in enumerate(positives[i]):
            target = math.e ** (q @ d / temperature)
            documents = [
                (j, text)
                for j in range(len(query))
                for text in [*(positives[j][p : p + 1] if j != i else []), *negatives[j]]
            ]
            candidates = [(q, text, "document") for _, text in documents]
            if "query_query" in terms:
                candidates += [(q, other, "query") for j, other in enumerate(query) if j != i]
            if "document_query" in terms:
                candidates += [(d, other, "query") for j, other in enumerate(query) if j != i]
            if "document_document" in terms:
                candidates += [(d, text, "document") for j, text in documents if j != i]
            total = target * (2 if "document_query" in terms else 1)
            for anchor, text, what in candidates:
                if not left_out(i, p, what, text, anchor @ text - q @ d):
                    total = total + math.e ** (anchor @ text / temperature)
            losses.append(-torch.log(target / total))
    return torch.stack(losses).mean()


def infonce_focal(losses: Sequence[Tensor], gamma: float) -> Tensor:
    """Of the loss of every pair; the weight is computed on values."""
    return torch.stack([(1 - math.exp(-float(loss.detach()))) ** gamma * loss for loss in losses]).mean()


def cosent(text1: Sequence[Tensor], text2: Sequence[Tensor], score: Sequence[float], temperature: float) -> Tensor:
    """log(1 + sum over y_i < y_j of exp((s_i - s_j) / t))."""
    cosine = [a @ b / (a.norm() * b.norm()) for a, b in zip(text1, text2, strict=True)]
    total = torch.ones((), dtype=torch.float64)
    for i in range(len(score)):
        for j in range(len(score)):
            if score[i] < score[j]:
                total = total + math.e ** ((cosine[i] - cosine[j]) / temperature)
    return torch.log(total)
