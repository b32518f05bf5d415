from pathlib import Path

import pytest
import torch

from lightning_embed.merge import Weighting
from tests.merge import toy
from tests.reference import averages as reference

SIZES = [100, 300, 50]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [1, 1, 1]),
        ({"weighting": Weighting.size}, [2 / 3, 2, 1 / 3]),
        ({"weighting": Weighting.given, "weights": [1.0, 1.0, -1.0]}, [1, 1, -1]),
    ],
)
@pytest.mark.parametrize("scale", [0.4, 1.3])
def test_reference(options: dict[str, object], weights: list[float], scale: float, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    merged = toy.merge(tmp_path, toy.strategy("task_arithmetic", scale=scale, **options), sources, base, SIZES)
    expected = reference.task_arithmetic(toy.vector(base), [toy.vector(s) for s in sources], weights, scale)
    assert (toy.vector(merged) - expected).abs().max() < 1e-6


def test_default_scale(tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    merged = toy.vector(toy.merge(tmp_path, toy.strategy("task_arithmetic"), [source], base))
    torch.testing.assert_close(
        merged - toy.vector(base), 0.4 * (toy.vector(source) - toy.vector(base)), rtol=0, atol=1e-6
    )


def test_one_over_the_number_of_sources_is_the_soup(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    merged = toy.merge(tmp_path / "one", toy.strategy("task_arithmetic", scale=0.5), sources, base)
    toy.close(merged, toy.merge(tmp_path / "two", toy.strategy("soup"), sources), 1e-6)
