"""Slow merges on the sphere, written from the formulas with real vectors in float64."""

import math
from collections.abc import Sequence

from torch import Tensor


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


def multislerp(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """MergeKit's steps, one after another (papers.md 2.1.4): mean, tangent vectors at it, exponential map."""
    shares = [weight / sum(weights) for weight in weights]
    units = [vector / vector.norm() for vector in vectors]
    mean = sum(share * unit for share, unit in zip(shares, units, strict=True))
    mean = mean / mean.norm()
    tangents = [unit - (unit @ mean) * mean for unit in units]
    step = sum(share * tangent for share, tangent in zip(shares, tangents, strict=True))
    assert step.norm() < 1e-12  # trap 10: the tangent step is nothing
    direction = exponential(mean, step)
    return direction * sum(share * vector.norm() for share, vector in zip(shares, vectors, strict=True))


def karcher(vectors: Sequence[Tensor], weights: Sequence[float], iterations: int = 1000) -> Tensor:
    """Descent on the sum of squared angles, with the true logarithm and exponential (Karcher 1977)."""
    shares = [weight / sum(weights) for weight in weights]
    units = [vector / vector.norm() for vector in vectors]
    mean = sum(share * unit for share, unit in zip(shares, units, strict=True))
    mean = mean / mean.norm()
    for _ in range(iterations):
        step = mean_logarithm(mean, units, shares)
        if step.norm() < 1e-15:
            break
        mean = exponential(mean, step)
        mean = mean / mean.norm()
    return mean * sum(share * vector.norm() for share, vector in zip(shares, vectors, strict=True))


def mean_logarithm(mean: Tensor, units: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Minus half the gradient of sum_i w_i angle_i^2 on the sphere: zero at the Karcher mean."""
    return sum((share * logarithm(mean, unit) for share, unit in zip(shares, units, strict=True)), 0 * mean)


def logarithm(origin: Tensor, unit: Tensor) -> Tensor:
    """The tangent vector at `origin` that leads to `unit`, as long as their angle."""
    tangent = unit - (unit @ origin) * origin
    length = float(tangent.norm())
    return tangent * (math.atan2(length, float(unit @ origin)) / length) if length else tangent


def exponential(origin: Tensor, tangent: Tensor) -> Tensor:
    """Where a tangent vector at `origin` leads."""
    length = float(tangent.norm())
    return math.cos(length) * origin + math.sin(length) * tangent / length if length else origin
