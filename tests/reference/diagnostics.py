"""Slow versions of what the diagnostics measure, in float64 with plain loops, from the formulas of their docstrings."""

import math
from collections.abc import Sequence

import numpy as np


def cosine_and_sign_share(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Of two gradients, coordinate by coordinate."""
    product = first_square = second_square = 0.0
    opposite = 0
    for a, b in zip(first, second, strict=True):
        product += a * b
        first_square += a * a
        second_square += b * b
        opposite += (a > 0 > b) or (a < 0 < b)
    return product / math.sqrt(first_square * second_square), opposite / len(first)


def alignment(x: np.ndarray, y: np.ndarray) -> float:
    """Mean squared distance of pairs."""
    return sum(sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) for s, t in zip(x, y, strict=True)) / len(x)


def uniformity(x: np.ndarray) -> float:
    """Gaussian potential over ordered pairs."""
    terms = [
        math.exp(-2 * sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True)))
        for i in range(len(x))
        for j in range(len(x))
        if i != j
    ]
    return math.log(sum(terms) / len(terms))


def token_geometry(states: np.ndarray) -> dict[str, float]:
    """Token-space measures, with numpy's singular values and rank."""
    cosines = [
        states[i] @ states[j] / (np.linalg.norm(states[i]) * np.linalg.norm(states[j]))
        for i in range(len(states))
        for j in range(len(states))
        if i != j
    ]
    rank = int(np.linalg.matrix_rank(states))
    s = np.linalg.svd(states, compute_uv=False)[:rank]
    p = [value / sum(s) for value in s]
    return {
        "token_similarity": sum(cosines) / len(cosines),
        "rank": float(rank),
        "svd_entropy": -sum(value * math.log(value) for value in p),
        "condition_number": s[0] / s[-1],
    }
