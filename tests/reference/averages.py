"""Slow weighted sums, written from the formulas: whole models as one float64 vector each."""

import math
from collections.abc import Callable, Sequence

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


def wise_ft(base: Tensor, sources: Sequence[Tensor], weights: Sequence[float], share: float) -> Tensor:
    """(1 - alpha) theta_0 + alpha theta_1, theta_1 the average (Wortsman et al. 2021, section 2)."""
    return (1 - share) * base + share * soup(sources, weights)


def greedy_soup(sources: Sequence[Tensor], score: Callable[[Tensor], float]) -> Tensor:
    """Recipe 1 of Wortsman et al. (2022), with a strict inequality."""
    ingredients: list[Tensor] = []
    for source in sorted(sources, key=score, reverse=True):
        if not ingredients or score(_mean([*ingredients, source])) > score(_mean(ingredients)):
            ingredients.append(source)
    return _mean(ingredients)


def lm_cocktail(candidates: Sequence[Tensor], losses: Sequence[float], temperature: float) -> Tensor:
    """sum_i softmax(-L_i / tau) theta_i (Xiao et al. 2023)."""
    return soup(candidates, [math.exp(-loss / temperature) for loss in losses])


def _mean(models: Sequence[Tensor]) -> Tensor:
    return soup(models, [1] * len(models))
