"""Bags: exact sizes, independent or nested, and the complement."""

from collections.abc import Sequence

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.experts.bagging import Bagging
from lightning_embed.types import Task, TrainSet
from tests.experts.toy import SETS, NoMeasure

LARGE = {"a": TrainSet(Task.retrieval, 1000, 8), "b": TrainSet(Task.sts, 1000, 8)}


def _bags(plan: Bagging, datasets=LARGE, seed: int = 0) -> list[Expert]:
    return plan.experts(datasets, seed, NoMeasure())


def _sizes(bag: Expert) -> dict[str, int | None]:
    return {name: None if rows is None else len(rows) for name, rows in bag.rows.items()}


def _rows(bag: Expert, dataset: str = "a") -> Sequence[int]:
    rows = bag.rows[dataset]
    return range(LARGE[dataset].num_rows) if rows is None else list(rows)


def test_the_shares_of_the_paper() -> None:
    bags = _bags(Bagging())
    assert [bag.name for bag in bags] == ["bag_0", "bag_1", "bag_2", "bag_3", "bag_4"]
    assert [_sizes(bag)["a"] for bag in bags] == [200, 400, 600, 800, None]
    assert sum(bag.num_rows(LARGE) for bag in bags) == 3.0 * 2000, "the cost that the paper gives"


def test_sizes_are_rounded_down_to_no_less_than_a_batch() -> None:
    """The share counts as it was typed: 0.29 * 100 is 28.999... in floats."""
    assert _sizes(_bags(Bagging(bag_shares=[0.29]), SETS)[0]) == {"squad": 29, "stsb": 4, "nq": 14}
    assert _sizes(_bags(Bagging(bag_shares=[0.01]), SETS)[0]) == {"squad": 4, "stsb": 4, "nq": 4}
    assert _sizes(_bags(Bagging(bag_shares=[0.5]), {"few": TrainSet(Task.sts, 3, 4)})[0]) == {"few": None}


def test_rows_differ_by_seed_dataset_and_bag() -> None:
    one, two = _bags(Bagging(bag_shares=[0.5, 0.5]))
    other = _bags(Bagging(bag_shares=[0.5, 0.5]), seed=1)[0]
    drawn = [_rows(one), _rows(one, "b"), _rows(two), _rows(other)]
    assert all(a != b for number, a in enumerate(drawn) for b in drawn[:number])


def test_bags_are_independent() -> None:
    """Of 1000 rows, two draws of one half share 250, with a standard deviation of 7.9."""
    one, two = _bags(Bagging(bag_shares=[0.5, 0.5]))
    assert abs(len(set(_rows(one)) & set(_rows(two))) - 250) < 32


def test_a_bag_does_not_depend_on_the_others() -> None:
    alone = _bags(Bagging(bag_shares=[0.2]), {"b": LARGE["b"]})[0]
    assert _bags(Bagging(bag_shares=[0.2, 0.9]))[0].rows["b"] == alone.rows["b"]


def test_every_row_is_drawn_alike() -> None:
    """Mean row of a half of 1000: 499.5, with a standard deviation of 9.1."""
    rows = _rows(_bags(Bagging(bag_shares=[0.5]))[0])
    assert abs(sum(rows) / len(rows) - 499.5) < 37


def test_nested() -> None:
    small, all_rows, large = (set(_rows(bag)) for bag in _bags(Bagging(bag_shares=[0.3, 1.0, 0.7], nested=True)))
    assert small < large < all_rows
    assert (len(small), len(large)) == (300, 700)
    assert not set(_rows(_bags(Bagging(bag_shares=[0.3, 0.7]))[0])) < set(
        _rows(_bags(Bagging(bag_shares=[0.3, 0.7]))[1])
    )


@pytest.mark.parametrize("nested", [False, True])
def test_complement(nested: bool) -> None:
    """The two bags share no row, and leave none; a dataset that gives all to the first is not in the second."""
    datasets = {**LARGE, "few": TrainSet(Task.sts, 3, 4)}
    bag, rest = _bags(Bagging(bag_shares=[0.3], complement=True, nested=nested), datasets)
    assert (bag.name, rest.name) == ("bag_0", "bag_1")
    assert _sizes(rest) == {"a": 700, "b": 700}
    for dataset in LARGE:
        assert sorted([*_rows(bag, dataset), *_rows(rest, dataset)]) == list(range(1000))
    assert bag == _bags(Bagging(bag_shares=[0.3], nested=nested), datasets)[0]


REFUSALS = [
    ({"bag_shares": []}, "experts.bag_shares must be one or more shares in (0, 1], got []."),
    ({"bag_shares": [0.5, 0.0]}, "experts.bag_shares must be one or more shares in (0, 1], got [0.5, 0.0]."),
    ({"bag_shares": [60.0]}, "experts.bag_shares must be one or more shares in (0, 1], got [60.0]."),
    (
        {"bag_shares": [0.4, 0.6], "complement": True},
        "experts.complement needs one share below 1, like experts.bag_shares=[0.5]; got [0.4, 0.6].",
    ),
    (
        {"bag_shares": [1.0], "complement": True},
        "experts.complement needs one share below 1, like experts.bag_shares=[0.5]; got [1.0].",
    ),
    (
        {"bag_shares": [1.0, 0.5, 1.0]},
        "experts.bag_shares=[1.0, 0.5, 1.0] has the same bag twice: equal shares differ only where they are drawn "
        "independently and below 1. Remove one, or train it twice by experts.seeds=2.",
    ),
    (
        {"bag_shares": [0.5, 0.5], "nested": True},
        "experts.bag_shares=[0.5, 0.5] has the same bag twice: equal shares differ only where they are drawn "
        "independently and below 1. Remove one, or train it twice by experts.seeds=2.",
    ),
    ({"seeds": 0}, "experts.seeds must be at least 1, got 0."),
]


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_refusals(options, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Bagging(**options)
    assert str(caught.value) == message


def test_a_complement_without_rows() -> None:
    with pytest.raises(ConfigError) as caught:
        _bags(Bagging(bag_shares=[0.5], complement=True), {"few": TrainSet(Task.sts, 4, 4)})
    assert str(caught.value) == (
        "experts.complement: bag_0 takes one batch of each dataset, which is all of its rows. Lower batch_size."
    )
