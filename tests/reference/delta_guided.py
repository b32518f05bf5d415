"""Slow delta-guided fusion, written from papers.md 3.1.5: float64, one part after another."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def delta_guided(
    base: Tensor,
    sources: Sequence[Tensor],
    parts: Sequence[Sequence[int]],
    p: int = 2,
    kappa: float = 1.0,
    temperature: float | None = None,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Models as one vector each; `parts` are the elements that share their weights. No weight may be 0."""
    merged = base.clone()
    for part in parts:
        places = torch.tensor(part)
        sizes = [float((source[places] - base[places]).abs().pow(p).sum()) ** (1 / p) for source in sources]
        shares = part_shares(sizes, kappa, temperature, weights or [1] * len(sources))
        merged[places] = sum(
            (share * source[places] for share, source in zip(shares, sources, strict=True)), torch.zeros(1)
        ).double()
    return merged


def part_shares(
    sizes: Sequence[float], kappa: float, temperature: float | None, weights: Sequence[float]
) -> list[float]:
    """delta^kappa / sum delta^kappa, through a softmax if there is a temperature, times the weights."""
    if not any(sizes):
        ratios = [1 / len(sizes)] * len(sizes)
    elif kappa < 0 and not all(sizes):  # 1 / 0: the limit
        still = [float(size == 0) for size in sizes]
        ratios = [value / sum(still) for value in still]
    else:
        ratios = [size**kappa / sum(other**kappa for other in sizes) for size in sizes]
    if temperature is not None:
        ratios = [math.exp(ratio / temperature) for ratio in ratios]
    scores = [weight * ratio for weight, ratio in zip(weights, ratios, strict=True)]
    return [score / sum(scores) for score in scores]
