"""Packed attention: many texts in one row without padding; every token attends to its own text only.

        padded, 3 x 5             packed, 1 x 9, layout.groups = [(1, 5), (2, 2)]
        a a a a a
        b b . . .                 a a a a a b b c c
        c c . . .

Everything except attention works token by token, so the only other change is position ids that restart with each text.
Attention runs once per group of equally long texts, which are adjacent because a chunk is sorted by length. The
function, and its masks, are registered with transformers: no backbone is rewritten. Whether a model can run so is
measured when it is opened (packing.py).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from lightning_embed.encoder.cpu_attention import CpuAttention
from lightning_embed.encoder.dropout import kept_scale
from lightning_embed.encoder.layout import Layout, Pattern, pattern

PACKED = "lightning_embed_packed"

_LONG = 1024  # tokens: from this length on, most of a text's saved activations are attention probabilities

# Arguments of a family's attention without effect on its result: masks and positions are in the row already.
_WITHOUT_EFFECT = {
    "cache_position",
    "deterministic",
    "head_mask",
    "is_causal",
    "output_attentions",
    "output_hidden_states",
    "position_ids",
    "return_dict",
    "sliding_window",
    "token_type_ids",
    "use_cache",
}


@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(
    module: nn.Module,  # noqa: ARG001  the first argument of any attention function
    query: Float[Tensor, "1 heads total head_dim"],
    key: Float[Tensor, "1 key_heads total head_dim"],
    value: Float[Tensor, "1 key_heads total value_dim"],
    attention_mask: Pattern,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 total heads value_dim"], None]:
    """Attend inside each text.

    `layout` is passed as a keyword of the backbone's forward. It has no default: without it the texts of a row cannot
    be separated.

    Raises:
        TypeError: a mask that transformers did not describe by a rule, or an argument that is not known here.
    """
    if not isinstance(attention_mask, Pattern):
        raise TypeError("its masks are its own")
    if unknown := [name for name, given in others.items() if given is not None and name not in _WITHOUT_EFFECT]:
        raise TypeError(f"its attention has {', '.join(unknown)}")
    rows = [x[0].transpose(0, 1) for x in (query, key, value)]
    plain = softcap is None and s_aux is None and key.shape[-1] == value.shape[-1]
    # For long texts without dropout, our own attention would save more for the backward pass than torch's.
    if plain and query.device.type == "cpu" and dropout < 1 and (dropout or layout.longest <= _LONG):
        masks = [attention_mask.mask(length, query.device) for _, length in layout.groups]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        q, k, v = (_own_heads(row, query.shape[1]) for row in rows)
        q, v = q * scale, v * kept_scale(dropout) if dropout else v
        output: Tensor = CpuAttention.apply(q, k, v, layout.groups, masks, dropout)  # type: ignore[no-untyped-call]
        return output[None], None
    sizes = [texts * length for texts, length in layout.groups]
    outputs = []
    for (texts, length), *parts in zip(layout.groups, *(torch.split(row, sizes) for row in rows), strict=True):
        q, k, v = (part.unflatten(0, (texts, length)).transpose(1, 2) for part in parts)
        if softcap is None and s_aux is None:
            causal = attention_mask.is_causal(length)
            output = scaled_dot_product_attention(
                q,
                k,
                v,
                # The fast kernels support causal attention, but no mask.
                attn_mask=attention_mask.mask(length, query.device) if causal is None else None,
                dropout_p=dropout,
                is_causal=bool(causal),
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        else:
            output = _capped(q, k, v, attention_mask.mask(length, query.device), scaling, softcap, s_aux, dropout)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def _capped(
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


def _own_heads(row: Float[Tensor, "total key_heads head_dim"], heads: int) -> Float[Tensor, "total heads head_dim"]:
    """Cast to the dtype of autocast; where several query heads share a key, repeat the key for each."""
    if torch.is_autocast_enabled("cpu") and row.dtype is not torch.float64:
        row = row.to(torch.get_autocast_dtype("cpu"))
    return row if row.shape[1] == heads else row.repeat_interleave(heads // row.shape[1], dim=1)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, pattern)
