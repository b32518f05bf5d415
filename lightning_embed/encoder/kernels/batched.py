"""`encoder.kernel=batched`: the texts of a row padded to the longest of them, for attention alone.

Everything else of a layer runs without padding. It computes what no other kernel has, on any device: rules that are no
window, capped scores, sinks, dropout, float32.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lightning_embed.encoder.kernels.base import Needs, of_autocast, share_heads
from lightning_embed.encoder.kernels.capped import capped_attention
from lightning_embed.encoder.window import CAUSAL


class Batched:
    """See the module."""

    word: ClassVar[str] = "batched"
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
        place = layout.shared("place", lambda: layout.text * layout.longest + layout.position)
        shape = len(layout.sizes), layout.longest
        rows = of_autocast(query, *share_heads(query.shape[1], key, value))
        q, k, v = (_padded(row, place, shape) for row in rows)
        # behind its text, a causal text has padding only
        causal = pattern.window == CAUSAL and softcap is None and sinks is None
        mask = None if causal else layout.shared(("mask", pattern), lambda: _mask(pattern, layout))
        if softcap is None and sinks is None:
            output = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scaling
            )
        else:
            output = capped_attention(q, k, v, mask, scaling, softcap, sinks, dropout)
        flat: Tensor = output.transpose(1, 2).flatten(0, 1).index_select(0, place)
        return flat


def _padded(row: Tensor, place: Tensor, shape: tuple[int, int]) -> Tensor:
    """(texts, heads, longest, dim) of (total, heads, dim), with zeros as padding."""
    padded = row.new_zeros(shape[0] * shape[1], *row.shape[1:]).index_copy(0, place, row)
    return padded.view(*shape, *row.shape[1:]).transpose(1, 2)


def _mask(pattern: Any, layout: Any) -> Tensor:
    """(texts, 1, longest or 1, longest). Padding sees all keys: a query without a key would have no probabilities."""
    place = torch.arange(layout.longest, device=layout.position.device)
    inside = place < layout.starts.diff()[:, None]
    keys: Tensor = inside[:, None, None]
    if (window := pattern.window) is not None:
        if window.left < 0 and window.right < 0:
            return keys
        distance = place[:, None] - place
        seen = distance <= (window.left if window.left >= 0 else layout.longest)
        seen = seen & (-distance <= (window.right if window.right >= 0 else layout.longest))
    elif (seen := pattern.mask(layout.longest, place.device)) is None:
        return keys
    mask: Tensor = (keys & seen) | ~inside[:, None, :, None]
    return mask
