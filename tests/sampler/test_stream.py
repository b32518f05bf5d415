"""The batch sampler that a DataLoader iterates."""

from multiprocessing.reduction import ForkingPickler

import pytest
from torch.utils.data import DataLoader

from lightning_embed.errors import DataError
from lightning_embed.sampler import BatchPlan, StepSampler
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.types import Task, TrainSet
from tests.sampler.toy import FEEDS, plain, steps


class _Plans:
    """A dataset whose items are the plans themselves."""

    def __getitem__(self, plan: BatchPlan) -> BatchPlan:
        return plan


def test_workers_change_nothing() -> None:
    stream = StepSampler(Mixed(), FEEDS["several"], 5, rank=1, world_size=2, first_step=7)
    loader = DataLoader(_Plans(), batch_sampler=stream, num_workers=2, collate_fn=plain)
    assert list(loader) == steps(StepSampler(Mixed(), FEEDS["several"], 5, rank=1, world_size=2))[7:]


def test_a_plan_goes_to_a_worker_by_value() -> None:
    """Not as shared memory, which would hold the order of all rows: containers have 64 MB of it."""
    plan = next(iter(StepSampler(BatchShuffle(), FEEDS["one"], 0)))[0]
    sent = ForkingPickler.loads(ForkingPickler.dumps(plan))
    assert not plan.rows.is_shared()
    assert sent.rows.equal(plan.rows)
    assert (sent.dataset, sent.weight, sent.epoch) == (plan.dataset, plan.weight, plan.epoch)


def test_sampler_returns_itself() -> None:
    stream = StepSampler(BatchShuffle(), FEEDS["one"], 0)
    assert stream.sampler is stream


def test_no_step_can_be_filled() -> None:
    with pytest.raises(
        DataError,
        match=r"^The datasets do not fill one step, batches of a step: 4 \(c: 7 rows, batch 8\): lower batch_size or accumulate\.$",
    ):
        StepSampler(Mixed(), {"c": TrainSet(Task.sts, 7, 8)}, 0)
