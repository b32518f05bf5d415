"""What models cost, in rows."""

import pytest

from lightning_embed.experts import Expert
from lightning_embed.experts.bagging import Bagging
from lightning_embed.experts.iterative import Iterative
from lightning_embed.experts.joint import Joint
from lightning_embed.experts.update import Update
from lightning_embed.run.cost import costs


def test_bags_cost_their_shares() -> None:
    found = costs(Bagging(), [Expert("bag_0", {}), Expert("bag_1", {})], {"bag_0": 80.0, "bag_1": 100.0})
    assert found.sources == {"bag_0": 80, "bag_1": 100}
    assert found.all == 180


def test_an_expert_costs_what_it_started_from_too() -> None:
    experts = [Expert("1_a", {}), Expert("2_b", {}, start="1_a")]
    found = costs(Iterative(), experts, {"1_a": 60.0, "2_b": 40.0})
    assert found.sources == {"1_a": 60, "2_b": 100}
    assert found.all == 100


def test_snapshots_cost_their_part_of_one_training() -> None:
    found = costs(Joint(snapshots=4, ema=0.99), [Expert("joint", {})], {"joint": 100.0})
    expected = {f"joint-snapshot_{n}": 25.0 * n for n in (1, 2, 3)} | {"joint-ema": 100.0, "joint": 100.0}
    assert found.sources == pytest.approx(expected)
    assert found.all == 100


def test_a_model_that_exists_has_cost_nothing_now() -> None:
    experts = [Expert("existing", {}, path="x"), Expert("update", {})]
    found = costs(Update(new=["b"], existing="x"), experts, {"update": 55.0})
    assert found.sources == {"existing": 0.0, "update": 55.0}
    assert found.all == 55
