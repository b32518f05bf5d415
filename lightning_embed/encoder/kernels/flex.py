"""`encoder.kernel=flex`: FlexAttention with the texts as blocks, for any rule and for capped scores.

Dong et al. 2024, arXiv 2412.05496. Triton compiles it at the first step, which takes some seconds.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar, no_type_check

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from lightning_embed.encoder.kernels.base import Needs, of_autocast

_BLOCK = 128  # tokens


class Flex:
    """See the module."""

    word: ClassVar[str] = "flex"
    has_dropout: ClassVar[bool] = False

    def refusal(self, needs: Needs) -> str | None:
        """See `Kernel`."""
        if needs.device != "cuda" or find_spec("triton") is None:
            return "attention on a device other than a CUDA GPU with Triton"
        if needs.call.sinks:
            return "sinks of attention"
        return f"heads of {dim}, less than 16" if (dim := needs.call.head_dim) < 16 else None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pattern: Any,
        layout: Any,
        *,
        dropout: float = 0.0,  # noqa: ARG002  said when the kernel is chosen
        scaling: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `Kernel`."""
        assert sinks is None
        q, k, v = (row.transpose(0, 1)[None] for row in of_autocast(query, key, value))
        blocks = layout.shared(("blocks", pattern), lambda: _blocks(pattern, layout))
        attend = flex_attention if query.device.type == "cpu" else _compiled()
        output: Tensor = attend(
            q, k, v,
            score_mod=None if softcap is None else _cap(softcap), block_mask=blocks,
            scale=scaling, enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        return output[0].transpose(0, 1)


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)


@cache
def _cap(cap: float) -> Any:
    @no_type_check  # as packed_attention
    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return capped


def _blocks(pattern: Any, layout: Any) -> BlockMask:
    """The blocks of keys that the queries of each block may see: those of their texts, which are adjacent.

    Made of the lengths on the CPU. (torch's own `create_block_mask` looks at every pair of tokens of the row.)
    """
    ends = torch.tensor(layout.sizes).cumsum(0)
    total = int(ends[-1])
    first = torch.arange(0, total, _BLOCK)
    last = (first + _BLOCK).clamp(max=total) - 1
    low = torch.nn.functional.pad(ends, (1, 0))[torch.searchsorted(ends, first, right=True)] // _BLOCK
    high = (ends[torch.searchsorted(ends, last, right=True)] - 1) // _BLOCK
    counts = high - low + 1
    indices = (low[:, None] + torch.arange(len(first))).clamp(max=len(first) - 1)
    text, position, device, rule = layout.text, layout.position, layout.text.device, pattern.rule

    @no_type_check  # as packed_attention
    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (text[query] == text[key]) & rule(0, 0, position[query], position[key])

    counts, indices = (part[None, None].int().to(device, non_blocking=True) for part in (counts, indices))
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        BLOCK_SIZE=_BLOCK,
        mask_mod=seen,
        seq_lengths=(total, total),
    )
