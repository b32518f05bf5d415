"""merge=halfway."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Law, MergeStrategy, Plan
from lightning_embed.registry import register


@register("merge", "halfway")
@dataclass(frozen=True)
class Halfway(MergeStrategy):
    """The mean of the sources, half of the way from the base.

        merged = base + share * (mean_i source_i - base)

    Args:
        share: of the way, in [0, 1].

    Raises:
        ConfigError: a share out of range.
    """

    needs_base = True
    laws = frozenset({Law.permutation, Law.scale})  # copies of a model do not give it back: half of the way only

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise ConfigError(f"halfway: share must be in [0, 1], got {self.share}.")

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        """One block of one parameter: `tensors` has it from all sources, in float32."""
        assert base is not None
        return base + self.share * (tensors.mean(0) - base)
