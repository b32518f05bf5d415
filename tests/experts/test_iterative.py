"""Each expert starts from the one before."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts.iterative import By, Iterative
from tests.experts.toy import SETS, NoMeasure


def _chain(plan: Iterative) -> list[tuple[str, str, list[str]]]:
    return [(e.start, e.name, list(e.rows)) for e in plan.chosen(SETS, 0, NoMeasure())]


def test_tasks_in_the_order_of_the_config() -> None:
    assert _chain(Iterative()) == [
        ("base", "1_retrieval", ["squad", "nq"]),
        ("1_retrieval", "2_sts", ["stsb"]),
    ]


def test_datasets_in_an_order_that_is_given() -> None:
    assert _chain(Iterative(by=By.dataset, order=["stsb", "nq", "squad"])) == [
        ("base", "1_stsb", ["stsb"]),
        ("1_stsb", "2_nq", ["nq"]),
        ("2_nq", "3_squad", ["squad"]),
    ]


def test_every_seed_has_its_own_chain() -> None:
    chain = _chain(Iterative(seeds=2))
    assert [(start, name) for start, name, _ in chain if name.endswith("-seed_1")] == [
        ("base", "1_retrieval-seed_1"),
        ("1_retrieval-seed_1", "2_sts-seed_1"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"order": ["sts", "retrieva"]},
            "experts.order must name each task exactly once, in any order, of retrieval, sts; got sts, retrieva.",
        ),
        (
            {"order": ["sts"]},
            "experts.order must name each task exactly once, in any order, of retrieval, sts; got sts.",
        ),
        (
            {"order": ["squad", "nq", "stsb", "nq"], "by": By.dataset},
            "experts.order must name each dataset exactly once, in any order, of squad, stsb, nq; "
            "got squad, nq, stsb, nq.",
        ),
    ],
)
def test_an_order_that_does_not_fit(options, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _chain(Iterative(**options))
    assert str(caught.value) == message
