"""Attention step by step, for what no fused kernel of torch has: capped scores and sinks."""

import torch
from jaxtyping import Float
from torch import Tensor


def capped_attention(
    query: Float[Tensor, "texts heads length head_dim"],
    key: Float[Tensor, "texts key_heads length head_dim"],
    value: Float[Tensor, "texts key_heads length value_dim"],
    mask: Tensor | None,
    scaling: float | None,
    cap: float | None,
    sinks: Float[Tensor, " heads"] | None,
    dropout: float,
) -> Float[Tensor, "texts heads length value_dim"]:
    """Attention with capped scores, cap tanh(s / cap) (Gemma 2), and with a learned sink per head (gpt-oss).

    A sink is one more key without a value: a token may attend to nothing.
    """
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].to(scores).expand(*scores.shape[:-1], 1)], -1)
    shares = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)[..., : value.shape[2]]
    return torch.dropout(shares, dropout, train=dropout > 0) @ value
