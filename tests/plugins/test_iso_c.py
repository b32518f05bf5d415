from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import matrices as reference

MATRIX = "encoder.layer.0.dense.weight"


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_reference(count: int, scale: float, tmp_path: Path) -> None:
    base, sources = toy.family(count)
    merged = toy.merge(tmp_path, toy.strategy("iso_c", scale=scale), sources, base)
    for name in toy.SHAPES:
        deltas = torch.stack([source[name].double() - base[name].double() for source in sources])
        expected = base[name].double() + scale * (reference.iso_c(deltas) if name == MATRIX else deltas.mean(0))
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1), (1, 1)])
def test_shapes(shape: tuple[int, int]) -> None:
    deltas = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        block.merge(toy.strategy("iso_c"), deltas).double(), reference.iso_c(deltas.double()), rtol=1e-5, atol=1e-5
    )


def test_a_flat_spectrum_of_the_same_mean() -> None:
    deltas = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(block.merge(toy.strategy("iso_c"), deltas))
    torch.testing.assert_close(values, torch.linalg.svdvals(deltas.sum(0)).mean().expand(5))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_directions_that_nobody_changed_stay_zero(rank: int) -> None:
    """Folded LoRA adapters: the delta's other singular values are the rounding of the weights."""
    generator = torch.Generator().manual_seed(rank)
    base = torch.randn(24, 32, generator=generator)
    factors = [torch.randn(24, rank, generator=generator), torch.randn(rank, 32, generator=generator)]
    source = base + 0.1 * factors[0] @ factors[1]
    delta = block_delta(base, source)
    values = torch.linalg.svdvals(delta)
    torch.testing.assert_close(
        values[:rank], torch.linalg.svdvals(source - base)[:rank].mean().expand(rank), rtol=1e-4, atol=0
    )
    assert float(values[rank:].max()) < 1e-4 * float(values[0])


def block_delta(base: Tensor, source: Tensor) -> Tensor:
    """What one source and its base become, minus the base."""
    merged: Tensor = toy.strategy("iso_c").merge(MATRIX, source[None], base, {}, torch.Generator())
    return merged - base


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=iso_c: max_rows=0 must be at least 1"):
        toy.strategy("iso_c", max_rows=0)
    with pytest.raises(ConfigError, match=r"merge=iso_c needs the base"):
        toy.strategy("iso_c").validate_inputs([None, None], False, False)
