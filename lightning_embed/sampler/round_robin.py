"""`sampler=round_robin`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler
from lightning_embed.types import TrainSet


@register("sampler", "round_robin")
@dataclass(frozen=True)
class RoundRobin(Sampler):
    """The datasets in turn, one batch each; a dataset whose rows are used up drops out.

    Small datasets thus occur at the beginning of every epoch, and large ones fill its end. No batch is repeated or
    dropped. Where we differ from sentence-transformers' round robin: that one ends the epoch with the smallest dataset.

    Args:
        accumulate: see `Sampler`.
    """

    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """See `Sampler.order`; deterministic."""
        del generator
        steps = self.each_step(datasets)
        turns = torch.cat([torch.arange(count) for count in steps.bincount().tolist()])
        return self.single_task(steps[turns.argsort(stable=True)])
