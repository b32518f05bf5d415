"""Loaders of steps, one of which chooses its number of worker processes by measurement."""

import logging
import math
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from torch.utils.data import DataLoader

from lightning_embed.sampler import BatchPlan, StepSampler

logger = logging.getLogger(__name__)

_FIRST = 2  # steps that are not measured: kernels are chosen, files are read for the first time
_MEASURED = 6
_WORTH = 0.02  # of a step
_RESERVE = 1  # more worker than the means need: batches differ


class StepLoader(DataLoader[Any]):
    """A DataLoader that Lightning knows to be resumable: it starts at the trainer's step, and has no other state."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see `EmbeddingDataModule.state_dict`."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the loader of a resumed training is built at its step."""


class MeasuredLoader(StepLoader):
    """A DataLoader without workers for the first steps, which starts some where that is measured to pay.

    Its process makes the first batches itself and measures them, and the steps between them. Workers are started if
    making a batch takes more than 2 % of a step: as many as make a batch in the time of a step, and one more, if there
    are cores that nothing else uses. The batches are the same for any number of workers, so each rank chooses for itself.

    Args:
        arguments: of DataLoader; its `batch_sampler` is a `StepSampler`.
        most_workers: number of cores that nothing else uses; 0: nothing is measured.
        options: of DataLoader, `worker_init_fn` and `pin_memory` also of the workers.
    """

    def __init__(self, *arguments: Any, most_workers: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most_workers = most_workers
        self.chosen = None if most_workers else 0
        self._with_workers: DataLoader[Any] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The steps of an epoch."""
        if self.chosen is None:
            yield from self._measured()
        elif self._with_workers is not None:
            yield from self._made_by(self._with_workers)
        else:
            yield from super().__iter__()

    def _measured(self) -> Iterator[Any]:
        batches, made, steps = super().__iter__(), list[float](), list[float]()
        while len(made) < _FIRST + _MEASURED:
            begin = time.perf_counter()
            batch = next(batches, None)
            end = time.perf_counter()
            if batch is None:
                return
            yield batch
            made.append(end - begin)
            steps.append(time.perf_counter() - end)
        self.chosen = workers_that_pay(median(made[_FIRST:]), median(steps[_FIRST:]), self.most_workers)
        if not self.chosen:
            yield from batches
            return
        rest = _Rest(self.batch_sampler, len(made))  # type: ignore[arg-type]
        self._with_workers = DataLoader(
            self.dataset,
            batch_sampler=rest,
            collate_fn=self.collate_fn,
            num_workers=self.chosen,
            pin_memory=self.pin_memory,
            persistent_workers=True,
            worker_init_fn=self.worker_init_fn,
        )
        yield from self._made_by(self._with_workers)

    def _made_by(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """The steps of a loader with workers, which Lightning stops through `_iterator`: at the exit they do not end."""
        if self._iterator is None:  # the first time, or since Lightning has stopped them
            loader._iterator = None
        self._iterator = iter(loader)
        yield from self._iterator


def workers_that_pay(batch: float, step: float, most: int) -> int:
    """Number of workers for batches and steps of some seconds; 0: the batches take next to nothing of a step."""
    needed = math.ceil(batch / max(step, 1e-9)) + _RESERVE
    chosen = 0 if batch < _WORTH * step else min(most, needed)
    seconds = f"a batch takes {batch * 1000:.1f} ms to make, a step {step * 1000:.0f} ms"
    logger.info("data.num_workers=auto: %s (%s, at most %s cores are free)", chosen, seconds, most)
    return chosen


class _Rest:
    """The steps of a sampler, in this epoch without those that are done."""

    def __init__(self, steps: StepSampler, done: int) -> None:
        self.steps = steps
        self.epoch, self.done = steps.epoch, done

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[BatchPlan]]:  # a DataLoader calls it twice before its first batch
        return iter(self.steps.after(self.done) if self.steps.epoch == self.epoch else self.steps)
