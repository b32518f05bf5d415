from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import matrices as reference

MATRIX = "encoder.layer.0.dense.weight"


def _deltas(count: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(rows, columns, generator=generator)
    return common + torch.randn(count, rows, columns, generator=generator)


def _merged(deltas: Tensor, **options: float) -> Tensor:
    merged: Tensor = toy.strategy("wudi", **options).merged_delta(deltas.double())
    return merged


@pytest.mark.parametrize("length", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_reference_gradient_descent(length: float, count: int, tmp_path: Path) -> None:
    base, sources = toy.family(count)
    merged = toy.merge(tmp_path, toy.strategy("wudi", time=length, scale=0.7), sources, base)
    for name in toy.SHAPES:
        deltas = torch.stack([source[name].double() - base[name].double() for source in sources])
        expected = reference.wudi(deltas, length) if name == MATRIX else deltas.mean(0)
        torch.testing.assert_close(merged[name].double(), base[name].double() + 0.7 * expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1), (1, 1)])
def test_shapes(shape: tuple[int, int]) -> None:
    deltas = _deltas(3, *shape).double()
    torch.testing.assert_close(_merged(deltas, time=5.0), reference.wudi(deltas, 5.0), rtol=1e-5, atol=1e-6)


def test_a_longer_descent_interferes_less() -> None:
    deltas = _deltas(3, 16, 24).double()
    losses = [float(reference.interference(_merged(deltas, time=t), deltas)) for t in (0.0, 1.0, 10.0, 100.0, 1e4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 * losses[0]


def test_at_last_the_minimum() -> None:
    deltas = _deltas(3, 16, 8).double()
    merged = _merged(deltas, time=1e6).requires_grad_()
    (gradient,) = torch.autograd.grad(reference.interference(merged, deltas), merged)
    assert float(gradient.abs().max()) < 1e-9


def test_deltas_on_inputs_of_their_own_are_added_up() -> None:
    """What one source does to its inputs is nothing to the other."""
    first, second = torch.zeros(2, 4, 6)
    first[:, :3], second[:, 3:] = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for length in (0.0, 10.0, 1e5):
        torch.testing.assert_close(_merged(torch.stack([first, second]), time=length), (first + second).double())


def test_a_source_that_did_not_move_takes_no_part() -> None:
    deltas = _deltas(2, 6, 5)
    with_still = torch.cat([deltas, torch.zeros(1, 6, 5)])
    torch.testing.assert_close(_merged(with_still), _merged(deltas))
    assert not _merged(torch.zeros(2, 6, 5)).any()


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e6])
def test_no_unit(size: float) -> None:
    deltas = _deltas(3, 12, 7).double()
    torch.testing.assert_close(_merged(size * deltas) / size, _merged(deltas))


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_stays_in_its_rows(rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    deltas = torch.randn(2, 16, rank, generator=generator) @ torch.randn(2, rank, 20, generator=generator)
    merged = block.merge(toy.strategy("wudi", time=1e6), deltas)
    rows = torch.linalg.svd(deltas.flatten(0, 1)).Vh[: 2 * rank]
    torch.testing.assert_close(merged @ rows.T @ rows, merged, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("length", [-1.0, -1e-3])
def test_refused_times(length: float) -> None:
    with pytest.raises(ConfigError, match=f"merge=wudi: time={length} must be at least 0"):
        toy.strategy("wudi", time=length)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=wudi: max_rows=0 must be at least 1"):
        toy.strategy("wudi", max_rows=0)
    with pytest.raises(ConfigError, match=r"merge=wudi needs the base"):
        toy.strategy("wudi").validate_inputs([None, None], False, False)
