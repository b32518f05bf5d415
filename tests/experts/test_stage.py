"""Stages of a training: every expert of a plan goes through those that have data of it."""

from typing import Any

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts.bagging import Bagging
from lightning_embed.experts.joint import Joint
from lightning_embed.experts.per_task import PerTask
from lightning_embed.experts.stage import Stage
from tests.experts.toy import SETS, NoMeasure

STAGES = {"weak": {"datasets": ["squad", "nq"], "trainer": {"max_steps": 5}, "sources": 0}, "all": {"batch_size": 8}}


def _chosen(plan: Any) -> dict[str, Any]:
    return {expert.name: expert for expert in plan.chosen(SETS, 0, NoMeasure())}


def test_the_joint_model() -> None:
    plan = Joint(stages=STAGES)
    weak, whole = _chosen(plan).values()
    assert (weak.name, weak.start, list(weak.rows)) == ("joint-weak", "base", ["squad", "nq"])
    assert (whole.name, whole.start, list(whole.rows)) == ("joint", "joint-weak", list(SETS))
    assert weak.options == {"trainer": {"max_steps": 5}}
    assert whole.options == {"batch_size": 8}
    assert plan.sources(weak) == []
    assert plan.models(weak) == ["joint-weak"]
    assert plan.sources(whole) == ["joint"]


def test_every_expert_of_a_plan_with_its_seeds_and_snapshots() -> None:
    """An expert without data of a stage leaves it out; the rows of a bag stay its own."""
    plan = PerTask(stages={"weak": STAGES["weak"], "all": {"sources": 3}}, seeds=2, ema=0.9)
    found = _chosen(plan)
    assert [(e.start, e.name, e.seed) for e in found.values()] == [
        ("base", "retrieval-weak", 0), ("retrieval-weak", "retrieval", 0),
        ("base", "retrieval-seed_1-weak", 1), ("retrieval-seed_1-weak", "retrieval-seed_1", 1),
        ("base", "sts", 0), ("base", "sts-seed_1", 1),
    ]  # fmt: skip
    assert plan.sources(found["sts"]) == ["sts-snapshot_1", "sts-snapshot_2", "sts-ema", "sts"]
    bag = Bagging(bag_shares=[0.5])
    whole = {name: list(rows) for name, rows in _chosen(bag)["bag_0"].rows.items()}
    staged = _chosen(Bagging(bag_shares=[0.5], stages=STAGES))
    assert {name: list(rows) for name, rows in staged["bag_0"].rows.items()} == whole
    assert {name: list(rows) for name, rows in staged["bag_0-weak"].rows.items()} == {
        n: whole[n] for n in ("squad", "nq")
    }


def test_one_stage_of_one_expert() -> None:
    plan = Joint(stages=STAGES, only="joint-weak")
    assert list(_chosen(plan)) == ["joint-weak"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"weak": ["squad"]}, r"experts.stages.weak: expected options like"),
        ({"weak": {"dataset": ["squad"]}}, r"experts.stages.weak.dataset: no such option. Did you mean 'datasets'"),
        ({"weak": {"sources": -1}}, r"experts.stages.weak.sources must be at least 0 or null, got -1"),
        (
            {"weak": {"trainer": {"devices": 2}}},
            r"experts.stages.weak.trainer: expected max_steps or max_epochs, got dev",
        ),
        ({"weak": {"trainer": 5}}, r"experts.stages.weak.trainer: expected max_steps or max_epochs, got 5"),
        ({"weak": {"trainer": {"max_steps": 0}}}, r"experts.stages.weak.trainer.max_steps=0: expected a number from 1"),
    ],
)
def test_options_that_are_refused(stages: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Joint(stages=stages)


def test_datasets_that_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"experts.stages.a.datasets: no dataset 'sqad' with train rows. Did you mean"
    ):
        _chosen(Joint(stages={"a": {"datasets": ["sqad"]}}))
    with pytest.raises(ConfigError, match=r"experts.stages: none has a dataset of sts: stsb"):
        _chosen(PerTask(stages={"a": {"datasets": ["nq"]}}))


def test_a_stage_keeps_what_is_given() -> None:
    stage = Stage.of("a", {"datasets": ["x"], "scheduler": "wsd", "optimizer": {"lr": 1.0}})
    assert (list(stage.datasets), stage.sources) == (["x"], None)
    assert stage.options == {"scheduler": "wsd", "optimizer": {"lr": 1.0}}
