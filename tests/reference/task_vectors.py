"""Slow merges of task vectors, written from the formulas: one parameter, element by element, in float64.

`deltas` are flat; what is returned is what the merge adds to the base.
"""

import math
from collections.abc import Sequence
from statistics import pvariance

import torch
from torch import Tensor


def trim(delta: Tensor, density: float) -> Tensor:
    """Keep the largest round(density * n) elements, at least one, and all that equal the smallest of them (Yadav et al. 2023, 3.1)."""
    magnitudes = sorted((abs(float(x)) for x in delta), reverse=True)
    smallest = magnitudes[max(1, round(density * len(magnitudes))) - 1]
    return torch.tensor([float(x) if abs(float(x)) >= smallest else 0.0 for x in delta], dtype=torch.float64)


def disjoint_mean(column: Sequence[float], weights: Sequence[float], votes: Sequence[float]) -> float:
    """Mean of the numbers whose sign is that of the sum of votes (Yadav et al. 2023, 3.2 and 3.3)."""
    election = sum(votes)
    agreeing = [(x, w) for x, w in zip(column, weights, strict=True) if x * election > 0]
    return sum(w * x for x, w in agreeing) / sum(w for _, w in agreeing) if agreeing else 0.0


def fuse(deltas: Sequence[Tensor], weights: Sequence[float], how: str) -> Tensor:
    """linear: sum_i w_i delta_i / sum_i w_i; ties: elect and average."""
    merged = torch.zeros_like(deltas[0])
    for element in range(len(merged)):
        column = [float(delta[element]) for delta in deltas]
        weighted = [w * x for w, x in zip(weights, column, strict=True)]
        merged[element] = sum(weighted) / sum(weights) if how == "linear" else disjoint_mean(column, weights, weighted)
    return merged


def ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float, scale: float) -> Tensor:
    """Trim, elect, average (Yadav et al. 2023, section 3)."""
    return scale * fuse([trim(delta, density) for delta in deltas], weights, "ties")


def keep_chances(row: Tensor, density: float, epsilon: float) -> Tensor:
    """From density - epsilon for the smallest to density + epsilon for the largest element of a row (Deep et al. 2024, 3.1)."""
    order = sorted(range(len(row)), key=lambda element: abs(float(row[element])))
    chances = torch.empty(len(row), dtype=torch.float64)
    for rank, element in enumerate(order):
        chances[element] = density + (epsilon * (2 * rank / (len(row) - 1) - 1) if len(row) > 1 else 0)
    return chances


def drop(delta: Tensor, chances: Tensor, draws: Tensor) -> Tensor:
    """Keep an element if its draw from [0, 1) is below its chance, and divide it by the chance."""
    return torch.stack([x / p if u < p else 0 * x for x, p, u in zip(delta, chances, draws, strict=True)])


def model_stock(deltas: Sequence[Tensor]) -> Tensor:
    """t times the mean delta, t from the mean cosine (Jang et al. 2024, section 4)."""
    count = len(deltas)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    cosines = [
        float(deltas[i] @ deltas[j]) / float(deltas[i].norm() * deltas[j].norm())
        if deltas[i].any() and deltas[j].any()
        else 0
        for i, j in pairs
    ]
    cosine = max(0.0, sum(cosines) / len(pairs))
    return count * cosine / (1 + (count - 1) * cosine) * sum(deltas, torch.zeros_like(deltas[0])) / count


def sce(deltas: Sequence[Tensor], density: float) -> Tensor:
    """Select, calculate, erase (Wan et al. 2024, section on SCE)."""
    size = len(deltas[0])
    columns = [[float(delta[element]) for delta in deltas] for element in range(size)]
    variances = [pvariance(column) for column in columns]
    smallest = sorted(variances, reverse=True)[max(1, round(density * size)) - 1]
    selected = [c if v >= smallest else [0.0] * len(c) for c, v in zip(columns, variances, strict=True)]
    squares = [sum(column[source] ** 2 for column in selected) for source in range(len(deltas))]
    shares = [square / sum(squares) if sum(squares) else 1.0 for square in squares]
    return torch.tensor([disjoint_mean(column, shares, column) for column in selected], dtype=torch.float64)


def breadcrumbs(deltas: Sequence[Tensor], weights: Sequence[float], density: float, gamma: float, how: str) -> Tensor:
    """Drop the floor(gamma n) largest and all but the next round(density n) (Davari and Belilovsky 2023, section 3)."""
    masked = []
    for delta in deltas:
        magnitudes = sorted((abs(float(x)) for x in delta), reverse=True)
        dropped = math.floor(gamma * len(delta))
        kept = min(max(1, round(density * len(delta))), len(delta) - dropped)
        largest, smallest = magnitudes[dropped], magnitudes[dropped + kept - 1]
        masked.append(torch.stack([x if smallest <= abs(float(x)) <= largest else 0 * x for x in delta]))
    return fuse(masked, weights, how)


def nearswap(base: Tensor, source: Tensor, limit: float) -> Tensor:
    """share * source + (1 - share) * base, share = limit / |difference|, at most 1 (MergeKit's nearswap)."""
    merged = []
    for b, s in zip(base.tolist(), source.tolist(), strict=True):
        share = 1.0 if s == b else min(1.0, limit / abs(s - b))
        merged.append(share * s + (1 - share) * b)
    return torch.tensor(merged, dtype=torch.float64)


def arcee_fusion(base: Tensor, source: Tensor) -> Tensor:
    """|difference| * KL over rows, and what is 1.5 interquartile ranges above its median (MergeKit's arcee_fusion)."""
    rows = [(base, source)] if base.dim() < 2 else list(zip(base.flatten(0, -2), source.flatten(0, -2), strict=True))
    scores = []
    for row, other in rows:
        p, q = (_softmax(values.flatten().tolist()) for values in (other, row))
        divergence = sum((x + 1e-8) * math.log((x + 1e-8) / (y + 1e-8)) for x, y in zip(p, q, strict=True))
        scores += [
            abs(x - y) * divergence for x, y in zip(other.flatten().tolist(), row.flatten().tolist(), strict=True)
        ]
    ordered = sorted(scores)
    q1, median, q3 = (ordered[int(quantile * (len(ordered) - 1))] for quantile in (0.25, 0.5, 0.75))
    kept = torch.tensor([score >= median + 1.5 * (q3 - q1) for score in scores]).view_as(base)
    return torch.where(kept, source, base)


def _softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def ram(models: Sequence[Sequence[Tensor]], threshold: float, rescale: float, max_ratio: float) -> list[Tensor]:
    """Unique, shared and unchanged elements (Yuan et al. 2026); models[i][p]: parameter p of delta i, counted together."""
    whole = [torch.cat([delta.flatten() for delta in model]).tolist() for model in models]
    columns = list(zip(*whole, strict=True))
    changing = [[i for i, x in enumerate(column) if abs(x) > threshold] for column in columns]
    unique = [sum(who == [i] for who in changing) for i in range(len(models))]
    shared = [sum(i in who and len(who) > 1 for who in changing) for i in range(len(models))]
    merged = []
    for column, who in zip(columns, changing, strict=True):
        if len(who) == 1:
            (i,) = who
            merged.append((1 + rescale * min(max_ratio, shared[i] / unique[i])) * column[i])
        else:
            merged.append(sum(column[i] for i in who) / len(who) if who else 0.0)
    sizes = [delta.numel() for delta in models[0]]
    return list(torch.tensor(merged, dtype=torch.float64).split(sizes))
