"""The losses of graded pairs, as their formulas read: loops over pairs. Embeddings have unit length."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ZERO = torch.zeros((), dtype=torch.float64)


def cosines(text1: Sequence[Tensor], text2: Sequence[Tensor]) -> list[Tensor]:
    return [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in zip(text1, text2, strict=True)]


def pearson(cosine: Sequence[Tensor], score: Sequence[float], epsilon: float) -> Tensor:
    """1 - rho with population moments; 0 for constant scores."""
    n = len(score)
    if len(set(score)) == 1:
        return sum(cosine) * 0
    mean_s, mean_y = sum(cosine) / n, sum(score) / n
    covariance = sum((s - mean_s) * (y - mean_y) for s, y in zip(cosine, score, strict=True)) / n
    var_s, var_y = sum((s - mean_s) ** 2 for s in cosine) / n, sum((y - mean_y) ** 2 for y in score) / n
    return 1 - covariance / torch.sqrt((var_s + epsilon) * var_y)


def _descending_ranks(score: Sequence[float]) -> list[float]:
    """0-based, the highest first; equal scores get the mean of the places that they take."""
    order = sorted(score, reverse=True)
    places = {y: [place for place, other in enumerate(order) if other == y] for y in score}
    return [sum(places[y]) / len(places[y]) for y in score]


def _softmax(values: Sequence[Tensor]) -> list[Tensor]:
    exponentials = [torch.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def rank_kl(cosine: Sequence[Tensor], score: Sequence[float], temperature: float, divide_by_rows: bool) -> Tensor:
    n = len(score)
    standing = [(n - 1 - r) / (n - 1) if n > 1 else 0.0 for r in _descending_ranks(score)]
    p = _softmax([torch.tensor(u / temperature, dtype=torch.float64) for u in standing])
    q = _softmax([s / temperature for s in cosine])
    divergence = sum(a * (torch.log(a) - torch.log(b)) for a, b in zip(p, q, strict=True))
    return divergence / n if divide_by_rows else divergence


def pro(cosine: Sequence[Tensor], score: Sequence[float], temperature: float) -> Tensor:
    """papers.md 3.1.3: sorted by score, each against those after it that are lower."""
    order = sorted(range(len(score)), key=lambda i: -score[i])
    losses = []
    for place, k in enumerate(order[:-1]):
        lower = [j for j in order[place + 1 :] if score[k] - score[j] > 1e-8]
        if not lower:
            continue
        widest = max(score[k] - score[j] for j in lower)
        own = torch.exp(widest * cosine[k] / temperature)
        total = own + sum(torch.exp((score[k] - score[j]) * cosine[j] / temperature) for j in lower)
        losses.append(-torch.log(own / total))
    return sum(losses) / len(losses) if losses else sum(cosine) * 0


def mid_nce(
    anchors: Sequence[Tensor],
    passages: Sequence[Tensor],
    score: Sequence[float],
    temperature: float,
    min_score: float,
    equal: Callable[[int, int], bool] = lambda anchor, passage: False,
) -> Tensor:
    """In-batch InfoNCE; equal(i, j): passage j reads the same as anchor i or its own passage."""
    losses = []
    for i in range(len(score)):
        if score[i] >= min_score:
            kept = [j for j in range(len(score)) if j == i or not equal(i, j)]
            total = sum(math.e ** (anchors[i] @ passages[j] / temperature) for j in kept)
            losses.append(-torch.log(math.e ** (anchors[i] @ passages[i] / temperature) / total))
    return sum(losses) / len(losses) if losses else anchors[0].sum() * 0


def angle(text1: Sequence[Tensor], text2: Sequence[Tensor], score: Sequence[float], temperature: float) -> Tensor:
    """CoSENT of |Re + Im| of the complex products."""
    half = len(text1[0]) // 2
    similarity = []
    for x, z in zip(text1, text2, strict=True):
        product = sum(torch.complex(x[k], x[half + k]) * torch.complex(z[k], z[half + k]).conj() for k in range(half))
        similarity.append(abs(product.real + product.imag))
    total = ZERO + 1
    for i in range(len(score)):
        for j in range(len(score)):
            if score[i] < score[j]:
                total = total + math.e ** ((similarity[i] - similarity[j]) / temperature)
    return torch.log(total)


def cosine_mse(cosine: Sequence[Tensor], score: Sequence[float]) -> Tensor:
    return sum((s - y) ** 2 for s, y in zip(cosine, score, strict=True)) / len(score)
