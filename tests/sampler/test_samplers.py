"""Samplers by property, over all registered words, sizes, ranks, batch sizes, accumulation and epochs."""

from collections import Counter
from fractions import Fraction
from itertools import groupby, pairwise
from math import sqrt
from multiprocessing.reduction import ForkingPickler
from random import Random

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_embed import registry
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.sampler import BatchPlan, Sampler, StepSampler
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.sampler.mixed import Mixed
from lightning_embed.sampler.proportional import Proportional
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.sampler.sequential import By, Sequential
from lightning_embed.sampler.two_stage import TwoStage
from lightning_embed.types import Task, TrainSet

WORDS = registry.names("sampler")
SINGLE_TASK = [word for word in WORDS if word != "mixed"]
SETS = {
    "several": {
        "a": TrainSet(Task.retrieval, 263, 16),
        "b": TrainSet(Task.sts, 160, 32),
        "c": TrainSet(Task.sts, 31, 32),
        "d": TrainSet(Task.classification, 48, 16),
        "e": TrainSet(Task.retrieval, 97, 48),
    },
    "one": {"a": TrainSet(Task.clustering, 325, 32)},
    "equal": {f"d{number}": TrainSet(Task.retrieval, 128, 32) for number in range(6)},
}
Step = list[tuple[str, list[int], float]]


def _sets(*batches: int, tasks: str = "sts") -> dict[str, TrainSet]:
    """Datasets of so many batches of 8 rows."""
    words = tasks.split() * len(batches)
    return {f"d{number}": TrainSet(Task(words[number]), 8 * count, 8) for number, count in enumerate(batches)}


def _sampler(word: str, accumulate: int = 1) -> Sampler:
    return registry.get("sampler", word)(accumulate=accumulate)


def _steps(stream: StepSampler, epoch: int = 0) -> list[Step]:
    stream.set_epoch(epoch)
    return [[(plan.dataset, plan.rows.tolist(), plan.weight) for plan in step] for step in stream]


def _joined(parts: list[list[Step]]) -> list[Step]:
    """The global stream of what the ranks see, in their order; all see the same datasets and weights."""
    whole = []
    for ranks in zip(*parts, strict=True):
        whole.append([])
        for local in zip(*ranks, strict=True):
            ((name, weight),) = {(name, weight) for name, _, weight in local}
            whole[-1].append((name, [row for _, rows, _ in local for row in rows], weight))
    return whole


def _order(sampler: Sampler, datasets: dict[str, TrainSet], seed: int = 0) -> torch.Tensor:
    return sampler.order(datasets, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("datasets", SETS.values(), ids=SETS)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("ranks", [2, 4])
def test_an_epoch(word: str, datasets: dict[str, TrainSet], accumulate: int, ranks: int) -> None:
    """No row twice, none lost but the announced remainder; same datasets on all ranks; slices in the order of ranks."""
    sampler = _sampler(word, accumulate)
    whole = StepSampler(sampler, datasets, 5)
    streams = [StepSampler(sampler, datasets, 5, rank, ranks) for rank in range(ranks)]
    for epoch in (0, 3):
        steps = _steps(whole, epoch)
        assert steps == _joined([_steps(stream, epoch) for stream in streams])
        assert len(steps) == len(whole) == len(streams[-1])
        used: dict[str, list[int]] = {name: [] for name in datasets}
        for step in steps:
            assert len(step) == sampler.batches_per_step
            assert sum(weight for _, _, weight in step) == pytest.approx(1)
            for name, rows, _ in step:
                assert len(rows) == sampler.batch_rows(datasets[name])
                used[name] += rows
        for name, dataset in datasets.items():
            assert len(used[name]) == len(set(used[name])) == whole.num_batches[name] * sampler.batch_rows(dataset)
            assert set(used[name]) <= set(range(dataset.num_rows))


@pytest.mark.parametrize("word", SINGLE_TASK)
@pytest.mark.parametrize("datasets", SETS.values(), ids=SETS)
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_single_task_step_has_one_dataset_and_leaves_less_than_a_step(
    word: str, datasets: dict[str, TrainSet], accumulate: int
) -> None:
    sampler = _sampler(word, accumulate)
    if word == "proportional":  # equal sizes: no rows need to rest
        datasets = {name: TrainSet(dataset.task, 256, 16) for name, dataset in datasets.items()}
    assert all(len(set(step)) == 1 for step in _order(sampler, datasets).tolist())
    for name, dataset in datasets.items():
        assert (
            0
            <= dataset.num_rows - sampler.num_batches(datasets)[name] * dataset.batch_size
            < dataset.batch_size * accumulate
        )


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_is_arithmetic(word: str, accumulate: int) -> None:
    """From any step on, on any number of ranks, the rest of the stream is the same."""
    datasets, sampler, draw = SETS["several"], _sampler(word, accumulate), Random(word)
    whole = StepSampler(sampler, datasets, 5)
    epochs, length = [_steps(whole, epoch) for epoch in range(3)], len(whole)
    for first in [0, length - 1, length, *(draw.randrange(2 * length) for _ in range(20))]:
        ranks, epoch = draw.choice([1, 2, 4]), first // length
        streams = [StepSampler(sampler, datasets, 5, rank, ranks, first_step=first) for rank in range(ranks)]
        assert _joined([_steps(stream, epoch) for stream in streams]) == epochs[epoch][first % length :]
    assert _joined([_steps(stream, epoch + 1) for stream in streams]) == epochs[epoch + 1]


@pytest.mark.parametrize("word", WORDS)
def test_order_is_a_pure_function(word: str) -> None:
    """Of the datasets and the generator; a dataset stands in it as often as num_batches says."""
    sampler, datasets = _sampler(word), SETS["several"]
    order = _order(sampler, datasets)
    assert order.equal(_order(sampler, datasets))
    counts = order.flatten().bincount(minlength=len(datasets)).tolist()
    assert dict(zip(datasets, counts, strict=True)) == sampler.num_batches(datasets)


@pytest.mark.parametrize("word", WORDS)
def test_epochs_and_seeds_differ(word: str) -> None:
    stream = StepSampler(_sampler(word), SETS["several"], 5)
    epochs = [str(_steps(stream, epoch)) for epoch in range(3)]
    epochs.append(str(_steps(StepSampler(_sampler(word), SETS["several"], 6))))
    assert len(set(epochs)) == 4
    assert str(_steps(stream)) == epochs[0]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_four_ranks_use_all_rows_once(word: str, accumulate: int) -> None:
    """Of 11,200 rows CoDiEmb's mixed sampler draws 7,615 different ones on 4 ranks, and its dynamic one uses 5,504 with
    accumulation 2 and 2,688 with 4. Here only what fills no step is left: 64 rows of each dataset at most.
    """
    datasets = {f"d{number}": TrainSet(Task.retrieval, 1600, 32) for number in range(7)}
    streams = [StepSampler(_sampler(word, accumulate), datasets, 0, rank, 4) for rank in range(4)]
    drawn = [(name, row) for stream in streams for step in _steps(stream) for name, rows, _ in step for row in rows]
    assert len(set(drawn)) == len(drawn)
    assert len(drawn) >= 11_200 - 7 * 64


class _Plans:
    """A dataset whose items are the plans themselves."""

    def __getitem__(self, plan: BatchPlan) -> BatchPlan:
        return plan


def _plans(step: list[BatchPlan]) -> Step:
    return [(plan.dataset, plan.rows.tolist(), plan.weight) for plan in step]


def test_workers_change_nothing() -> None:
    stream = StepSampler(Mixed(), SETS["several"], 5, rank=1, world_size=2, first_step=7)
    loader = DataLoader(_Plans(), batch_sampler=stream, num_workers=2, collate_fn=_plans)
    assert list(loader) == _steps(StepSampler(Mixed(), SETS["several"], 5, rank=1, world_size=2))[7:]


def test_a_plan_goes_to_a_worker_by_value() -> None:
    """Not as shared memory, which would hold the order of all rows: containers have 64 MB of it."""
    plan = next(iter(StepSampler(BatchShuffle(), SETS["one"], 0)))[0]
    sent = ForkingPickler.loads(ForkingPickler.dumps(plan))
    assert not plan.rows.is_shared()
    assert sent.rows.equal(plan.rows)
    assert (sent.dataset, sent.weight, sent.epoch) == (plan.dataset, plan.weight, plan.epoch)


@pytest.mark.parametrize("word", WORDS)
def test_first_batches(word: str) -> None:
    """What is shown of each dataset is what its first step will train on."""
    stream = StepSampler(_sampler(word), SETS["several"], 5)
    first: dict[str, list[int]] = {}
    for step in _steps(stream):
        for name, rows, _ in step:
            first.setdefault(name, rows)
    assert {plan.dataset: plan.rows.tolist() for plan in stream.first_batches()} == first


def test_sampler_returns_itself() -> None:
    stream = StepSampler(BatchShuffle(), SETS["one"], 0)
    assert stream.sampler is stream


def test_round_robin_takes_turns() -> None:
    assert _order(RoundRobin(), _sets(3, 1, 0, 2)).flatten().tolist() == [0, 1, 3, 0, 3, 0]


@pytest.mark.parametrize("sampler", [BatchShuffle(), Proportional(), Proportional(exponent=1.0)])
def test_batches_are_spread_over_the_epoch(sampler: Sampler) -> None:
    """In its first half a dataset has its share of the steps, within four standard errors; and runs are short."""
    order = _order(sampler, _sets(3000, 1000, 500)).flatten()
    half = len(order) // 2
    for dataset in range(3):
        share = (order == dataset).float().mean().item()
        assert abs((order[:half] == dataset).float().mean().item() - share) < 4 * sqrt(share * (1 - share) / half / 2)
    shares = [(order == dataset).float().mean().item() for dataset in range(3)]
    changes = sum(a != b for a, b in pairwise(order.tolist())) / (len(order) - 1)
    assert changes == pytest.approx(1 - sum(share**2 for share in shares), abs=0.05)


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, (25, 25, 25)), (0.5, (100, 50, 25)), (1.0, (400, 100, 25))])
def test_proportional_to_a_power_of_the_size(exponent: float, expected: tuple[int, ...]) -> None:
    assert tuple(Proportional(exponent=exponent).num_batches(_sets(400, 100, 25)).values()) == expected


def test_proportional_to_given_shares() -> None:
    """Exactly, in decimal fractions as typed; the dataset that is short of rows for its share ends the epoch."""
    shares = {"d0": 0.7, "d1": 0.2, "d2": 0.1, "of another expert": 5.0}
    assert Proportional(step_shares=shares).num_batches(_sets(5000, 5000, 100)) == {"d0": 700, "d1": 200, "d2": 100}
    sampler = Proportional(accumulate=2, step_shares={"d0": 3.0, "d1": 1.0})
    assert sampler.num_batches(_sets(31, 100)) == {"d0": 30, "d1": 10}


def test_proportional_is_the_longest_epoch_of_its_shares() -> None:
    """No dataset gets more than it has, every one its share of the longest epoch to within a step, and at least one step."""
    draw = Random(0)
    for _ in range(200):
        counts = [draw.randrange(1, 400) for _ in range(draw.randrange(1, 7))]
        shares = [draw.choice([0.1, 1 / 3, 0.5, 1.0, 7.0]) for _ in counts]
        datasets = _sets(*counts)
        steps = list(Proportional(step_shares=dict(zip(datasets, shares, strict=True))).num_batches(datasets).values())
        exact = [Fraction(str(share)) for share in shares]
        wanted = [share / sum(exact) for share in exact]
        assert all(taken <= count for taken, count in zip(steps, counts, strict=True))
        longest = int(min(count / p for count, p in zip(counts, wanted, strict=True)))
        assert all(abs(n - p * longest) < 1 + 1e-9 for n, p in zip(steps, wanted, strict=True))
        assert min(steps) >= 1
        assert longest <= sum(steps) < longest + len(steps)


def test_proportional_leaves_out_what_fills_no_step() -> None:
    datasets = {**_sets(40, 40), "tiny": TrainSet(Task.sts, 7, 8)}
    assert Proportional(exponent=0.0).num_batches(datasets) == {"d0": 40, "d1": 40, "tiny": 0}
    with pytest.raises(DataError, match="The datasets do not fill one step, batches of a step: 1"):
        StepSampler(Proportional(), {"tiny": datasets["tiny"]}, 0)


def test_sequential_never_returns() -> None:
    datasets = _sets(5, 3, 0, 4, tasks="sts retrieval sts retrieval")
    order = _order(Sequential(accumulate=1), datasets).flatten().tolist()
    assert [dataset for dataset, _ in groupby(order)] == [0, 1, 3]


def test_sequential_by_task_shuffles_inside_a_task() -> None:
    datasets = _sets(50, 30, 50, 30, tasks="sts retrieval")
    order = _order(Sequential(by=By.task), datasets).flatten().tolist()
    assert Counter(order[:100]) == {0: 50, 2: 50}
    assert Counter(order[100:]) == {1: 30, 3: 30}
    assert len(list(groupby(order))) > 40


def test_two_stage_begins_with_retrieval_only() -> None:
    """Half of the second stage's retrieval stands in its first half, within four standard errors."""
    datasets = _sets(400, 300, 200, 100, tasks="sts retrieval retrieval clustering")
    order = _order(TwoStage(first_share=0.6), datasets).flatten().tolist()
    assert Counter(order) == {0: 400, 1: 300, 2: 200, 3: 100}
    assert set(order[:300]) == {1, 2}
    assert len(list(groupby(order[:300]))) > 100
    assert sum(dataset in (1, 2) for dataset in order[300:650]) == pytest.approx(100, abs=4 * sqrt(200) / 2)


@pytest.mark.parametrize(("share", "stages"), [(1.0, [True, False]), (0.5, None), (0.0, None)])
def test_two_stage_at_its_limits(share: float, stages: list[bool] | None) -> None:
    """All retrieval first; none first; and with one task only, which is then shuffled."""
    order = _order(TwoStage(first_share=share), _sets(50, 50, tasks="sts retrieval")).flatten().tolist()
    changes = [dataset == 1 for dataset, _ in groupby(order)]
    assert changes == stages if stages else len(changes) > 10
    for task in ("sts", "retrieval"):
        assert Counter(_order(TwoStage(first_share=share), _sets(5, 5, tasks=task)).flatten().tolist()) == {0: 5, 1: 5}


@pytest.mark.parametrize("batches", [(10, 10, 10, 10), (10, 9, 8, 7, 6, 5, 4, 3), (100, 3, 2), (7, 7), (13,), (1,) * 9])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_mixed_spreads_the_datasets_evenly(batches: tuple[int, ...], accumulate: int) -> None:
    """In every step a dataset stands as often as in any other, give or take one; most often once."""
    datasets = {f"d{number}": TrainSet(Task.sts, 2 * count, 8) for number, count in enumerate(batches)}
    sampler = Mixed(accumulate=accumulate, num_parts=4)
    order = _order(sampler, datasets)
    steps, per_step = order.shape
    assert per_step == 4 * accumulate
    assert steps == sum(batches) // per_step
    for dataset, count in enumerate(sampler.num_batches(datasets).values()):
        for times in (order == dataset).sum(dim=1).tolist():
            assert times in (count // steps, -(-count // steps))


def test_mixed_drops_from_the_largest() -> None:
    datasets = {f"d{number}": TrainSet(Task.sts, 2 * count, 8) for number, count in enumerate((9, 8, 2))}
    assert Mixed(num_parts=4).num_batches(datasets) == {"d0": 7, "d1": 7, "d2": 2}


def test_mixed_costs_a_single_task_step() -> None:
    step = next(iter(StepSampler(Mixed(num_parts=2), _sets(10, 10), 0)))
    assert [(len(plan.rows), plan.weight) for plan in step] == [(4, 0.5), (4, 0.5)]
    assert {plan.dataset for plan in step} == {"d0", "d1"}


REFUSED = [
    (lambda: BatchShuffle(accumulate=0), r"^sampler: accumulate must be at least 1 batch, got 0\.$"),
    (lambda: Proportional(exponent=1.5), r"^proportional: exponent must be in \[0, 1\], got 1\.5\.$"),
    (lambda: Proportional(exponent=float("nan")), r"^proportional: exponent must be in \[0, 1\], got nan\.$"),
    (lambda: Proportional(step_shares={"a": 0.0}), r"^proportional: step_shares\.a must be a positive number, got 0\.0;"),
    (lambda: Proportional(step_shares={"a": float("inf")}), r"step_shares\.a must be a positive number, got inf;"),
    (
        lambda: StepSampler(Proportional(step_shares={"d": 1.0}), _sets(3), 0),
        r"^proportional: step_shares has no share for the dataset d0\. Did you mean 'd'\? Known: d\.$",
    ),
    (lambda: TwoStage(first_share=-0.1), r"^two_stage: first_share must be in \[0, 1\], got -0\.1\.$"),
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


def test_no_step_can_be_filled() -> None:
    with pytest.raises(
        DataError,
        match=r"^The datasets do not fill one step, batches of a step: 4 \(c: 7 rows, batch 8\): lower batch_size or accumulate\.$",
    ):
        StepSampler(Mixed(), {"c": TrainSet(Task.sts, 7, 8)}, 0)
