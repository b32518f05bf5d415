from pathlib import Path

import pytest

from lightning_embed.errors import ConfigError
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
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_reference(options: dict[str, object], weights: list[float], share: float, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    merged = toy.merge(tmp_path, toy.strategy("wise_ft", share=share, **options), sources, base, SIZES)
    expected = reference.wise_ft(toy.vector(base), [toy.vector(source) for source in sources], weights, share)
    assert (toy.vector(merged) - expected).abs().max() < 1e-6


def test_from_the_base_to_the_soup(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    nothing = toy.merge(tmp_path / "0", toy.strategy("wise_ft", share=0.0), sources, base)
    toy.close(nothing, base, 1e-6)
    everything = toy.merge(tmp_path / "1", toy.strategy("wise_ft", share=1.0), sources, base)
    toy.close(everything, toy.merge(tmp_path / "soup", toy.strategy("soup"), sources), 1e-6)
    half = toy.merge(tmp_path / "half", toy.strategy("wise_ft"), sources, base)
    toy.close(half, {name: (base[name] + everything[name]) / 2 for name in base} | {toy.BUFFER: base[toy.BUFFER]}, 1e-6)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_refusals(share: float) -> None:
    with pytest.raises(
        ConfigError,
        match=f"merge=wise_ft: share={share} (is not between the base, 0, and the sources, 1|must be a finite number)",
    ):
        toy.strategy("wise_ft", share=share)
