"""A dataset smaller than its batch: the batch shrinks to its rows, all samplers use it, larger datasets do not change."""

import pytest

from lightning_embed import registry
from lightning_embed.errors import DataError
from lightning_embed.sampler import StepSampler
from lightning_embed.types import Task, TrainSet
from tests.sampler.test_laws import _joined, _sampler
from tests.sampler.toy import FEEDS, steps

WORDS = registry.names("sampler")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_dataset_that_fills_its_step_is_unchanged(word: str, accumulate: int, ranks: int) -> None:
    sampler = _sampler(word, accumulate)
    for feeds in FEEDS.values():
        for name, feed in feeds.items():
            if feed.num_rows // sampler.same_dataset >= sampler.batch_rows(feed):
                assert sampler.fitted(name, feed, ranks) is feed


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("rows", [12, 13, 21, 31])
def test_a_small_dataset_is_used(word: str, accumulate: int, ranks: int, rows: int) -> None:
    """In every epoch, by as many of its rows as ranks can share; as many steps on any number of ranks."""
    sampler = _sampler(word, accumulate)
    feeds = {"large": TrainSet(Task.retrieval, 256, 16), "small": TrainSet(Task.retrieval, rows, 256)}
    lengths = set()
    for number in {1, ranks}:
        fitted = {name: sampler.fitted(name, feed, number) for name, feed in feeds.items()}
        size = sampler.batch_rows(fitted["small"])
        assert size % number == 0
        assert 0 <= rows // sampler.same_dataset - size < number
        streams = [StepSampler(sampler, fitted, 5, rank, number) for rank in range(number)]
        lengths.add(len(streams[0]))
        for epoch in (0, 2):
            whole = _joined([steps(stream, epoch) for stream in streams])
            used = [row for step in whole for name, chosen, _ in step if name == "small" for row in chosen]
            assert len(used) == len(set(used)) == size * sampler.same_dataset
    assert len(lengths) == 1


@pytest.mark.parametrize(
    ("rows", "ranks", "accumulate", "least"),
    [(0, 1, 1, 2), (1, 1, 1, 2), (1, 2, 1, 2), (3, 4, 1, 4), (7, 8, 1, 8), (3, 1, 2, 4), (7, 4, 2, 8), (5, 2, 3, 6)],
)
def test_too_few_rows_are_refused(rows: int, ranks: int, accumulate: int, least: int) -> None:
    with pytest.raises(DataError, match=rf"^few: expected at least {least} train rows .* got {rows}\. Add rows"):
        _sampler("batch_shuffle", accumulate).fitted("few", TrainSet(Task.sts, rows, 8 * ranks), ranks)
    _sampler("batch_shuffle", accumulate).fitted("few", TrainSet(Task.sts, least, 8 * ranks), ranks)
