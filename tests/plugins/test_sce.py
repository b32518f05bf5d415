from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_reference(density: float, count: int, tmp_path: Path) -> None:
    base, sources = toy.family(count)
    merged = toy.merge(tmp_path, toy.strategy("sce", density=density), sources, base)
    for name in toy.SHAPES:
        deltas = [(source[name].double() - base[name].double()).flatten() for source in sources]
        expected = base[name].double().flatten() + reference.sce(deltas, density)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def test_values_a_human_can_check() -> None:
    deltas = [[3.0, 1.0, 0.5, -1.0], [-1.0, 1.0, 0.5, 3.0]]
    # selected: the first and the last; both sources have the square 10
    assert _merge(deltas, 0.5).tolist() == [3, 0, 0, 3]
    # the first alone: q = 4/5, 1/5; both agree
    torch.testing.assert_close(_merge([[4.0, 1.0], [2.0, 1.0]], 0.5), torch.tensor([18 / 5, 0]))


def _merge(deltas: list[list[float]], density: float) -> Tensor:
    return block.merge(toy.strategy("sce", density=density), deltas)


@pytest.mark.parametrize("density", [0.01, 0.5])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_small_parameters_select_something(size: int, density: float) -> None:
    torch.manual_seed(0)
    merged = block.merge(toy.strategy("sce", density=density), torch.randn(3, size))
    assert int(torch.count_nonzero(merged)) == max(1, round(density * size))


def test_sources_that_agree_lose_nothing() -> None:
    delta = [0.1, -0.7, 0.3]  # whose mean over three is not exactly itself
    torch.testing.assert_close(_merge([delta] * 3, 0.34), torch.tensor(delta))
    torch.testing.assert_close(_merge([delta], 0.34), torch.tensor(delta))


@pytest.mark.parametrize("length", [1.0, 1e-5, 1e-9])
def test_length_does_not_matter(length: float) -> None:
    deltas = [[length * 4, length], [length * 2, length]]
    torch.testing.assert_close(_merge(deltas, 0.5) / length, torch.tensor([18 / 5, 0]))


def test_zeros_never_vote_and_a_balanced_vote_keeps_the_base() -> None:
    assert _merge([[0.0, 2.0, 1.0], [5.0, -2.0, 0.0], [0.0, 0.0, 1.0]], 1.0).tolist() == [5, 0, 1]


@pytest.mark.parametrize("density", [0.0, 1.5])
def test_density_that_is_no_share(density: float) -> None:
    with pytest.raises(ConfigError, match=r"merge=sce: density=.* must be above 0 and at most 1"):
        toy.strategy("sce", density=density)


def test_bfloat16_sources(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    stored = [{n: t.bfloat16() if t.is_floating_point() else t for n, t in m.items()} for m in (base, *sources)]
    widened = [{n: t.float() if t.is_floating_point() else t for n, t in m.items()} for m in stored]
    how = toy.strategy("sce", density=0.5)
    merged = toy.merge(tmp_path / "narrow", how, stored[1:], stored[0])
    toy.close(merged, toy.merge(tmp_path / "wide", how, widened[1:], widened[0]), 0)
