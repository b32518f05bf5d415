"""Rows of each step on each rank, in a sampler's order, from any step on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

import torch
from jaxtyping import Int
from torch import Tensor

from lightning_embed.errors import DataError
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.sampler.base import BatchPlan, Sampler
from lightning_embed.types import TrainSet


@dataclass
class StepSampler:
    """The batch sampler that a DataLoader iterates: one item per step, a list of `BatchPlan` with this rank's rows.

    Everything is arithmetic on (seed, epoch, step): the stream of global batches is the same for any number of ranks,
    each rank takes its slice of every batch, and `first_step` (the trainer's global step) is all that resuming needs.

    Raises:
        DataError: the rows do not fill one step.
    """

    schedule: Sampler
    datasets: Mapping[str, TrainSet]
    seed: int
    rank: int = 0
    world_size: int = 1
    first_step: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        self.num_batches = self.schedule.num_batches(self.datasets)
        if not len(self):
            sizes = ", ".join(f"{n}: {d.num_rows} rows, batch {d.batch_size}" for n, d in self.datasets.items())
            raise DataError(
                f"The datasets do not fill one step, batches of a step: {self.schedule.batches_per_step} ({sizes}): "
                "lower batch_size or accumulate."
            )

    @property
    def sampler(self) -> "StepSampler":
        """Itself: Lightning calls `set_epoch` on the batch sampler's `.sampler`, not on the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields (Lightning calls it on `.sampler`)."""
        self.epoch = epoch

    def after(self, steps: int) -> "StepSampler":
        """The rest of the epoch, `steps` steps later than this begins it."""
        return replace(self, first_step=max(self.first_step, self.epoch * len(self)) + steps)

    def __len__(self) -> int:
        return sum(self.num_batches.values()) // self.schedule.batches_per_step

    def num_steps(self, max_steps: int, max_epochs: int | None) -> int:
        """Steps of a training with these limits (-1 or None: no limit); the first limit reached ends it."""
        limits = [max_steps, (-1 if max_epochs is None else max_epochs) * len(self)]
        return min((limit for limit in limits if limit >= 0), default=0)

    def num_rows(self, max_steps: int, max_epochs: int | None) -> float:
        """Rows processed by a training with these limits, repetitions included, at the mean batch size of an epoch."""
        rows = sum(count * self.schedule.batch_rows(self.datasets[name]) for name, count in self.num_batches.items())
        return self.num_steps(max_steps, max_epochs) * rows / len(self)

    def __iter__(self) -> Iterator[list[BatchPlan]]:
        names = list(self.datasets)
        rows = [self.shuffled(name, self.epoch) for name in names]  # constant memory: a place is computed when needed
        order = self.order(self.epoch)
        done = max(0, self.first_step - self.epoch * len(self))
        turns = [count(taken) for taken in order[:done].flatten().bincount(minlength=len(names)).tolist()]
        for step in range(done, len(order)):
            yield [self._batch(names[d], rows[d], next(turns[d])) for d in order[step].tolist()]

    def first_batches(self) -> list[BatchPlan]:
        """The first batch of every dataset of the epoch, at any place in the order."""
        return [
            self._batch(name, self.shuffled(name, self.epoch), 0) for name, number in self.num_batches.items() if number
        ]

    def order(self, epoch: int) -> Int[Tensor, "steps batches"]:
        """The index of the dataset of each batch of each step of an epoch."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        return self.schedule.order(self.datasets, generator)

    def shuffled(self, name: str, epoch: int) -> Permutation:
        """The order of the rows of a dataset in an epoch."""
        return Permutation(self.datasets[name].num_rows, derive_seed(self.seed, "rows", epoch, name))

    def _batch(self, name: str, rows: Permutation, turn: int) -> BatchPlan:
        size = self.schedule.batch_rows(self.datasets[name])
        local = size // self.world_size
        chosen = torch.from_numpy(rows.first(local, start=turn * size + self.rank * local))
        return BatchPlan(name, chosen, 1 / self.schedule.batches_per_step, self.epoch)
