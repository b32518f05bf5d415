"""Pairwise ranking loss of pairs with scores, for any similarity."""

import torch
from jaxtyping import Float
from torch import Tensor


def order_loss(similarity: Float[Tensor, " rows"], score: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """log( 1 + sum over y_i < y_j of exp( s_i - s_j ) ); the similarities are already divided by the temperature."""
    lower = score[:, None] < score[None, :]
    differences = (similarity[:, None] - similarity[None, :]).masked_fill(~lower, -torch.inf)
    return torch.logsumexp(torch.cat([similarity.new_zeros(1), differences.flatten()]), 0)
