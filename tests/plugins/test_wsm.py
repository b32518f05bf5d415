"""The average stands for a decay: shown on updates, in float64."""

import math
from pathlib import Path

import pytest
import torch

from lightning_embed import registry
from tests.merge import toy

SHAPES = {
    "linear": lambda x: 1 - x,
    "sqrt": lambda x: 1 - math.sqrt(x),
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
}


@pytest.mark.parametrize("decay", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_updates_count_as_under_a_decay(decay: str, count: int, tmp_path: Path) -> None:
    """Start plus the updates times the factor at which each begins."""
    start, *_ = toy.family(1)
    torch.manual_seed(3)
    updates = [
        {name: torch.randn_like(tensor) for name, tensor in start.items() if tensor.is_floating_point()}
        for _ in range(count)
    ]
    sources, place = [], dict(start)
    for update in updates:
        place = place | {name: place[name] + 0.01 * update[name] for name in update}
        sources.append(place)
    merged = toy.merge(
        tmp_path, toy.strategy("wsm", decay=registry.get("merge", "wsm")().decay.__class__(decay)), sources
    )
    expected = toy.vector(start).double()
    for number, update in enumerate(updates):
        expected += SHAPES[decay](number / count) * 0.01 * toy.vector(update).double()
    assert (toy.vector(merged).double() - expected).abs().max() < 1e-6


def test_linear_is_the_mean(tmp_path: Path) -> None:
    _, sources = toy.family(3)
    merged, mean = (toy.merge(tmp_path / word, toy.strategy(word), sources) for word in ("wsm", "soup"))
    assert (toy.vector(merged) - toy.vector(mean)).abs().max() < 1e-6
