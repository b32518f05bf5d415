"""`encoder.kernel=varlen`: torch's attention for texts of any lengths in one call (FlashAttention-2).

Dao 2023, arXiv 2307.08691. Windows and shared keys, no dropout.
"""

from functools import cache
from inspect import signature
from typing import Any, ClassVar, no_type_check

import torch
from torch import Tensor

from lightning_embed.encoder.kernels.base import Needs, of_autocast

varlen_attn: Any
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None
_HAS_IT = varlen_attn is not None and {"window_size", "enable_gqa"} <= signature(varlen_attn).parameters.keys()


class Varlen:
    """See the module. It needs no `torch.compiler.disable`: the call is one operator of a compiled layer."""

    word: ClassVar[str] = "varlen"
    has_dropout: ClassVar[bool] = False

    def refusal(self, needs: Needs) -> str | None:
        """See `Kernel`."""
        if not _HAS_IT:
            return "attention of texts of any lengths with windows, which this version of torch does not have"
        if needs.call.capped:
            return "capped scores"
        return flash_refusal(needs)

    @no_type_check  # as packed_attention
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
        assert softcap is None
        assert sinks is None
        q, k, v = of_autocast(query, key, value)
        starts, longest = layout.starts, layout.longest
        output: Tensor = varlen_attn(
            q, k, v, starts, starts, longest, longest,
            scale=scaling, window_size=tuple(pattern.window), enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        return output


def flash_refusal(needs: Needs) -> str | None:
    """What FlashAttention-2 does not have, of what is needed."""
    call = needs.call
    if needs.device != "cuda" or not _is_new_enough():
        return "attention on a device other than a CUDA GPU of compute capability 8.0 or more"
    if needs.dtype not in (torch.bfloat16, torch.float16):
        return f"{str(needs.dtype).removeprefix('torch.')}, and the kernel computes in 16 bits (encoder.dtype=bfloat16)"
    if call.head_dim != call.value_dim or call.head_dim % 8 or call.head_dim > 256:
        return f"heads of {call.head_dim} and {call.value_dim}, and the kernel has equal ones, multiples of 8 up to 256"
    if call.sinks:
        return "sinks of attention"
    return "a mask that is no window" if needs.window is None else None


@cache
def _is_new_enough() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
