"""The interface of a sampler: the order of the batches of one epoch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import TrainSet


@dataclass(frozen=True)
class BatchPlan:
    """One batch of a step: this rank's `rows` of `dataset`, and its `weight` in the loss of the step."""

    dataset: str
    rows: Int[Tensor, " rows"]
    weight: float = 1.0
    epoch: int = 0

    # By value: a tensor would reach a worker as shared memory, with the shuffle of its whole dataset behind it.
    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.dataset, self.rows.tolist(), self.weight, self.epoch)


def _unpickled(dataset: str, rows: list[int], weight: float, epoch: int) -> BatchPlan:
    return BatchPlan(dataset, torch.tensor(rows, dtype=torch.int64), weight, epoch)


@dataclass(frozen=True)
class Sampler(ABC):
    """The order of the datasets in an epoch; rows are shuffled within a dataset and used at most once per epoch.

    Args:
        accumulate: batches of a step, all of one dataset. The loss of the step is their mean, which is not the loss of
            one larger batch: in-batch negatives come from the same batch only.
    """

    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigError(f"sampler: accumulate must be at least 1 batch, got {self.accumulate}.")

    @property
    def batches_per_step(self) -> int:
        """Batches of every step."""
        return self.accumulate

    def batch_rows(self, dataset: TrainSet) -> int:
        """Rows of a batch over all ranks."""
        return dataset.batch_size

    @property
    def same_dataset(self) -> int:
        """Batches of a step that must be of one dataset."""
        return self.accumulate

    def fitted(self, name: str, dataset: TrainSet, ranks: int = 1) -> TrainSet:
        """The dataset; with a smaller batch, if its rows do not fill the batches of one step.

        The smaller batch holds all of its rows, but for those that `ranks` and `same_dataset` cannot share equally. The
        number of its batches does not depend on the number of ranks.

        Raises:
            DataError: too few rows for the smallest batch: a row on each rank, and two in all.
        """
        rows = self.batch_rows(dataset)
        fitting = dataset.num_rows // self.same_dataset
        if fitting >= rows:
            return dataset
        fitting -= fitting % ranks
        if fitting < 2:
            raise DataError(
                f"{name}: expected at least {max(2, ranks) * self.same_dataset} train rows (a batch has 2 rows or more "
                f"and one on each of {ranks} ranks, a step {self.same_dataset} batches of a dataset), got "
                f"{dataset.num_rows}. Add rows, or leave the dataset out of the training."
            )
        return replace(dataset, batch_size=fitting * (dataset.batch_size // rows))

    def num_batches(self, datasets: Mapping[str, TrainSet]) -> dict[str, int]:
        """Batches of each dataset in an epoch; 0: left out. Rows that fill no step are not used in that epoch."""
        return {
            name: dataset.num_rows // (self.batch_rows(dataset) * self.accumulate) * self.accumulate
            for name, dataset in datasets.items()
        }

    @abstractmethod
    def order(self, datasets: Mapping[str, TrainSet], generator: torch.Generator) -> Int[Tensor, "steps batches"]:
        """Arrange the batches of an epoch.

        Args:
            datasets: the train sets, by name.
            generator: seeded by (seed, epoch); the same on all ranks.

        Returns:
            The index of the dataset of each batch of each step; dataset `d` occurs `num_batches[d]` times.
        """

    def single_task(self, datasets: Int[Tensor, " steps"]) -> Int[Tensor, "steps batches"]:
        """Steps of `accumulate` batches each, all of the step's dataset."""
        return datasets[:, None].expand(-1, self.accumulate)

    def each_step(self, datasets: Mapping[str, TrainSet]) -> Int[Tensor, " steps"]:
        """The dataset of every single-task step of an epoch, dataset after dataset."""
        steps = [count // self.accumulate for count in self.num_batches(datasets).values()]
        return torch.arange(len(steps)).repeat_interleave(torch.tensor(steps, dtype=torch.int64))
