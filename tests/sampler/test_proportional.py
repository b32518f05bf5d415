"""Chosen shares of the steps."""

from fractions import Fraction
from random import Random

import pytest

from lightning_embed.errors import ConfigError, DataError
from lightning_embed.sampler import StepSampler
from lightning_embed.sampler.proportional import Proportional
from lightning_embed.types import Task, TrainSet
from tests.sampler.spread import assert_spread
from tests.sampler.toy import feeds_of


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_batches_are_spread_over_the_epoch(exponent: float) -> None:
    assert_spread(Proportional(exponent=exponent))


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, (25, 25, 25)), (0.5, (100, 50, 25)), (1.0, (400, 100, 25))])
def test_shares_are_a_power_of_the_size(exponent: float, expected: tuple[int, ...]) -> None:
    assert tuple(Proportional(exponent=exponent).num_batches(feeds_of(400, 100, 25)).values()) == expected


def test_given_shares() -> None:
    """Exactly, in decimal fractions as typed; the dataset that is short of rows for its share ends the epoch."""
    shares = {"d0": 0.7, "d1": 0.2, "d2": 0.1, "of another expert": 5.0}
    assert Proportional(step_shares=shares).num_batches(feeds_of(5000, 5000, 100)) == {"d0": 700, "d1": 200, "d2": 100}
    sampler = Proportional(accumulate=2, step_shares={"d0": 3.0, "d1": 1.0})
    assert sampler.num_batches(feeds_of(31, 100)) == {"d0": 30, "d1": 10}


def test_an_epoch_is_the_longest_of_its_shares() -> None:
    """No dataset gets more than it has, every one its share of the longest epoch to within a step, and at least one step."""
    draw = Random(0)
    for _ in range(200):
        counts = [draw.randrange(1, 400) for _ in range(draw.randrange(1, 7))]
        shares = [draw.choice([0.1, 1 / 3, 0.5, 1.0, 7.0]) for _ in counts]
        feeds = feeds_of(*counts)
        steps = list(Proportional(step_shares=dict(zip(feeds, shares, strict=True))).num_batches(feeds).values())
        exact = [Fraction(str(share)) for share in shares]
        wanted = [share / sum(exact) for share in exact]
        assert all(taken <= count for taken, count in zip(steps, counts, strict=True))
        longest = int(min(count / p for count, p in zip(counts, wanted, strict=True)))
        assert all(abs(n - p * longest) < 1 + 1e-9 for n, p in zip(steps, wanted, strict=True))
        assert min(steps) >= 1
        assert longest <= sum(steps) < longest + len(steps)


def test_a_dataset_that_fills_no_step_is_left_out() -> None:
    feeds = {**feeds_of(40, 40), "tiny": TrainSet(Task.sts, 7, 8)}
    assert Proportional(exponent=0.0).num_batches(feeds) == {"d0": 40, "d1": 40, "tiny": 0}
    with pytest.raises(DataError, match="The datasets do not fill one step, batches of a step: 1"):
        StepSampler(Proportional(), {"tiny": feeds["tiny"]}, 0)


REFUSED = [
    (lambda: Proportional(exponent=1.5), r"^proportional: exponent must be in \[0, 1\], got 1\.5\.$"),
    (lambda: Proportional(exponent=float("nan")), r"^proportional: exponent must be in \[0, 1\], got nan\.$"),
    (lambda: Proportional(step_shares={"a": 0.0}), r"^proportional: step_shares\.a must be a positive number, got 0\.0;"),
    (lambda: Proportional(step_shares={"a": float("inf")}), r"step_shares\.a must be a positive number, got inf;"),
    (
        lambda: StepSampler(Proportional(step_shares={"d": 1.0}), feeds_of(3), 0),
        r"^proportional: step_shares has no share for the dataset d0\. Did you mean 'd'\? Known: d\.$",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_refusals(build, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
