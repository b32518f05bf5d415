"""Slow merges that look at data, written from the formulas: float64, whole models as one vector each."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[Tensor, int], Tensor]
"""Of a model, at a step."""


def position(vectors: Sequence[Tensor], a: Tensor, length: Tensor) -> Tensor:
    """lambda V_(1..N) (papers.md 1.1.5, eq. 9), slerp as printed in eq. 4, through explicit vectors."""
    merged = vectors[0]
    for number in range(1, len(vectors)):
        vector, a_i, a_j = vectors[number], a[:number].mean(), a[number]
        alpha = torch.arccos(merged @ vector / (merged.norm() * vector.norm()))
        left, right = torch.sin(a_j / (a_i + a_j) * alpha), torch.sin(a_i / (a_i + a_j) * alpha)
        merged = (left * merged + right * vector) / torch.sin(alpha)
    return length * merged


def self_positioning(
    base: Tensor, vectors: Sequence[Tensor], loss: Loss, steps: int, learning_rate: float, mu: float
) -> tuple[Tensor, Tensor]:
    """a and lambda after Adam (eq. 10 and 11), by autograd through the merged weights."""
    a = torch.ones(len(vectors), dtype=torch.float64, requires_grad=True)
    length = torch.ones((), dtype=torch.float64, requires_grad=True)
    _descend(
        [a, length], lambda step: loss(base + position(vectors, a, length), step) + mu * length, steps, learning_rate
    )
    return a.detach(), length.detach()


def adamerging(
    base: Tensor,
    vectors: Sequence[Tensor],
    layers: Sequence[Sequence[int]],
    loss: Loss,
    steps: int,
    learning_rate: float,
    scale: float,
) -> Tensor:
    """Layer-wise coefficients (Yang et al. 2023, section 3.2), by autograd through the merged weights: [layer, source]."""
    coefficients = torch.full((len(layers), len(vectors)), scale, dtype=torch.float64, requires_grad=True)
    masks = torch.zeros(len(layers), len(base), dtype=torch.float64)
    for mask, places in zip(masks, layers, strict=True):
        mask[list(places)] = 1

    def target(step: int) -> Tensor:
        merged = base
        for number, vector in enumerate(vectors):
            merged = merged + (coefficients[:, number] @ masks) * vector
        return loss(merged, step)

    _descend([coefficients], target, steps, learning_rate)
    return coefficients.detach()


def fisher(sources: Sequence[Tensor], gradients: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> Tensor:
    """sum_i w_i F_i V_i / sum_i w_i F_i (papers.md 1.1.3, item 4), element by element; gradients[i]: of source i, by batch."""
    merged = torch.zeros_like(sources[0])
    for place in range(len(merged)):
        squares = [sum(float(g[place]) ** 2 for g in found) / len(found) for found in gradients]
        shares = [weight * square for weight, square in zip(weights, squares, strict=True)]
        if sum(shares) == 0:
            shares = list(weights)
        merged[place] = sum(share * float(s[place]) for share, s in zip(shares, sources, strict=True)) / sum(shares)
    return merged


def regmean(matrices: Sequence[Tensor], inputs: Sequence[Tensor], weights: Sequence[float], shrinkage: float) -> Tensor:
    """(sum_i G_i)^-1 sum_i G_i W_i (papers.md 1.1.3, item 5), W_i (in, out), shrunk as in Jin et al. 2022, section 3.

    Column by column of W as one least-squares problem: rows sqrt(w_i) G_i^(1/2), targets the same times W_i.
    """
    rows, targets = [], []
    for matrix, x, weight in zip(matrices, inputs, weights, strict=True):
        gram = x.T @ x / len(x)
        for i in range(len(gram)):
            for j in range(len(gram)):
                gram[i, j] *= 1 if i == j else 1 - shrinkage
        values, vectors = torch.linalg.eigh(weight * gram)
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        rows.append(root)
        targets.append(root @ matrix)
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(targets), driver="gelsd").solution


def _descend(numbers: list[Tensor], target: Callable[[int], Tensor], steps: int, learning_rate: float) -> None:
    adam = torch.optim.Adam(numbers, lr=learning_rate)
    for step in range(steps):
        adam.zero_grad()
        target(step).backward()
        adam.step()
