from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import ALL, Model, Source, combined, inner_products
from lightning_embed.merge.blocks import stream
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from tests.merge import toy

WORD = "embeddings.word.weight"
COEFFICIENTS = {ALL: [0.25, 0.5, -1.0], WORD: [1.0, 2.0, 3.0]}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """Three sources and their base, read in small blocks."""
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 13)
    base, sources = toy.family(3)
    return [
        ModelDirectory.open(Source(toy.write(tmp_path / f"{number}", tensors), f"{number}"))
        for number, tensors in enumerate([*sources, base])
    ]


@pytest.mark.parametrize("with_base", [True, False])
def test_combined_equals_the_sum(models: list[Model], with_base: bool) -> None:
    sources, base = models[:3], models[3] if with_base else None
    found = combined(sources, base, COEFFICIENTS)
    for name in models[0].parameters:
        origin = base.tensor(name).double() if base else 0
        shares = COEFFICIENTS[name if name == WORD else ALL]
        expected = origin + sum(c * (s.tensor(name).double() - origin) for c, s in zip(shares, sources, strict=True))
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-6, atol=1e-6)
    again = combined(sources, base, {ALL: [0.0, 0.0, 1.0]}, into=found)
    assert all(again[name] is found[name] for name in found)
    torch.testing.assert_close(again[WORD], sources[2].tensor(WORD))


def test_half_precision_and_nan() -> None:
    base, sources = toy.family(2)
    stored = [
        toy.InMemory({name: t.bfloat16() for name, t in s.items()}, "abc"[n]) for n, s in enumerate([*sources, base])
    ]
    found = combined(stored[:2], stored[2], {ALL: [0.3, 0.4]})[WORD]
    one, two, origin = (model.tensor(WORD).float() for model in stored)
    torch.testing.assert_close(found, 0.3 * one + 0.4 * two + 0.3 * origin)
    products = inner_products({WORD: found}, stored[:2], stored[2])[WORD]
    expected = torch.stack([(found.double() * (source - origin)).sum() for source in (one, two)])
    torch.testing.assert_close(products, expected, rtol=1e-5, atol=1e-5)
    stored[1].tensor(WORD)[3] = torch.nan
    with pytest.raises(CheckpointError, match=r"'b' has NaN or infinity in embeddings.word.weight"):
        combined(stored[:2], stored[2], {ALL: [0.3, 0.0]})


def test_inner_products_equal_autograd(models: list[Model]) -> None:
    sources, base = models[:3], models[3]
    target = {name: torch.randn(shape, dtype=torch.float64) for name, shape in base.parameters.items()}

    def loss(coefficients: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for row, name in zip(coefficients, target, strict=True):
            origin = base.tensor(name).double()
            merged = origin + sum(c * (s.tensor(name).double() - origin) for c, s in zip(row, sources, strict=True))
            total = total + ((merged - target[name]) ** 2).sum()
        return total

    coefficients = torch.full((len(target), 3), 0.3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(coefficients), coefficients)
    merged = combined(sources, base, {ALL: [0.3] * 3})
    gradient = {name: 2 * (merged[name] - target[name].float()) for name in target}
    found = inner_products(gradient, sources, base)
    torch.testing.assert_close(torch.stack([found[name] for name in target]), expected, rtol=1e-4, atol=1e-4)


def test_no_gradient_is_zero(models: list[Model]) -> None:
    assert inner_products({}, models[:3], models[3])[WORD].tolist() == [0, 0, 0]
