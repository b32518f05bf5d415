"""Pooling of token embeddings into one embedding per text. Texts are concatenated, without padding."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_embed.encoder.options import Pooling


def pool(
    hidden: Float[Tensor, "total dim"],
    text: Int[Tensor, " total"],
    position: Int[Tensor, " total"],
    lengths: Int[Tensor, " texts"],
    pooling: Pooling,
) -> Float[Tensor, "texts dim"]:
    """Pool the tokens of each text, in float32 at least.

        mean             1/n sum_t h_t
        weighted_mean    sum_t t h_t / sum_t t,  t = 1 .. n   (Muennighoff 2022, SGPT, arXiv 2202.08904)
        cls, last_token  h_1, h_n

    Args:
        hidden: token embeddings.
        text: index of the text of each token.
        position: position of each token in its text, from 0.
        lengths: tokens of each text.
        pooling: one of the above.
    """
    last = lengths.cumsum(0) - 1
    match pooling:
        case Pooling.cls:
            return _widen(hidden[last + 1 - lengths])
        case Pooling.last_token:
            return _widen(hidden[last])
        case Pooling.weighted_mean:
            hidden = _widen(hidden) * (position + 1)[:, None]
            total = lengths * (lengths + 1) / 2
        case _:
            hidden, total = _widen(hidden), lengths
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, text, hidden)
    return sums / total[:, None]


def _widen(hidden: Tensor) -> Tensor:
    """bfloat16 and float16 to float32: sums over tokens need the precision."""
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))
