"""Strategies for linear layers as wholes."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Cut, PerMatrix, without_rounding
from lightning_embed.merge.blocks import stream
from tests.merge import toy


@dataclass(frozen=True)
class Doubled(PerMatrix):
    """Twice the first delta; it notes the shapes that it received."""

    seen: list[tuple[int, ...]] = field(default_factory=list)

    def merged_delta(self, deltas: Float[Tensor, "sources rows columns"]) -> Float[Tensor, "rows columns"]:
        self.seen.append(tuple(deltas.shape))
        return 2 * deltas[0]


@pytest.mark.parametrize(
    ("name", "shape", "linear"),
    [
        ("encoder.layer.0.attention.self.query.weight", (384, 384), True),
        ("layers.3.mlp.down_proj.weight", (1024, 3072), True),
        ("2_Dense.linear.weight", (256, 384), True),
        ("embeddings.word_embeddings.weight", (500, 384), False),
        ("embeddings.position_embeddings.weight", (512, 384), False),
        ("embed_tokens.weight", (100, 384), False),
        ("encoder.rel_embeddings.weight", (512, 768), False),
        ("shared.weight", (32128, 512), False),
        ("lm_head.weight", (8193, 8), False),
        ("lm_head.weight", (8192, 8), True),
        ("encoder.layer.0.norm.weight", (384,), False),
        ("conv.weight", (8, 8, 3), False),
        ("temperature", (), False),
    ],
)
def test_linear_layers(name: str, shape: tuple[int, ...], linear: bool) -> None:
    how = Doubled()
    assert how.is_linear(name, torch.Size(shape)) == linear
    assert how.cut_of(name, torch.Size(shape)) == (Cut.tensor if linear else Cut.element)


def test_linear_layers_are_whole_and_the_rest_is_averaged_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 7)
    base, sources = toy.family(3)
    how = Doubled(scale=0.5)
    merged = toy.merge(tmp_path, how, sources, base)
    matrix = "encoder.layer.0.dense.weight"
    assert how.seen == [(3, *toy.SHAPES[matrix])]
    for name in toy.SHAPES:
        deltas = torch.stack([source[name].double() - base[name].double() for source in sources])
        expected = base[name].double() + 0.5 * (2 * deltas[0] if name == matrix else deltas.mean(0))
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(20, 30, 1), (20, 30, 20), (30, 20, 7), (1, 5, 1), (5, 1, 1)])
def test_without_rounding(rows: int, columns: int, rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    exact = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    rounded = (exact + 1e-8 * torch.randn(rows, columns, generator=generator)).double()
    left, values, right = without_rounding(*torch.linalg.svd(rounded, full_matrices=False))
    assert len(values) == rank
    torch.testing.assert_close((left * values) @ right, exact.double(), rtol=1e-4, atol=1e-5)


def test_without_rounding_of_zero() -> None:
    left, values, right = without_rounding(*torch.linalg.svd(torch.zeros(3, 4), full_matrices=False))
    assert (left.shape, values.shape, right.shape) == ((3, 0), (0,), (0, 4))


@pytest.mark.parametrize("max_rows", [0, -5])
def test_max_rows(max_rows: int) -> None:
    with pytest.raises(ConfigError, match=f"max_rows={max_rows} must be at least 1"):
        Doubled(max_rows=max_rows)
