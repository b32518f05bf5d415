"""Rows seen: equal to a count over the batches themselves, for every sampler, at any step."""

from collections import Counter

import pytest

from lightning_embed import registry
from lightning_embed.sampler import StepSampler
from lightning_embed.sampler.seen import RowsSeen, rows_seen
from lightning_embed.types import Task, TrainSet
from tests.sampler.test_laws import _sampler
from tests.sampler.toy import FEEDS, steps

SHRUNK = {
    "large": TrainSet(Task.retrieval, 200, 8),
    "small": TrainSet(Task.sts, 21, 64),
    "two": TrainSet(Task.sts, 2, 8),
}


@pytest.mark.parametrize("word", registry.names("sampler"))
@pytest.mark.parametrize("feeds", [FEEDS["several"], FEEDS["one"], SHRUNK], ids=["several", "one", "small"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_equals_a_count(word: str, feeds: dict[str, TrainSet], accumulate: int) -> None:
    sampler = _sampler(word, accumulate)
    feeds = {n: sampler.fitted(n, feed) for n, feed in feeds.items() if feed.num_rows >= 2 * accumulate}
    stream = StepSampler(sampler, feeds, 5)
    length, drawn, first = len(stream), {name: Counter[int]() for name in feeds}, dict[str, int]()
    assert {n: s.drawn for n, s in rows_seen(stream, 0).items()} == dict.fromkeys(feeds, 0)
    for number, step in enumerate(step for epoch in range(3) for step in steps(stream, epoch)):
        for name, rows, _ in step:
            drawn[name].update(rows)
            first.setdefault(name, number + 1)
        if number in (0, 1, length - 1, length, 2 * length, 2 * length + length // 2, 3 * length - 1):
            found = rows_seen(stream, number + 1)
            for name in feeds:
                assert (found[name].distinct, found[name].drawn) == (len(drawn[name]), drawn[name].total())
    assert {n: s.first_step for n, s in rows_seen(stream, 1).items()} == {n: first.get(n) for n in feeds}


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (RowsSeen(0, 0, None), "0"),
        (RowsSeen(1200, 1200, 1), "1,200"),
        (RowsSeen(1200, 2400, 1), "1,200 x 2"),
        (RowsSeen(30, 40, 3), "30 x 1.33"),
    ],
)
def test_written(seen: RowsSeen, text: str) -> None:
    assert str(seen) == text
