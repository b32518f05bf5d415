from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import matrices as reference

MATRIX = "encoder.layer.0.dense.weight"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_reference(count: int, scale: float, tmp_path: Path) -> None:
    base, sources = toy.family(count)
    merged = toy.merge(tmp_path, toy.strategy("tsv", scale=scale), sources, base)
    for name in toy.SHAPES:
        deltas = torch.stack([source[name].double() - base[name].double() for source in sources])
        expected = base[name].double() + scale * (reference.tsv(deltas) if name == MATRIX else deltas.mean(0))
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (2, 9)])
@pytest.mark.parametrize("count", [2, 4])
def test_shapes(shape: tuple[int, int], count: int) -> None:
    """Two rows have two directions, and four sources one each: their vectors are dependent."""
    deltas = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        block.merge(toy.strategy("tsv"), deltas).double(), reference.tsv(deltas.double()), rtol=1e-4, atol=1e-4
    )


def test_deltas_in_directions_of_their_own_are_added_up() -> None:
    first, second = torch.zeros(2, 4, 6)
    first[0, 1], first[1, 0], second[2, 3], second[3, 5] = 3.0, 2.0, 4.0, 1.0
    torch.testing.assert_close(block.merge(toy.strategy("tsv"), torch.stack([first, second])), first + second)


def test_only_the_leading_directions_are_kept() -> None:
    first, second = torch.zeros(2, 4, 4)
    for number in range(4):
        first[number, number] = 4.0 - number
    second[3, 3] = 1e-3
    merged = block.merge(toy.strategy("tsv"), torch.stack([first, second]))
    torch.testing.assert_close(merged, torch.diag(torch.tensor([4.0, 3.0, 0.0, 1e-3])))


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_is_not_disturbed_by_arbitrary_vectors(rank: int) -> None:
    """LoRA deltas with orthogonal factors are their sum: no vector of a zero singular value takes part."""
    generator = torch.Generator().manual_seed(rank)
    left = torch.linalg.qr(torch.randn(24, 2 * rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(32, 2 * rank, generator=generator)).Q
    deltas = torch.stack([left[:, :rank] @ right[:, :rank].T, left[:, rank:] @ right[:, rank:].T])
    torch.testing.assert_close(block.merge(toy.strategy("tsv"), deltas), deltas.sum(0), rtol=1e-4, atol=1e-5)


def test_copies_do_not_depend_on_the_basis_of_a_null_space() -> None:
    delta = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    turned = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    plain = block.merge(toy.strategy("tsv"), torch.stack([delta, delta]))
    rotated = block.merge(toy.strategy("tsv"), torch.stack([delta @ turned, delta @ turned]))
    torch.testing.assert_close(rotated, plain @ turned, rtol=1e-4, atol=1e-4)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=tsv: max_rows=-1 must be at least 1"):
        toy.strategy("tsv", max_rows=-1)
    with pytest.raises(ConfigError, match=r"merge=tsv needs the base"):
        toy.strategy("tsv").validate_inputs([None, None], False, False)
