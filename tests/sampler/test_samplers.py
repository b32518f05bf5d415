"""Samplers by property, over all registered words, sizes, ranks and epochs."""

from itertools import pairwise

import pytest
import torch

from lightning_embed import registry
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.sampler import Feed, Sampler, StepSampler
from lightning_embed.sampler.batch_shuffle import BatchShuffle
from lightning_embed.sampler.round_robin import RoundRobin
from lightning_embed.types import Task

FEEDS = [
    {"a": Feed(Task.retrieval, 103, 8), "b": Feed(Task.sts, 40, 4), "c": Feed(Task.sts, 7, 8)},
    {"a": Feed(Task.retrieval, 64, 4)},
]


def _feeds(*batches: int) -> dict[str, Feed]:
    return {f"d{number}": Feed(Task.sts, 8 * count, 8) for number, count in enumerate(batches)}


def _sampler(word: str, accumulate: int) -> Sampler:
    return registry.get("sampler", word)(accumulate=accumulate)


def _steps(stream: StepSampler, epoch: int) -> list:
    stream.set_epoch(epoch)
    return [[(plan.dataset, plan.rows.tolist(), plan.weight) for plan in step] for step in stream]


@pytest.mark.parametrize("word", registry.names("sampler"))
@pytest.mark.parametrize("feeds", FEEDS)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch(word: str, feeds: dict, accumulate: int, ranks: int) -> None:
    """No row twice, none lost but the announced remainder; same datasets on all ranks; slices in the order of ranks."""
    streams = [StepSampler(_sampler(word, accumulate), feeds, 5, rank, ranks) for rank in range(ranks)]
    whole = _steps(StepSampler(_sampler(word, accumulate), feeds, 5), 3)
    parts = [_steps(stream, 3) for stream in streams]
    used: dict[str, list[int]] = {name: [] for name in feeds}
    for step, *local in zip(whole, *parts, strict=True):
        assert len(step) == accumulate
        assert sum(weight for _, _, weight in step) == pytest.approx(1)
        for batch, *slices in zip(step, *local, strict=True):
            assert {name for name, _, _ in slices} == {batch[0]}
            assert [row for _, rows, _ in slices for row in rows] == batch[1]
            assert len(batch[1]) == feeds[batch[0]].batch_size
            used[batch[0]] += batch[1]
    for name, feed in feeds.items():
        assert (
            len(used[name])
            == len(set(used[name]))
            == feed.num_rows // (feed.batch_size * accumulate) * feed.batch_size * accumulate
        )
    assert len(whole) == len(streams[0])


@pytest.mark.parametrize("word", registry.names("sampler"))
def test_resuming_is_arithmetic(word: str) -> None:
    """From any step on, on any number of ranks, the rest of the stream is the same."""
    feeds = FEEDS[0]
    length = len(StepSampler(_sampler(word, 1), feeds, 5))
    for first in (0, 1, length - 1, length, length + 3):
        stream = StepSampler(_sampler(word, 1), feeds, 5, first_step=first)
        epoch = first // length
        assert _steps(stream, epoch) == _steps(StepSampler(_sampler(word, 1), feeds, 5), epoch)[first % length :]
        assert len(_steps(stream, epoch + 1)) == length


@pytest.mark.parametrize("word", registry.names("sampler"))
def test_epochs_and_seeds_differ(word: str) -> None:
    stream = StepSampler(_sampler(word, 1), FEEDS[0], 5)
    epochs = [str(_steps(stream, epoch)) for epoch in range(3)] + [
        str(_steps(StepSampler(_sampler(word, 1), FEEDS[0], 6), 0))
    ]
    assert len(set(epochs)) == 4
    assert str(_steps(stream, 0)) == epochs[0]


def test_round_robin_takes_turns() -> None:
    assert RoundRobin().order(_feeds(3, 1, 2), torch.Generator()).flatten().tolist() == [0, 1, 2, 0, 2, 0]


def test_batch_shuffle_mixes_datasets_evenly() -> None:
    """A dataset's batches are spread over the epoch: the mean position is the middle, and runs are short."""
    order = BatchShuffle().order(_feeds(2000, 2000), torch.Generator().manual_seed(0)).flatten()
    positions = (order == 0).nonzero().float().mean()
    assert abs(positions / 3999 - 0.5) < 0.02
    changes = sum(a != b for a, b in pairwise(order.tolist()))
    assert 0.45 < changes / 3999 < 0.55


def test_sampler_returns_itself() -> None:
    stream = StepSampler(BatchShuffle(), FEEDS[0], 0)
    assert stream.sampler is stream


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="accumulate must be at least 1 batch, got 0"):
        BatchShuffle(accumulate=0)
    with pytest.raises(DataError, match=r"c: 7 rows, batch 8.*lower batch_size"):
        StepSampler(BatchShuffle(), {"c": Feed(Task.sts, 7, 8)}, 0)
