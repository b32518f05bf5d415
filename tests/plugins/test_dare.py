from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Combine, Weighting, uniform
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference

SEEDS = 200


def _how(*weights: float, **options: object) -> Any:
    given = {"weighting": Weighting.given, "weights": list(weights)} if weights else {}
    return toy.strategy("dare", **given, **options)


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize("density", [0.1, 0.6, 1.0])
def test_reference_with_the_same_draws(size: int, combine: Combine, density: float) -> None:
    torch.manual_seed(1)
    deltas, weights = torch.randn(3, size), [1.0, 2.0, 0.5]
    merged = block.merge(_how(*weights, combine=combine, density=density, scale=1.1), deltas, seed=7)
    draws = uniform(torch.Size((3, size)), torch.Generator().manual_seed(7))
    chances = torch.full((size,), density, dtype=torch.float64)
    kept = [reference.drop(d, chances, u) for d, u in zip(deltas.double(), draws.double(), strict=True)]
    expected = 1.1 * reference.fuse(kept, weights, combine)
    torch.testing.assert_close(merged.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_keep_rate_over_seeds(density: float) -> None:
    how, delta = _how(density=density), torch.ones(1, 64)
    merged = torch.stack([block.merge(how, delta, seed) for seed in range(SEEDS)])
    assert float((merged != 0).double().mean()) == pytest.approx(density, abs=0.01)
    torch.testing.assert_close(merged[merged != 0], torch.full_like(merged[merged != 0], 1 / density))


def test_mean_over_seeds_is_the_soup() -> None:
    deltas = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    how = _how(1.0, 1.0, 2.0, density=0.5)
    merged = torch.stack([block.merge(how, deltas, seed) for seed in range(SEEDS)])
    soup = (deltas[0] + deltas[1] + 2 * deltas[2]) / 4
    errors = (merged - soup).norm(dim=1) / soup.norm()
    assert float(errors.mean()) > 0.5
    assert float((merged.mean(0) - soup).norm() / soup.norm()) < 0.1


def test_mean_over_seeds_of_agreeing_deltas() -> None:
    deltas, how = torch.tensor([[1.0], [1.0], [-1e-3]]).expand(3, 64), _how(density=0.5, combine=Combine.ties)
    merged = torch.stack([block.merge(how, deltas, seed) for seed in range(SEEDS)])
    # in 3 of 4 merges one of the two is kept, which then is 2; the third counts where both are dropped, hardly at all
    assert float(merged.mean()) == pytest.approx((1 - 0.5**2) / 0.5, abs=0.03)


def test_sources_and_blocks_are_dropped_independently(tmp_path: Path) -> None:
    base = {"w": torch.zeros(70_000)}
    how = _how(1.0, 2.0)
    merged = toy.merge(tmp_path, how, [{"w": torch.full((70_000,), 3.0)}] * 2, base)["w"]
    found, counts = merged.unique(return_counts=True)
    assert found.tolist() == [0, 2, 4, 6]  # none, the first, the second, both
    assert (counts / 70_000 - 0.25).abs().max() < 0.01
    assert not torch.equal(merged[:4000], merged[65_536:69_536])


def test_seed_decides(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    one, two = (toy.vector(toy.merge(tmp_path / f"{s}", _how(), sources, base, seed=s)) for s in (1, 2))
    assert not torch.equal(one, two)


def test_zeros_stay_zero() -> None:
    deltas = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    for seed in range(10):
        assert block.merge(_how(density=0.9, combine=Combine.ties), deltas, seed)[0] == 0


def test_bfloat16_sources(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    stored = [{n: t.bfloat16() if t.is_floating_point() else t for n, t in m.items()} for m in (base, *sources)]
    widened = [{n: t.float() if t.is_floating_point() else t for n, t in m.items()} for m in stored]
    merged = toy.merge(tmp_path / "narrow", _how(), stored[1:], stored[0])
    toy.close(merged, toy.merge(tmp_path / "wide", _how(), widened[1:], widened[0]), 0)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, float("nan")])
def test_density_that_is_no_share(density: float) -> None:
    with pytest.raises(ConfigError, match=r"merge=dare: density=.* must be (above 0 and at most 1|a finite number)"):
        _how(density=density)


def test_negative_weights_cannot_vote() -> None:
    with pytest.raises(ConfigError, match=r"merge=dare: .* has no meaning here"):
        _how(2.0, -1.0, combine=Combine.ties)
    _how(2.0, -1.0)
