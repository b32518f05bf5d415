"""Slow merges, written from the formulas: whole models as one float64 vector each."""

import math
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


def slerp(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Pairwise slerp, N - 1 times (papers.md 1.1.3, item 2), weights in our orientation: more weight, nearer."""
    merged, weight_so_far = vectors[0], weights[0]
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        merged = slerp_pair(merged, vector, weight_so_far, weight)
        weight_so_far += weight
    return merged


def slerp_pair(left: Tensor, right: Tensor, left_weight: float, right_weight: float) -> Tensor:
    """Eq. 4 with the weights exchanged."""
    share = right_weight / (left_weight + right_weight)
    norms = float(left.norm() * right.norm())
    # by the half-angle formula, which is exact where an arc cosine is not
    unit_left, unit_right = left / left.norm(), right / right.norm()
    angle = 2 * math.atan2(float((unit_left - unit_right).norm()), float((unit_left + unit_right).norm()))
    if norms == 0 or math.sin(angle) < 1e-9:
        return (1 - share) * left + share * right
    return (math.sin((1 - share) * angle) * left + math.sin(share * angle) * right) / math.sin(angle)
