"""`encoder.kernel=groups`: one call for each group of equally long texts.

Equally long texts are adjacent because a chunk is sorted by length. On a GPU each call is a launch: 256 texts of 164
lengths need 984 of them for the six layers of MiniLM, and as many backward.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lightning_embed.encoder.cpu_attention import CpuAttention
from lightning_embed.encoder.dropout import kept_scale
from lightning_embed.encoder.kernels.base import Needs
from lightning_embed.encoder.kernels.capped import capped_attention

_LONG = 1024  # tokens: from this length on, most of a text's saved activations are attention probabilities


class Groups:
    """See the module."""

    word: ClassVar[str] = "groups"
    has_dropout: ClassVar[bool] = True

    def refusal(self, needs: Needs) -> str | None:  # noqa: ARG002
        """None: it computes everything."""
        return None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pattern: Any,
        layout: Any,
        *,
        dropout: float = 0.0,
        scaling: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `Kernel`."""
        plain = softcap is None and sinks is None and key.shape[-1] == value.shape[-1]
        # For long texts without dropout, our own attention would save more for the backward pass than torch's.
        if plain and query.device.type == "cpu" and dropout < 1 and (dropout or layout.longest <= _LONG):
            masks = [pattern.mask(length, query.device) for _, length in layout.groups]
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            q, k, v = (_own_heads(row, query.shape[1]) for row in (query, key, value))
            q, v = q * scale, v * kept_scale(dropout) if dropout else v
            output: Tensor = CpuAttention.apply(q, k, v, layout.groups, masks, dropout)  # type: ignore[no-untyped-call]
            return output
        sizes = [texts * length for texts, length in layout.groups]
        rows = (torch.split(row, sizes) for row in (query, key, value))
        outputs = []
        for (texts, length), *parts in zip(layout.groups, *rows, strict=True):
            q, k, v = (part.unflatten(0, (texts, length)).transpose(1, 2) for part in parts)
            if softcap is None and sinks is None:
                causal = pattern.is_causal(length)
                output = scaled_dot_product_attention(
                    q,
                    k,
                    v,
                    # The fast kernels support causal attention, but no mask.
                    attn_mask=pattern.mask(length, query.device) if causal is None else None,
                    dropout_p=dropout,
                    is_causal=bool(causal),
                    scale=scaling,
                    enable_gqa=q.shape[1] != k.shape[1],
                )
            else:
                mask = pattern.mask(length, query.device)
                output = capped_attention(q, k, v, mask, scaling, softcap, sinks, dropout)
            outputs.append(output.transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs)


def _own_heads(row: Tensor, heads: int) -> Tensor:
    """Cast to the dtype of autocast; where several query heads share a key, repeat the key for each."""
    if torch.is_autocast_enabled("cpu") and row.dtype is not torch.float64:
        row = row.to(torch.get_autocast_dtype("cpu"))
    return row if row.shape[1] == heads else row.repeat_interleave(heads // row.shape[1], dim=1)


GROUPS = Groups()
