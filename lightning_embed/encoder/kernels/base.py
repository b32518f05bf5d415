"""The contract of a kernel: what a model needs of it, and how it is called."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, no_type_check, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.encoder.window import Window


@dataclass(frozen=True)
class Call:
    """What a layer asks of its attention.

    Args:
        head_dim: numbers of a query and of a key.
        value_dim: numbers of a value.
        dropout: share of the probabilities that is dropped in training.
        capped: scores are capped, cap tanh(s / cap).
        sinks: there is a learned sink per head.
    """

    head_dim: int
    value_dim: int
    dropout: float = 0.0
    capped: bool = False
    sinks: bool = False


@dataclass(frozen=True)
class Needs:
    """What the layers of one kind need.

    Args:
        device: type of the device.
        dtype: of the computation.
        window: of their rule; None: it is no window.
        call: what they ask for; its dropout is 0 outside of training.
    """

    device: str
    dtype: torch.dtype
    window: Window | None
    call: Call


@runtime_checkable
class Kernel(Protocol):
    """Computes the attention inside each text of a packed row."""

    word: ClassVar[str]
    has_dropout: ClassVar[bool]

    def refusal(self, needs: Needs) -> str | None:
        """What it needs and does not have, as the end of "it needs ..."; None: it can. Dropout is not asked about."""

    def __call__(
        self,
        query: Float[Tensor, "total heads head_dim"],
        key: Float[Tensor, "total key_heads head_dim"],
        value: Float[Tensor, "total key_heads value_dim"],
        pattern: Any,
        layout: Any,
        *,
        dropout: float = 0.0,
        scaling: float | None = None,
        softcap: float | None = None,
        sinks: Float[Tensor, " heads"] | None = None,
    ) -> Float[Tensor, "total heads value_dim"]:
        """Attend. `pattern` is the `Pattern` of the layer, `layout` the `Layout` of the row."""


@no_type_check  # as packed_attention
def of_autocast(*rows: Tensor) -> list[Tensor]:
    """Cast to the dtype of autocast, which does not know the operators of the kernels."""
    device = rows[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(rows)
    return [row.to(torch.get_autocast_dtype(device)) for row in rows]


def share_heads(heads: int, *rows: Float[Tensor, "total _ _"]) -> list[Tensor]:
    """Repeat each key or value for the query heads that share it."""
    return [row if row.shape[1] == heads else row.repeat_interleave(heads // row.shape[1], dim=1) for row in rows]
