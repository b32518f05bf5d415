"""One dataset, or one task, after the other."""

from collections import Counter
from itertools import groupby

from lightning_embed.sampler.sequential import By, Sequential
from tests.sampler.toy import feeds_of, order


def test_a_dataset_never_returns() -> None:
    feeds = feeds_of(5, 3, 0, 4, tasks="sts retrieval sts retrieval")
    datasets = order(Sequential(accumulate=1), feeds).flatten().tolist()
    assert [dataset for dataset, _ in groupby(datasets)] == [0, 1, 3]


def test_datasets_are_shuffled_inside_a_task() -> None:
    feeds = feeds_of(50, 30, 50, 30, tasks="sts retrieval")
    datasets = order(Sequential(by=By.task), feeds).flatten().tolist()
    assert Counter(datasets[:100]) == {0: 50, 2: 50}
    assert Counter(datasets[100:]) == {1: 30, 3: 30}
    assert len(list(groupby(datasets))) > 40
