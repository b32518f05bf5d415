"""All batches in one random order."""

from collections import Counter

from lightning_embed.sampler.batch_shuffle import BatchShuffle
from tests.sampler.spread import assert_spread
from tests.sampler.toy import feeds_of, order


def test_every_batch_once() -> None:
    """A dataset's share of the steps is its share of the batches; with accumulation, of the whole steps."""
    assert Counter(order(BatchShuffle(), feeds_of(7, 3, 0, 1)).flatten().tolist()) == {0: 7, 1: 3, 3: 1}
    steps = order(BatchShuffle(accumulate=2), feeds_of(7, 3, 0, 1))
    assert Counter(map(tuple, steps.tolist())) == {(0, 0): 3, (1, 1): 1}


def test_batches_are_spread_over_the_epoch() -> None:
    assert_spread(BatchShuffle())
