"""`sampler=batch_shuffle`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler
from lightning_embed.types import TrainSet


@register("sampler", "batch_shuffle")
@dataclass(frozen=True)
class BatchShuffle(Sampler):
    """Dynamic single-task batches: the batches of all datasets in one random order.

    Every step takes rows of one dataset, with that dataset's own batch size, on all ranks. A dataset's share of the
    steps is its share of the batches.

    Papers: "batch-level shuffling" of BOOM (2026, arXiv 2602.05787); the dynamic sampler of CoDiEmb (2025, arXiv
    2508.11442). Where we differ: with accumulation all rows of a step are used (the published CoDiEmb code
    uses only the first batch).

    Args:
        accumulate: see `Sampler`.
    """

    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """See `Sampler.order`."""
        steps = self.each_step(datasets)
        return self.single_task(steps[torch.randperm(len(steps), generator=generator)])
