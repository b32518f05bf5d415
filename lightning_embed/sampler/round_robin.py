"""`sampler=round_robin`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler


@register("sampler", "round_robin")
@dataclass(frozen=True)
class RoundRobin(Sampler):
    """The datasets in turn, one batch each; a dataset whose rows are used up leaves the circle.

    Small datasets thus stand at the beginning of every epoch and large ones fill its end. Nothing is repeated or
    lost. Where we differ from sentence-transformers' round robin: that one ends the epoch with the smallest dataset.

    Args:
        accumulate: see `Sampler`.
    """

    def order(self, num_steps: Sequence[int], generator: torch.Generator) -> Int[Tensor, " steps"]:
        """See `Sampler.order`; nothing here is random."""
        del generator
        turns = [(turn, dataset) for dataset, count in enumerate(num_steps) for turn in range(count)]
        return torch.tensor([dataset for _, dataset in sorted(turns)], dtype=torch.int64)
