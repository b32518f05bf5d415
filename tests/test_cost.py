"""What models cost, in joint trainings."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_embed.cost import Costs, costs
from lightning_embed.data import EmbeddingDataModule
from lightning_embed.experts import Expert
from lightning_embed.experts.bagging import Bagging
from lightning_embed.experts.iterative import Iterative
from lightning_embed.experts.joint import Joint
from lightning_embed.experts.update import Update


class Batches(EmbeddingDataModule):
    """An epoch of so many batches, of 8 rows each."""

    def __init__(self, *num_batches: int) -> None:
        self.num_batches = {f"d{number}": count for number, count in enumerate(num_batches)}

    def steps(self, first_step: int = 0) -> Any:
        feeds, schedule = self.num_batches, SimpleNamespace(batch_rows=lambda _: 8)
        return _Stream(num_batches=self.num_batches, feeds=feeds, schedule=schedule)

    def num_steps(self, max_steps: int, max_epochs: int | None) -> int:
        return (max_epochs or 0) * sum(self.num_batches.values())


class _Stream(SimpleNamespace):
    def __len__(self) -> int:
        return sum(self.num_batches.values())


def _costs(plan, experts, modules: Mapping[str, int], epochs: int = 1) -> Costs:
    cfg = OmegaConf.create({"trainer": {"max_steps": -1, "max_epochs": epochs}})
    batches = {name: Batches(count) for name, count in modules.items()}
    return costs(cfg, plan, experts, batches, Batches(60, 40))


def test_bags_cost_their_shares() -> None:
    found = _costs(Bagging(), [Expert("bag_0", {}), Expert("bag_1", {})], {"bag_0": 80, "bag_1": 100})
    assert found.sources == {"bag_0": 0.8, "bag_1": 1.0}
    assert found.all == pytest.approx(1.8)
    assert found.joint_rows == 800
    assert found.merged(probe_rows=400.0) == pytest.approx(2.3)


def test_an_expert_costs_what_it_started_from_too() -> None:
    found = _costs(Iterative(), [Expert("1_a", {}), Expert("2_b", {}, start="1_a")], {"1_a": 60, "2_b": 40})
    assert found.sources == {"1_a": 0.6, "2_b": pytest.approx(1.0)}
    assert found.all == pytest.approx(1.0)


def test_snapshots_cost_their_part_of_one_training() -> None:
    found = _costs(Joint(snapshots=4, ema=0.99), [Expert("joint", {})], {"joint": 100})
    expected = {f"joint-snapshot_{n}": n / 4 for n in (1, 2, 3)} | {"joint-ema": 1.0, "joint": 1.0}
    assert found.sources == pytest.approx(expected)
    assert found.all == 1.0


def test_a_model_that_exists_has_cost_nothing_now() -> None:
    """BOOM's update with 40 % of three quarters old data: 0.55 of full retraining."""
    experts = [Expert("existing", {}, path="x"), Expert("update", {})]
    found = _costs(Update(new=["b"], existing="x"), experts, {"update": 55})
    assert found.sources == {"existing": 0.0, "update": 0.55}
    assert found.all == 0.55
