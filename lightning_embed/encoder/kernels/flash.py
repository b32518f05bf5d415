"""`encoder.kernel=flash`: the attention of the package flash_attn, which has dropout and capped scores.

Dao 2023, arXiv 2307.08691.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_embed.encoder.kernels.base import Needs, of_autocast
from lightning_embed.encoder.kernels.varlen import flash_refusal


class Flash:
    """See the module."""

    word: ClassVar[str] = "flash"
    has_dropout: ClassVar[bool] = True

    def refusal(self, needs: Needs) -> str | None:
        """See `Kernel`."""
        return flash_refusal(needs) if is_installed() else "the package flash_attn, which is not installed"

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
        from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

        assert sinks is None
        q, k, v = of_autocast(query, key, value)
        starts, longest, window = layout.starts, layout.longest, pattern.window
        output: Tensor = flash_attn_varlen_func(
            q, k, v, starts, starts, longest, longest,
            dropout_p=dropout, softmax_scale=scaling, causal=window.right == 0, window_size=tuple(window),
            softcap=softcap or 0.0,
        )  # fmt: skip
        return output


@cache
def is_installed() -> bool:
    """Whether the package is there."""
    return find_spec("flash_attn") is not None
