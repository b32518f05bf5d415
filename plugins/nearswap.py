"""merge=nearswap."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Law, MergeStrategy, Plan
from lightning_embed.registry import register


@register("merge", "nearswap")
@dataclass(frozen=True)
class NearSwap(MergeStrategy):
    """The base, in which elements that are near those of one source become the source's.

        share  = min(1, limit / |delta|)              for each element, delta = source - base
        merged = base + share * delta

    which is the base plus the delta cut off at -limit and limit: near elements are swapped, far ones move by `limit`.

    alchemonaut (2024), https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001, and MergeKit's operator of this
    name; limit is their t. Where we differ from MergeKit: |delta| is not raised to 1e-6 where it is smaller, so that a
    limit below 1e-6 acts as the formula says.

    It obeys none of the laws of copies: far elements stay near the base, and the limit does not scale with the deltas.

    Args:
        limit: largest change of an element, at least 0; in the unit of the weights, usually 1e-5 to 1e-3.

    Raises:
        ConfigError: a limit below 0.
    """

    needs_base = True
    num_sources: ClassVar[range] = range(1, 2)
    laws = frozenset({Law.permutation})

    limit: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.limit >= 0:
            raise ConfigError(f"merge=nearswap: limit={self.limit} must be at least 0.")

    def merge(
        self,
        name: str,
        tensors: Float[Tensor, " sources *shape"],
        base: Float[Tensor, "*shape"] | None,
        plan: Plan,
        generator: torch.Generator,
    ) -> Float[Tensor, "*shape"]:
        """The base plus the delta within its limits."""
        assert base is not None
        return (tensors[0] - base).clamp_(-self.limit, self.limit).add_(base)
