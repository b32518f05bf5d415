"""Retrieval alone, then all tasks."""

from collections import Counter
from itertools import groupby
from math import sqrt

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.sampler.two_stage import TwoStage
from tests.sampler.toy import feeds_of, order


def test_the_first_stage_is_retrieval_only() -> None:
    """Half of the second stage's retrieval stands in its first half, within four standard errors."""
    feeds = feeds_of(400, 300, 200, 100, tasks="sts retrieval retrieval clustering")
    datasets = order(TwoStage(first_share=0.6), feeds).flatten().tolist()
    assert Counter(datasets) == {0: 400, 1: 300, 2: 200, 3: 100}
    assert set(datasets[:300]) == {1, 2}
    assert len(list(groupby(datasets[:300]))) > 100
    assert sum(dataset in (1, 2) for dataset in datasets[300:650]) == pytest.approx(100, abs=4 * sqrt(200) / 2)


@pytest.mark.parametrize(("share", "stages"), [(1.0, [True, False]), (0.5, None), (0.0, None)])
def test_limits(share: float, stages: list[bool] | None) -> None:
    """All retrieval first; none first; and with one task only, which is then shuffled."""
    datasets = order(TwoStage(first_share=share), feeds_of(50, 50, tasks="sts retrieval")).flatten().tolist()
    changes = [dataset == 1 for dataset, _ in groupby(datasets)]
    assert changes == stages if stages else len(changes) > 10
    for task in ("sts", "retrieval"):
        alone = order(TwoStage(first_share=share), feeds_of(5, 5, tasks=task)).flatten().tolist()
        assert Counter(alone) == {0: 5, 1: 5}


def test_refusal() -> None:
    with pytest.raises(ConfigError, match=r"^two_stage: first_share must be in \[0, 1\], got -0\.1\.$"):
        TwoStage(first_share=-0.1)
