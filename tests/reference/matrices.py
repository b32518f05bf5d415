"""Slow merges of one linear layer, written from the formulas: matrices in float64.

`deltas` are (sources, rows, columns); what is returned is what the merge adds to the base.
"""

import torch
from torch import Tensor


def iso_c(deltas: Tensor) -> Tensor:
    """mean(S) U V^T (Marczak et al. 2025, Iso-C), by the polar factor U V^T = A (A^T A)^(-1/2)."""
    summed = deltas.sum(0)
    squares = torch.linalg.eigvalsh(summed @ summed.T if len(summed) < summed.shape[1] else summed.T @ summed)
    return squares.clamp(min=0).sqrt().mean() * polar(summed)


def tsv(deltas: Tensor) -> Tensor:
    """Direction by direction (Gargiulo et al. 2024, TSV-Merge)."""
    rank = max(1, min(deltas.shape[1:]) // len(deltas))
    left, right, values = [], [], []
    for delta in deltas:
        squares, vectors = torch.linalg.eigh(delta @ delta.T)
        for number in range(1, rank + 1):
            values.append(squares[-number].sqrt())
            left.append(vectors[:, -number])
            right.append(delta.T @ vectors[:, -number] / values[-1])
    return polar(torch.stack(left, 1)) @ torch.diag(torch.stack(values)) @ polar(torch.stack(right, 1)).T


def polar(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns or rows: A (A^T A)^(-1/2), where the root is a pseudo-inverse."""
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    roots = torch.where(squares > 1e-10 * squares[-1], squares.clamp(min=1e-300) ** -0.5, 0)
    return matrix @ vectors @ torch.diag(roots) @ vectors.T


def wudi(deltas: Tensor, time: float, steps: int = 200) -> Tensor:
    """Descent on half the interference (Cheng et al. 2025, eq. 12), from the sum of the deltas: autograd, Runge-Kutta."""

    def slope(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return -torch.autograd.grad(interference(at, deltas) / 2, at)[0]

    merged, step = deltas.sum(0), time / steps
    for _ in range(steps):
        first = slope(merged)
        second = slope(merged + step / 2 * first)
        third = slope(merged + step / 2 * second)
        fourth = slope(merged + step * third)
        merged = merged + step / 6 * (first + 2 * second + 2 * third + fourth)
    return merged


def interference(merged: Tensor, deltas: Tensor) -> Tensor:
    """sum_i |(merged - delta_i) delta_i^T|^2 / |delta_i|^2."""
    total = torch.zeros((), dtype=torch.float64)
    for delta in deltas:
        if delta.any():
            total = total + ((merged - delta) @ delta.T).square().sum() / delta.square().sum()
    return total
