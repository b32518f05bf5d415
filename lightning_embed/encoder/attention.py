"""Packed attention: many texts in one row without padding; every token attends to its own text only.

        padded, 3 x 5             packed, 1 x 9, layout.groups = [(1, 5), (2, 2)]
        a a a a a
        b b . . .                 a a a a a b b c c
        c c . . .

Everything except attention works token by token, so the only other change is position ids that restart with each text.
Attention runs once per group of equally long texts, which are adjacent because a chunk is sorted by length. The
function is registered with transformers: no backbone is rewritten.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PretrainedConfig

from lightning_embed.encoder.cpu_attention import CpuAttention
from lightning_embed.encoder.dropout import kept_scale
from lightning_embed.encoder.layout import Layout

PACKED = "lightning_embed_packed"

# Verified families: packed equals padded, outputs and gradients (tests/encoder/test_packed.py). True: positions start
# after the id of the padding token (RoBERTa) instead of at 0. Other families may mix tokens elsewhere, or compute
# positions themselves, and run padded.
_STARTS_BEHIND_PADDING = {
    "bert": False,
    "camembert": True,
    "distilbert": False,
    "electra": False,
    "mistral": False,
    "modernbert": False,
    "qwen2": False,
    "qwen3": False,
    "roberta": True,
    "xlm-roberta": True,
}

FAMILIES = tuple(_STARTS_BEHIND_PADDING)

_LONG = 1024  # tokens: from this length on, most of a text's saved activations are attention probabilities


def first_position(config: PretrainedConfig) -> int:
    """Position id of a text's first token."""
    return config.pad_token_id + 1 if _STARTS_BEHIND_PADDING.get(config.model_type, False) else 0


@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads total head_dim"],
    key: Float[Tensor, "1 key_heads total head_dim"],
    value: Float[Tensor, "1 key_heads total head_dim"],
    attention_mask: None,  # noqa: ARG001  transformers builds none for a registered attention
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 total heads head_dim"], None]:
    """Attend inside each text.

    `layout` is passed as a keyword of the backbone's forward. It has no default: without it the texts of a row cannot
    be separated.
    """
    causal = bool(getattr(module, "is_causal", False))
    rows = [x[0].transpose(0, 1) for x in (query, key, value)]
    # For long texts without dropout, our own attention would save more for the backward pass than torch's.
    if query.device.type == "cpu" and dropout < 1 and (dropout or layout.longest <= _LONG):
        masks = [layout.mask(length, sliding_window, causal, query.device) for _, length in layout.groups]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        q, k, v = (_own_heads(row, query.shape[1]) for row in rows)
        q, v = q * scale, v * kept_scale(dropout)
        output: Tensor = CpuAttention.apply(q, k, v, layout.groups, masks, dropout)  # type: ignore[no-untyped-call]
        return output[None], None
    sizes = [texts * length for texts, length in layout.groups]
    outputs = []
    for (texts, length), *parts in zip(layout.groups, *(torch.split(row, sizes) for row in rows), strict=True):
        windowed = sliding_window is not None and length > sliding_window
        # The fast kernels support causal attention, but no mask.
        mask = layout.mask(length, sliding_window, causal, query.device) if windowed else None
        q, k, v = (part.unflatten(0, (texts, length)).transpose(1, 2) for part in parts)
        output = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and not windowed,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def _own_heads(row: Float[Tensor, "total key_heads head_dim"], heads: int) -> Float[Tensor, "total heads head_dim"]:
    """Cast to the dtype of autocast; where several query heads share a key, repeat the key for each."""
    if torch.is_autocast_enabled("cpu") and row.dtype is not torch.float64:
        row = row.to(torch.get_autocast_dtype("cpu"))
    return row if row.shape[1] == heads else row.repeat_interleave(heads // row.shape[1], dim=1)


AttentionInterface.register(PACKED, packed_attention)
