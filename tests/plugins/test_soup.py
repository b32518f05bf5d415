from pathlib import Path

import pytest

from lightning_embed.merge import Weighting
from tests.merge import toy
from tests.reference import averages as reference

SIZES = [100, 300, 50]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [1, 1, 1]),
        ({"weighting": Weighting.size}, SIZES),
        ({"weighting": Weighting.given, "weights": [1.0, 0.0, 4.0]}, [1, 0, 4]),
    ],
)
@pytest.mark.parametrize("has_base", [False, True])
def test_reference(options: dict[str, object], weights: list[float], has_base: bool, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    merged = toy.merge(tmp_path, toy.strategy("soup", **options), sources, base if has_base else None, SIZES)
    expected = reference.soup([toy.vector(source) for source in sources], weights)
    assert (toy.vector(merged) - expected).abs().max() < 1e-6
