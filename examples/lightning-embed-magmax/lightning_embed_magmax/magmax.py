"""merge=magmax."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_embed.merge import Law, MergeStrategy, Plan
from lightning_embed.registry import register


@register("merge", "magmax")
@dataclass(frozen=True)
class MagMax(MergeStrategy):
    """Of every element the delta that is largest in magnitude.

        merged = base + scale * delta_m,    m = argmax_i |delta_i|, element by element

    Marczak et al. (2024), "MagMax: leveraging model merging for seamless continual learning", arXiv 2407.06322. Of equal
    magnitudes the first source's counts.

    Args:
        scale: of the chosen deltas, usually 0.5 to 1.
    """

    needs_base = True
    laws = frozenset(Law)

    scale: float = 1.0

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        """Choose."""
        assert base is not None
        deltas = tensors - base
        chosen = deltas.gather(0, deltas.abs().argmax(0, keepdim=True))[0]
        return base + self.scale * chosen
