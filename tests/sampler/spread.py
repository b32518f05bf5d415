"""The check that a sampler's order is random from the first step to the last."""

from itertools import pairwise
from math import sqrt

import pytest

from lightning_embed.sampler import Sampler
from tests.sampler.toy import feeds_of, order


def assert_spread(sampler: Sampler) -> None:
    """In its first half a dataset has its share of the steps, within four standard errors; and runs are short."""
    steps = order(sampler, feeds_of(3000, 1000, 500)).flatten()
    half = len(steps) // 2
    for dataset in range(3):
        share = (steps == dataset).float().mean().item()
        assert abs((steps[:half] == dataset).float().mean().item() - share) < 4 * sqrt(share * (1 - share) / half / 2)
    shares = [(steps == dataset).float().mean().item() for dataset in range(3)]
    changes = sum(a != b for a, b in pairwise(steps.tolist())) / (len(steps) - 1)
    assert changes == pytest.approx(1 - sum(share**2 for share in shares), abs=0.05)
