"""The datasets in turn."""

from lightning_embed.sampler.round_robin import RoundRobin
from tests.sampler.toy import feeds_of, order


def test_datasets_take_turns() -> None:
    assert order(RoundRobin(), feeds_of(3, 1, 0, 2)).flatten().tolist() == [0, 1, 3, 0, 3, 0]


def test_a_turn_is_a_step() -> None:
    """With accumulation a turn takes `accumulate` batches; what fills no step is left."""
    assert order(RoundRobin(accumulate=2), feeds_of(5, 1, 2)).tolist() == [[0, 0], [2, 2], [0, 0]]


def test_every_epoch_has_one_order() -> None:
    assert order(RoundRobin(), feeds_of(3, 2), seed=0).equal(order(RoundRobin(), feeds_of(3, 2), seed=1))
