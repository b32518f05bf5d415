"""Several datasets in every step."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.sampler import StepSampler
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.types import Task, TrainSet
from tests.sampler.toy import feeds_of, order


@pytest.mark.parametrize("batches", [(10, 10, 10, 10), (10, 9, 8, 7, 6, 5, 4, 3), (100, 3, 2), (7, 7), (13,), (1,) * 9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_datasets_are_spread_evenly(batches: tuple[int, ...], accumulate: int) -> None:
    """In every step a dataset stands as often as in any other, give or take one; most often once."""
    feeds = {f"d{number}": TrainSet(Task.sts, 2 * count, 8) for number, count in enumerate(batches)}
    sampler = Mixed(accumulate=accumulate, num_parts=4)
    datasets = order(sampler, feeds)
    steps, per_step = datasets.shape
    assert per_step == 4 * accumulate
    assert steps == sum(batches) // per_step
    for dataset, count in enumerate(sampler.num_batches(feeds).values()):
        for times in (datasets == dataset).sum(dim=1).tolist():
            assert times in (count // steps, -(-count // steps))


def test_rows_are_dropped_from_the_largest() -> None:
    feeds = {f"d{number}": TrainSet(Task.sts, 2 * count, 8) for number, count in enumerate((9, 8, 2))}
    assert Mixed(num_parts=4).num_batches(feeds) == {"d0": 7, "d1": 7, "d2": 2}


def test_a_step_costs_what_a_single_task_step_costs() -> None:
    step = next(iter(StepSampler(Mixed(num_parts=2), feeds_of(10, 10), 0)))
    assert [(len(plan.rows), plan.weight) for plan in step] == [(4, 0.5), (4, 0.5)]
    assert {plan.dataset for plan in step} == {"d0", "d1"}


REFUSED = [
    (lambda: Mixed(num_parts=0), r"^mixed: num_parts must be at least 1 batch, got 0\.$"),
    (
        lambda: Mixed(num_parts=4).batch_rows(TrainSet(Task.sts, 100, 30)),
        r"^mixed: batch_size=30 cannot be cut into 4 equal parts of 2 rows or more: use batch_size 28 or 32, or a different",
    ),
    (lambda: Mixed(num_parts=4).batch_rows(TrainSet(Task.sts, 100, 4)), r"use batch_size 8, or a different num_parts\.$"),
    (lambda: Mixed(num_parts=4).batch_rows(TrainSet(Task.sts, 100, 3)), r"use batch_size 8, or a different num_parts\.$"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refusals(build, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
