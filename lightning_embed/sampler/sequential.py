"""`sampler=sequential`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.registry import register
from lightning_embed.sampler.base import Sampler
from lightning_embed.types import TrainSet


class By(StrEnum):
    """dataset: one dataset after the other. task: one task after the other, the batches of its datasets shuffled."""

    dataset = "dataset"
    task = "task"


@register("sampler", "sequential")
@dataclass(frozen=True)
class Sequential(Sampler):
    """One dataset, or one task, after the other, in the order of the config.

    An epoch goes once through the order, so several epochs begin again with the first; a training cut short by
    max_steps never reaches the last ones. The last datasets are remembered best: the baseline that shows
    forgetting.

    Papers: dataset-level and task-level sequential training of BOOM (2026, arXiv 2602.05787), which names them but
    does not define them: one optimiser and one learning-rate schedule over all is our reading.

    Args:
        accumulate: see `Sampler`.
        by: dataset or task. Tasks (and groups) come in the order of their first dataset.
    """

    by: By = By.dataset

    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """See `Sampler.order`."""
        keys = [dataset.task if self.by == By.task else name for name, dataset in datasets.items()]
        place = torch.tensor([keys.index(key) for key in keys])
        steps = self.each_step(datasets)
        steps = steps[torch.randperm(len(steps), generator=generator)]
        return self.single_task(steps[place[steps].argsort(stable=True)])
