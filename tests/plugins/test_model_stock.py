import math
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference

STOCK = toy.strategy("model_stock")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_reference(count: int, tmp_path: Path) -> None:
    base, sources = toy.family(count)
    merged = toy.merge(tmp_path, STOCK, sources, base)
    for name in toy.SHAPES:
        deltas = [(source[name].double() - base[name].double()).flatten() for source in sources]
        expected = base[name].double().flatten() + reference.model_stock(deltas)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def test_values_a_human_can_check() -> None:
    # 60 degrees: c = 1/2, t = 2/3
    deltas = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    torch.testing.assert_close(block.merge(STOCK, deltas), 2 / 3 * deltas.mean(0))
    # c = 1/2 between any two, t = 3/4
    deltas = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(block.merge(STOCK, deltas), 3 / 4 * deltas.mean(0))


def test_nearest_point_to_what_the_sources_lie_around() -> None:
    centre, noise = torch.tensor([2.0, 0, 0, 0]), torch.eye(4)[1:] * 3
    merged = block.merge(STOCK, centre + noise)
    mean = (centre + noise).mean(0)
    assert float((merged - centre) @ mean) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "deltas", [[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.1], [-1.0, 0.1]], [[3.0, 4.0], [0.0, 0.0]]], ids=str
)
def test_deltas_that_do_not_agree_give_the_base(deltas: list[list[float]]) -> None:
    assert block.merge(STOCK, torch.tensor(deltas)).tolist() == [0, 0]


@pytest.mark.parametrize("length", [1.0, 1e-3, 1e-6, 1e-12])
def test_length_does_not_matter(length: float) -> None:
    deltas = length * torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    torch.testing.assert_close(block.merge(STOCK, deltas) / length, torch.tensor([1 / 3, 2 / 3, 1 / 3]))


def test_one_source() -> None:
    with pytest.raises(ConfigError, match=r"merge=model_stock takes at least 2 sources, got 1"):
        STOCK.validate_inputs([None], True, False)
