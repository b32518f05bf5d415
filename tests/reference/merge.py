"""Slow merges, written from the formulas: whole models as one float64 vector each."""

from collections.abc import Sequence

import torch
from torch import Tensor


def soup(sources: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i V_i / sum_i w_i (papers.md 1.1.3, item 1)."""
    total = torch.zeros_like(sources[0])
    for source, weight in zip(sources, weights, strict=True):
        total = total + weight * source
    return total / sum(weights)


def task_arithmetic(base: Tensor, sources: Sequence[Tensor], weights: Sequence[float], scale: float) -> Tensor:
    """theta_0 + lambda sum_i w_i (theta_i - theta_0) (Ilharco et al. 2023, section 2)."""
    merged = base.clone()
    for source, weight in zip(sources, weights, strict=True):
        merged += scale * weight * (source - base)
    return merged
