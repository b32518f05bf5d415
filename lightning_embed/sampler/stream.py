"""From a sampler's order to the rows of each step, on each rank, from any step on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from lightning_embed.errors import DataError
from lightning_embed.sampler.base import BatchPlan, Feed, Sampler
from lightning_embed.seeding import derive_seed


@dataclass
class StepSampler:
    """The batch sampler that a DataLoader iterates: one item per step, a list of `BatchPlan` with this rank's rows.

    Everything is arithmetic on (seed, epoch, step): the stream of global batches is the same for any number of ranks,
    each rank takes its slice of every batch, and `first_step` (the trainer's global step) is all that resuming needs.

    Raises:
        DataError: no dataset has rows for one step.
    """

    schedule: Sampler
    feeds: Mapping[str, Feed]
    seed: int
    rank: int = 0
    world_size: int = 1
    first_step: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        self.num_steps = self.schedule.num_steps(self.feeds)
        if not len(self):
            sizes = ", ".join(f"{n}: {f.num_rows} rows, batch {f.batch_size}" for n, f in self.feeds.items())
            raise DataError(
                f"No dataset fills one step of {self.schedule.accumulate} x batch_size rows ({sizes}): lower batch_size."
            )

    @property
    def sampler(self) -> "StepSampler":
        """Itself: Lightning calls `set_epoch` on the batch sampler's `.sampler`, not on the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields (Lightning calls it on `.sampler`)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.num_steps.values())

    def __iter__(self) -> Iterator[list[BatchPlan]]:
        done = self.first_step - self.epoch * len(self)
        order = self._order()
        names, turns = list(self.feeds), dict.fromkeys(self.feeds, 0)
        rows = {name: self._shuffled(name) for name in names}
        for step, dataset in enumerate(order.tolist()):
            name = names[dataset]
            if step >= done:
                yield self._step(name, rows[name], turns[name])
            turns[name] += 1

    def _order(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        return self.schedule.order(list(self.num_steps.values()), generator)

    def _shuffled(self, name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "rows", self.epoch, name))
        return torch.randperm(self.feeds[name].num_rows, generator=generator)

    def _step(self, name: str, rows: torch.Tensor, turn: int) -> list[BatchPlan]:
        size, accumulate = self.feeds[name].batch_size, self.schedule.accumulate
        batches = rows[turn * size * accumulate : (turn + 1) * size * accumulate].reshape(accumulate, size)
        local = size // self.world_size
        mine = slice(self.rank * local, (self.rank + 1) * local)
        return [BatchPlan(name, batch[mine], 1 / accumulate, self.epoch) for batch in batches]
