"""`sampler=two_stage`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler
from lightning_embed.types import Task, TrainSet


@register("sampler", "two_stage")
@dataclass(frozen=True)
class TwoStage(Sampler):
    """First retrieval alone, then all tasks shuffled, with the remaining retrieval batches.

    Both stages together are one epoch, in which no row is taken twice; several epochs begin again with the first stage,
    and a training cut short by max_steps may never reach the second. Batches are in random order within a stage.
    Datasets of a different `group` are not retrieval here. An expert without retrieval has the second stage only.

    Papers: after NV-Embed (Lee et al. 2024, arXiv 2405.17428), whose first stage is retrieval and whose second blends
    in the other tasks; a baseline of BOOM (2026, arXiv 2602.05787), which does not define it. Our reading: the second
    stage does not see the first one's rows again, both share one learning-rate schedule, and in-batch negatives are
    the choice of each task's loss (NV-Embed's second stage has none).

    Args:
        accumulate: see `Sampler`.
        first_share: share of the retrieval batches that the first stage takes, in [0, 1]; 1: the second stage has no
            retrieval, 0: no first stage, as batch_shuffle.

    Raises:
        ConfigError: a value out of range.
    """

    first_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.first_share <= 1:
            raise ConfigError(f"two_stage: first_share must be in [0, 1], got {self.first_share}.")

    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """See `Sampler.order`."""
        steps = self.each_step(datasets)
        steps = steps[torch.randperm(len(steps), generator=generator)]
        retrieval = torch.tensor([dataset.task == Task.retrieval for dataset in datasets.values()])[steps]
        first = retrieval & (retrieval.cumsum(0) <= round(self.first_share * int(retrieval.sum())))
        # Shuffled anew: the remaining retrieval batches come after those of the first stage, so at the end.
        second = steps[~first][torch.randperm(int((~first).sum()), generator=generator)]
        return self.single_task(torch.cat([steps[first], second]))
