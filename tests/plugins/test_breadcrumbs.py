import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Combine, Weighting
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference


def _how(*weights: float, **options: object) -> Any:
    given = {"weighting": Weighting.given, "weights": list(weights)} if weights else {}
    return toy.strategy("breadcrumbs", **given, **options)


@pytest.mark.parametrize(("density", "gamma"), [(0.9, 0.01), (0.2, 0.05), (0.5, 0.5), (1.0, 0.0), (0.01, 0.99)])
@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 3.0, 0.0]])
def test_reference(density: float, gamma: float, combine: Combine, weights: list[float], tmp_path: Path) -> None:
    base, sources = toy.family(3)
    how = _how(*weights, density=density, gamma=gamma, combine=combine, scale=0.8)
    merged = toy.merge(tmp_path, how, sources, base)
    for name in toy.SHAPES:
        deltas = [(source[name].double() - base[name].double()).flatten() for source in sources]
        expected = base[name].double().flatten() + 0.8 * reference.breadcrumbs(deltas, weights, density, gamma, combine)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def test_values_a_human_can_check() -> None:
    deltas = [[9.0, -4.0, 3.0, 0.1], [2.0, 6.0, -0.2, 8.0]]
    # kept: . -4 3 . | 2 6 . .
    half: dict[str, Any] = {"density": 0.5, "gamma": 0.25}
    assert block.merge(_how(**half), deltas).tolist() == [1, 1, 1.5, 0]
    assert block.merge(_how(**half, combine=Combine.ties), deltas).tolist() == [2, 6, 3, 0]


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (3, 3), (64, 58), (200, 180)])
def test_small_parameters_keep_something(size: int, kept: int) -> None:
    torch.manual_seed(0)
    delta = torch.randn(1, size)
    merged = block.merge(_how(), delta)
    assert int(torch.count_nonzero(merged)) == kept
    assert (merged[delta[0].abs().argmax()] == 0) == (size >= 100)


def test_equal_magnitudes_are_kept_together() -> None:
    assert block.merge(_how(density=0.25, gamma=0.5), [[1.0, -1.0, 1.0, 1.0]]).tolist() == [1, -1, 1, 1]
    assert block.merge(_how(density=0.25, gamma=0.25), [[5.0, -1.0, 1.0, 0.5]]).tolist() == [0, -1, 1, 0]


def test_zero_deltas_give_the_base() -> None:
    assert block.merge(_how(combine=Combine.ties), torch.zeros(2, 5)).tolist() == [0] * 5


def test_plan_has_the_largest_and_the_smallest(tmp_path: Path) -> None:
    source = {"w": torch.tensor([9.0, -4.0, 3.0, 0.1])}
    toy.merge(tmp_path, _how(density=0.5, gamma=0.25), [source], {"w": torch.zeros(4)})
    plan = json.loads((tmp_path / "merged/merge.json").read_text())["plan"]
    assert plan == {"weights": [1.0], "thresholds": {"w": [[4.0, 3.0]]}}


def test_bfloat16_sources(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    stored = [{n: t.bfloat16() if t.is_floating_point() else t for n, t in m.items()} for m in (base, *sources)]
    widened = [{n: t.float() if t.is_floating_point() else t for n, t in m.items()} for m in stored]
    merged = toy.merge(tmp_path / "narrow", _how(), stored[1:], stored[0])
    toy.close(merged, toy.merge(tmp_path / "wide", _how(), widened[1:], widened[0]), 0)


@pytest.mark.parametrize(("density", "gamma"), [(0.9, 0.2), (0.5, -0.1), (1.0, 0.01), (0.5, float("nan"))])
def test_gamma_that_does_not_fit(density: float, gamma: float) -> None:
    with pytest.raises(
        ConfigError,
        match=r"merge=breadcrumbs: gamma(=nan must be a finite| must be .* got density=.* and gamma=.* smaller)",
    ):
        _how(density=density, gamma=gamma)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=breadcrumbs: density=0.0 must be above 0"):
        _how(density=0.0)
    with pytest.raises(ConfigError, match=r"merge=breadcrumbs: .* has no meaning here"):
        _how(2.0, -1.0, combine=Combine.ties)
    _how(2.0, -1.0)
