"""Plans of experts: which rows train which model."""

import pytest

from lightning_embed import registry
from lightning_embed.errors import ConfigError
from lightning_embed.experts import TrainSet
from lightning_embed.experts.joint import Joint
from lightning_embed.experts.per_dataset import PerDataset
from lightning_embed.experts.per_task import PerTask
from lightning_embed.types import Task

SETS = {"squad": TrainSet(Task.retrieval, 100), "stsb": TrainSet(Task.sts, 10), "nq": TrainSet(Task.retrieval, 50)}


class NoMeasure:
    """For plans that look at nothing."""

    def embeddings(self):
        raise AssertionError

    def losses(self):
        raise AssertionError


def _plan(plan) -> dict[str, list[str]]:
    return {expert.name: list(expert.rows) for expert in plan.experts(SETS, 0, NoMeasure())}


def test_joint() -> None:
    assert _plan(Joint()) == {"joint": ["squad", "stsb", "nq"]}


def test_per_task() -> None:
    assert _plan(PerTask()) == {"retrieval": ["squad", "nq"], "sts": ["stsb"]}


def test_per_dataset() -> None:
    assert _plan(PerDataset()) == {"squad": ["squad"], "stsb": ["stsb"], "nq": ["nq"]}


@pytest.mark.parametrize("word", registry.names("experts"))
def test_laws(word: str) -> None:
    """Names are distinct, every dataset trains somebody, sizes count the rows, `only` picks one of the same plan."""
    plan = registry.get("experts", word)()
    experts = plan.experts(SETS, 0, NoMeasure())
    assert len({e.name for e in experts}) == len(experts)
    assert {name for e in experts for name in e.rows} == set(SETS)
    assert all(
        e.num_rows(SETS) == sum(SETS[n].num_rows if r is None else len(r) for n, r in e.rows.items()) for e in experts
    )
    last = experts[-1]
    assert registry.get("experts", word)(only=last.name).chosen(SETS, 0, NoMeasure()) == [last]


def test_refusal() -> None:
    with pytest.raises(ConfigError, match=r"experts.only=retrieva: no such expert. Did you mean 'retrieval'\?"):
        PerTask(only="retrieva").chosen(SETS, 0, NoMeasure())
