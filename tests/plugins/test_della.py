from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Combine, Weighting, uniform
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference

SEEDS = 200


def _how(*weights: float, **options: object) -> Any:
    given = {"weighting": Weighting.given, "weights": list(weights)} if weights else {}
    return toy.strategy("della", **given, **options)


@pytest.mark.parametrize("shape", [(5, 12), (4, 3, 2), (64,), (3,), (1,), (6, 1), ()], ids=str)
@pytest.mark.parametrize("combine", list(Combine))
def test_reference_with_the_same_draws(shape: tuple[int, ...], combine: Combine) -> None:
    torch.manual_seed(1)
    deltas, weights = torch.randn(3, *shape), [1.0, 2.0, 0.5]
    merged = block.merge(_how(*weights, combine=combine, density=0.6, epsilon=0.2, scale=1.1), deltas, seed=7)
    draws = uniform(torch.Size((3, *shape)), torch.Generator().manual_seed(7))
    rows = -1 if len(shape) < 2 else shape[0]
    kept = []
    for delta, drawn in zip(deltas.double(), draws.double(), strict=True):
        pairs = zip(_rows(delta, rows), _rows(drawn, rows), strict=True)
        kept.append(torch.cat([reference.drop(d, reference.keep_chances(d, 0.6, 0.2), u) for d, u in pairs]))
    expected = 1.1 * reference.fuse(kept, weights, combine)
    torch.testing.assert_close(merged.double().flatten(), expected, rtol=1e-5, atol=1e-6)


def _rows(tensor: Tensor, rows: int) -> Tensor:
    return tensor.reshape(1, -1) if rows == -1 else tensor.reshape(rows, -1)


def test_rows_of_a_model_are_ranked_whole(tmp_path: Path) -> None:
    base = {"w": torch.zeros(300, 400)}  # two blocks
    source = {"w": torch.arange(400.0).expand(300, 400) + 1}
    merged = toy.merge(tmp_path, _how(density=0.5, epsilon=0.4), [source], base)["w"]
    chances = torch.linspace(0.1, 0.9, 400)
    kept = merged != 0
    assert (kept.float().mean(0) - chances).abs().max() < 0.15
    assert float(kept.float().mean()) == pytest.approx(0.5, abs=0.005)
    torch.testing.assert_close(merged[kept], (source["w"] / chances)[kept])


def test_keep_rate_over_seeds() -> None:
    delta = torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(0))
    kept = torch.stack([block.merge(_how(density=0.8), delta, seed) != 0 for seed in range(SEEDS)]).double()
    assert float(kept.mean()) == pytest.approx(0.8, abs=0.01)
    order = delta[0].abs().argsort(dim=1)
    by_rank = kept.mean(0).gather(1, order).mean(0)
    assert float(by_rank[:16].mean()) == pytest.approx(0.65 + 0.3 * 7.5 / 63, abs=0.02)
    assert float(by_rank[-16:].mean()) == pytest.approx(0.95 - 0.3 * 7.5 / 63, abs=0.02)


def test_mean_over_seeds_is_the_soup() -> None:
    deltas = torch.randn(3, 2, 64, generator=torch.Generator().manual_seed(0))
    how = _how(1.0, 1.0, 2.0, combine=Combine.linear)
    mean = torch.stack([block.merge(how, deltas, seed) for seed in range(SEEDS)]).mean(0)
    soup = (deltas[0] + deltas[1] + 2 * deltas[2]) / 4
    assert float((mean - soup).norm() / soup.norm()) < 0.1  # one merge alone: about 1


def test_density_one_drops_nothing() -> None:
    deltas = torch.randn(2, 4, 5)
    merged = block.merge(_how(1.0, 3.0, density=1.0, epsilon=0.0, combine=Combine.linear), deltas)
    torch.testing.assert_close(merged, (deltas[0] + 3 * deltas[1]) / 4)


def test_of_equal_magnitudes_the_later_is_the_larger() -> None:
    how = _how(density=0.5, epsilon=0.49)
    kept = torch.stack([block.merge(how, torch.ones(1, 1, 3), seed) for seed in range(SEEDS)]) != 0
    assert kept.double().mean((0, 1)).tolist() == pytest.approx([0.01, 0.5, 0.99], abs=0.1)


def test_zeros_stay_zero() -> None:
    deltas = torch.zeros(2, 3, 4)
    deltas[0, 1] = 1
    merged = block.merge(_how(density=0.9, epsilon=0.1), deltas)
    assert merged[0].tolist() == merged[2].tolist() == [0] * 4
    assert merged[1].min() >= 0


def test_bfloat16_sources(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    stored = [{n: t.bfloat16() if t.is_floating_point() else t for n, t in m.items()} for m in (base, *sources)]
    widened = [{n: t.float() if t.is_floating_point() else t for n, t in m.items()} for m in stored]
    how = _how()
    merged = toy.merge(tmp_path / "narrow", how, stored[1:], stored[0])
    toy.close(merged, toy.merge(tmp_path / "wide", how, widened[1:], widened[0]), 0)


@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.9, 0.15), (0.1, 0.15), (0.5, -0.1), (1.0, 0.1), (0.3, 0.3), (0.5, float("nan"))]
)
def test_epsilon_beyond_the_chances(density: float, epsilon: float) -> None:
    with pytest.raises(
        ConfigError,
        match=r"merge=della: (probabilities from .* got density=.* and epsilon=.* smaller|epsilon=nan must be a finite)",
    ):
        _how(density=density, epsilon=epsilon)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=della: density=0.0 must be above 0"):
        _how(density=0.0)
    with pytest.raises(ConfigError, match=r"merge=della: .* has no meaning here"):
        _how(2.0, -1.0)
    _how(2.0, -1.0, combine=Combine.linear)
