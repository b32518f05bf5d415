"""The contract of a sampler: the order of the steps of one epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.types import Task


@dataclass(frozen=True)
class Feed:
    """What a sampler knows of a dataset: its task, its rows, and how many rows a batch takes over all ranks."""

    task: Task
    num_rows: int
    batch_size: int


@dataclass(frozen=True)
class BatchPlan:
    """One batch of a step: this rank's `rows` of `dataset`, and its `weight` in the loss of the step."""

    dataset: str
    rows: Int[Tensor, " rows"]
    weight: float = 1.0
    epoch: int = 0


@dataclass(frozen=True)
class Sampler(ABC):
    """Decides which dataset each step of an epoch takes; rows are shuffled within a dataset and used at most once.

    Args:
        accumulate: batches of a step. They come from the same dataset and the loss of the step is their mean, which
            is not the loss of one larger batch: in-batch losses see only their own batch.
    """

    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigError(f"sampler: accumulate must be at least 1 batch, got {self.accumulate}.")

    @abstractmethod
    def order(self, num_steps: Sequence[int], generator: torch.Generator) -> Int[Tensor, " steps"]:
        """Arrange the steps of an epoch.

        Args:
            num_steps: steps that each dataset has rows for.
            generator: seeded by (seed, epoch); the same on all ranks.

        Returns:
            The number of the dataset of each step; dataset `d` stands `num_steps[d]` times in it.
        """

    def num_steps(self, feeds: Mapping[str, Feed]) -> dict[str, int]:
        """Steps that each dataset has rows for in an epoch; the remainder of its rows rests until the next shuffle."""
        return {name: feed.num_rows // (feed.batch_size * self.accumulate) for name, feed in feeds.items()}
