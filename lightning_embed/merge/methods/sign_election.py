"""Sign election: where deltas have opposite signs, the side with the larger sum is kept."""

from collections.abc import Sequence
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor


class Combine(StrEnum):
    """linear: the weighted mean of all deltas, zeros included. ties: the mean of the deltas with the elected sign."""

    linear = "linear"
    ties = "ties"


def elected(
    deltas: Float[Tensor, " sources *shape"], weights: Float[Tensor, " sources"]
) -> Float[Tensor, " sources *shape"]:
    """1 where a delta has the sign of sum_i w_i delta_i, 0 elsewhere and for zeros. A balanced vote elects no sign."""
    votes = weights / weights.max()  # equal weights are exactly 1, so that opposite deltas add up to exactly 0
    return torch.mul(deltas, torch.tensordot(votes, deltas, dims=1).sign_()).gt_(0)


def disjoint_mean(
    deltas: Float[Tensor, " sources *shape"],
    chosen: Float[Tensor, " sources *shape"],
    weights: Float[Tensor, " sources"],
) -> Float[Tensor, "*shape"]:
    """Weighted mean, per element, of the deltas with a 1 in `chosen`; 0 where none has it. Overwrites `chosen`."""
    total: Tensor = torch.tensordot(weights, chosen, dims=1)
    summed: Tensor = torch.tensordot(weights, chosen.mul_(deltas), dims=1)
    return summed.div_(total.add_(total.eq(0)))


def fuse(deltas: Float[Tensor, " sources *shape"], weights: Sequence[float], how: Combine) -> Float[Tensor, "*shape"]:
    """The weighted mean of the deltas, by `how`. `weights` are not negative, and not all zero."""
    shares = deltas.new_tensor(weights)
    if how == Combine.ties:
        return disjoint_mean(deltas, elected(deltas, shares), shares)
    mean: Tensor = torch.tensordot(shares / shares.sum(), deltas, dims=1)
    return mean
