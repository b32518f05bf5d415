"""Laws over all registered samplers, at many sizes, ranks, accumulations and epochs: a new one is tested the day it appears."""

from random import Random

import pytest

from lightning_embed import registry
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.sampler import Sampler, StepSampler
from lightning_embed.types import Task, TrainSet
from tests.sampler.toy import FEEDS, Step, order, steps
from tests.words import options

SAMPLERS = {entry.name: entry.cls for entry in registry.entries("sampler")}
WORDS = list(SAMPLERS)


def _sampler(word: str, accumulate: int = 1) -> Sampler:
    return SAMPLERS[word](accumulate=accumulate, **options("sampler", word))


# The contract: the `accumulate` batches of a step come from one dataset, unless a step has more of them.
SINGLE_TASK = [word for word in WORDS if _sampler(word).batches_per_step == 1]
TAKE_ALL_ROWS = [word for word in SINGLE_TASK if SAMPLERS[word].num_batches is Sampler.num_batches]


def _joined(parts: list[list[Step]]) -> list[Step]:
    """The global stream of what the ranks see, in their order; all see the same datasets and weights."""
    whole = []
    for ranks in zip(*parts, strict=True):
        whole.append([])
        for local in zip(*ranks, strict=True):
            ((name, weight),) = {(name, weight) for name, _, weight in local}
            whole[-1].append((name, [row for _, rows, _ in local for row in rows], weight))
    return whole


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("feeds", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("ranks", [2, 4])
def test_an_epoch(word: str, feeds: dict[str, TrainSet], accumulate: int, ranks: int) -> None:
    """No row twice, none lost but the announced remainder; same datasets on all ranks; slices in the order of ranks."""
    sampler = _sampler(word, accumulate)
    whole = StepSampler(sampler, feeds, 5)
    streams = [StepSampler(sampler, feeds, 5, rank, ranks) for rank in range(ranks)]
    for epoch in (0, 3):
        stream = steps(whole, epoch)
        assert stream == _joined([steps(stream, epoch) for stream in streams])
        assert len(stream) == len(whole) == len(streams[-1])
        used: dict[str, list[int]] = {name: [] for name in feeds}
        for step in stream:
            assert len(step) == sampler.batches_per_step
            assert sum(weight for _, _, weight in step) == pytest.approx(1)
            for name, rows, _ in step:
                assert len(rows) == sampler.batch_rows(feeds[name])
                used[name] += rows
        for name, feed in feeds.items():
            assert len(used[name]) == len(set(used[name])) == whole.num_batches[name] * sampler.batch_rows(feed)
            assert set(used[name]) <= set(range(feed.num_rows))


@pytest.mark.parametrize("word", SINGLE_TASK)
@pytest.mark.parametrize("feeds", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_single_task_step_has_one_dataset_and_leaves_less_than_a_step(
    word: str, feeds: dict[str, TrainSet], accumulate: int
) -> None:
    sampler = _sampler(word, accumulate)
    assert all(len(set(step)) == 1 for step in order(sampler, feeds).tolist())
    if word not in TAKE_ALL_ROWS:  # it gives shares; at equal sizes no rows need to rest
        feeds = {name: TrainSet(feed.task, 256, 16) for name, feed in feeds.items()}
        assert all(len(set(step)) == 1 for step in order(sampler, feeds).tolist())
    for name, feed in feeds.items():
        assert 0 <= feed.num_rows - sampler.num_batches(feeds)[name] * feed.batch_size < feed.batch_size * accumulate


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_is_arithmetic(word: str, accumulate: int) -> None:
    """From any step on, on any number of ranks, the rest of the stream is the same."""
    feeds, sampler, draw = FEEDS["several"], _sampler(word, accumulate), Random(word)
    whole = StepSampler(sampler, feeds, 5)
    epochs, length = [steps(whole, epoch) for epoch in range(3)], len(whole)
    for first in [0, length - 1, length, *(draw.randrange(2 * length) for _ in range(20))]:
        ranks, epoch = draw.choice([1, 2, 4]), first // length
        streams = [StepSampler(sampler, feeds, 5, rank, ranks, first_step=first) for rank in range(ranks)]
        assert _joined([steps(stream, epoch) for stream in streams]) == epochs[epoch][first % length :]
    assert _joined([steps(stream, epoch + 1) for stream in streams]) == epochs[epoch + 1]


@pytest.mark.parametrize("word", WORDS)
def test_order_is_a_pure_function(word: str) -> None:
    """Of the feeds and the generator; a dataset stands in it as often as num_batches says."""
    sampler, feeds = _sampler(word), FEEDS["several"]
    first = order(sampler, feeds)
    assert first.equal(order(sampler, feeds))
    counts = first.flatten().bincount(minlength=len(feeds)).tolist()
    assert dict(zip(feeds, counts, strict=True)) == sampler.num_batches(feeds)


@pytest.mark.parametrize("word", WORDS)
def test_epochs_and_seeds_differ(word: str) -> None:
    stream = StepSampler(_sampler(word), FEEDS["several"], 5)
    epochs = [str(steps(stream, epoch)) for epoch in range(3)]
    epochs.append(str(steps(StepSampler(_sampler(word), FEEDS["several"], 6))))
    assert len(set(epochs)) == 4
    assert str(steps(stream)) == epochs[0]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_four_ranks_use_all_rows_once(word: str, accumulate: int) -> None:
    """Of 11,200 rows CoDiEmb's mixed sampler draws 7,615 different ones on 4 ranks, and its dynamic one uses 5,504 with
    accumulation 2 and 2,688 with 4. Here only what fills no step is left: 64 rows of each dataset at most.
    """
    feeds = {f"d{number}": TrainSet(Task.retrieval, 1600, 32) for number in range(7)}
    streams = [StepSampler(_sampler(word, accumulate), feeds, 0, rank, 4) for rank in range(4)]
    drawn = [(name, row) for stream in streams for step in steps(stream) for name, rows, _ in step for row in rows]
    assert len(set(drawn)) == len(drawn)
    assert len(drawn) >= 11_200 - 7 * 64


@pytest.mark.parametrize("word", WORDS)
def test_first_batches(word: str) -> None:
    """What is shown of each dataset is what its first step will train on."""
    stream = StepSampler(_sampler(word), FEEDS["several"], 5)
    first: dict[str, list[int]] = {}
    for step in steps(stream):
        for name, rows, _ in step:
            first.setdefault(name, rows)
    assert {plan.dataset: plan.rows.tolist() for plan in stream.first_batches()} == first


@pytest.mark.parametrize("word", WORDS)
def test_refusals(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^sampler: accumulate must be at least 1 batch, got 0\.$"):
        _sampler(word, accumulate=0)
    with pytest.raises(DataError, match=r"^The datasets do not fill one step, batches of a step: \d+ \(c: 7 rows, "):
        StepSampler(_sampler(word), {"c": TrainSet(Task.sts, 7, 8)}, 0)
